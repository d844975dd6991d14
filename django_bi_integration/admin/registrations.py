"""Registrations: choose the vendor, paste the key or edit the allowlist, copy the URL."""

from datetime import timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from django import forms
from django.contrib import admin, messages
from django.db.models import Sum
from django.http import HttpRequest, HttpResponse
from django.template.loader import render_to_string
from django.template.response import TemplateResponse
from django.urls import NoReverseMatch, reverse
from django.utils import timezone
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString, mark_safe
from django.utils.timesince import timesince
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from django_bi_integration import vendors
from django_bi_integration.admin.base import KeyAdmin, KeyField
from django_bi_integration.admin.values import exact_time
from django_bi_integration.models import ReceivedEvent, Refusal, WebhookRegistration
from django_bi_integration.models.registration import validate_networks

if TYPE_CHECKING:
    from django_stubs_ext import StrOrPromise

ACTIVITY = ["activity", "latest_refusals"]
#: How many refusals a registration shows.
NEWEST = 5
OVERLAPS = {"0": timedelta(0), "1": timedelta(days=1), "7": timedelta(days=7)}


class NetworksField(forms.CharField):
    """A list of networks, edited as text with one entry a line; what follows a ``#`` is a note and is dropped."""

    widget = forms.Textarea(attrs={"rows": 6, "cols": 40, "spellcheck": "false"})

    def prepare_value(self, value: Any) -> Any:
        return "\n".join(value) if isinstance(value, list) else value

    def to_python(self, value: Any) -> Any:
        text = super().to_python(value) or ""
        lines = (line.split("#")[0].strip() for line in text.replace(",", "\n").splitlines())
        return [line for line in lines if line]

    def validate(self, value: Any) -> None:
        super().validate(value)
        validate_networks(value)


class RegistrationForm(forms.ModelForm):  # type: ignore[type-arg]  # takes an argument in the stubs only
    """The key goes in and never comes out again."""

    vendor = forms.ChoiceField(choices=vendors.CHOICES, widget=forms.HiddenInput)
    key = KeyField(label=_("Key"))
    overlap = forms.ChoiceField(
        label=_("The former key"),
        required=False,
        choices=[("0", _("stops at once")), ("1", _("works for one more day")), ("7", _("works for seven more days"))],
        help_text=_("Where a new key is set. Leave time to change it on the vendor's side."),
    )
    allowed_networks = NetworksField(
        label=_("Allowed networks"),
        required=False,
        help_text=_("IP addresses or CIDR networks, one a line. Deliveries from elsewhere are refused."),
    )

    class Meta:
        model = WebhookRegistration
        fields = ["name", "vendor", "allowed_networks", "is_active"]

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        if self.instance.has_key:
            self.fields["key"].label = _("New key")

    def save(self, commit: bool = True) -> Any:
        if key := self.cleaned_data.get("key"):
            self.instance.set_key(key, overlap=OVERLAPS[self.cleaned_data.get("overlap") or "0"])
        return super().save(commit)


@admin.register(WebhookRegistration)
class WebhookRegistrationAdmin(KeyAdmin):
    form = RegistrationForm
    list_display = ["name", "vendor", "proof", "is_active"]
    list_filter = ["vendor", "is_active"]
    search_fields = ["name"]
    hidden = ("key_digest", "previous_key_digest")
    # A look at the webhook's URL in a browser shows an error and counts as a refusal.
    view_on_site = False
    delete_confirmation_template = "django_bi_integration/admin/delete_registration.html"

    class Media:
        js = ["django_bi_integration/admin.js"]

    def add_view(self, request: HttpRequest, form_url: str = "", extra_context: Any = None) -> HttpResponse:
        if request.method != "POST" and request.GET.get("vendor") not in vendors.VENDORS:
            return self._choose_vendor(request)
        return super().add_view(request, form_url, extra_context)

    def _choose_vendor(self, request: HttpRequest) -> HttpResponse:
        if not self.has_add_permission(request):
            return super().add_view(request)
        context = {
            **self.admin_site.each_context(request),
            "title": gettext("Who will send the webhooks?"),
            "opts": self.opts,
            "media": self.media,
            "vendors": vendors.VENDORS.values(),
        }
        return TemplateResponse(request, "django_bi_integration/admin/choose_vendor.html", context)

    def get_changeform_initial_data(self, request: HttpRequest) -> dict[str, Any]:
        vendor = vendors.VENDORS[request.GET["vendor"]]
        return {"vendor": vendor.slug, "name": vendor.label, "allowed_networks": list(vendor.default_networks)}

    def get_fieldsets(self, request: HttpRequest, obj: WebhookRegistration | None = None) -> Any:
        slug = obj.vendor if obj else request.GET.get("vendor", "")
        sends_key = slug in vendors.VENDORS and vendors.VENDORS[slug].sends_key
        found: list[tuple[StrOrPromise | None, dict[str, Any]]] = [
            (None, {"fields": ["name", "vendor", "is_active", *(["url", *ACTIVITY] if obj else [])]})
        ]
        if sends_key:
            found.append((_("Key"), self._key_fieldset(obj)))
        found.append((_("Allowlist"), {"fields": ["allowed_networks"], "classes": ["collapse"] * sends_key}))
        return found

    def _key_fieldset(self, registration: WebhookRegistration | None) -> dict[str, Any]:
        rotating = registration is not None and registration.has_key
        return {
            "fields": ["key_state", "key", "overlap"] if rotating else ["key"],
            "description": _(
                "Paste the verification key that Big Interview shows when the webhook is made there: your name, then"
                " “API Settings”. It is kept as a digest and never shown again."
            ),
        }

    def get_readonly_fields(self, request: HttpRequest, obj: WebhookRegistration | None = None) -> list[str]:
        # The vendor decides how the stored events are read: once chosen, it stays.
        return ["url", *ACTIVITY, "key_state", *(["vendor"] if obj else [])]

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> Any:
        registration = super().get_object(request, object_id, from_field)
        if registration is not None:
            registration.public_url = _public_url(request, registration)
            may_see_refusals = request.user.has_perm("django_bi_integration.view_refusal")
            registration.refusals_url = self._refusals_url(registration) if may_see_refusals else ""
        return registration

    def save_model(self, request: HttpRequest, obj: WebhookRegistration, form: Any, change: bool) -> None:
        super().save_model(request, obj, form, change)
        if (key := form.cleaned_data.get("key")) and (advice := WebhookRegistration.key_advice(key)):
            self.message_user(request, advice, messages.WARNING)
        if not obj.has_proof:
            warning = (
                gettext("“%s” refuses everything until it has a key or an allowlist.")
                if vendors.VENDORS[obj.vendor].sends_key
                else gettext("“%s” refuses everything until it has an allowlist.")
            )
            self.message_user(request, warning % obj.name, messages.WARNING)
        if not change and (public_url := _public_url(request, obj)):
            text = gettext("Give this URL to {vendor}: {url}")
            url = format_html("<code>{}</code>", public_url)
            self.message_user(request, format_html(text, vendor=obj.get_vendor_display(), url=url))
        elif not change:
            self.message_user(request, _no_url_here(obj), messages.WARNING)

    def _refusals_url(self, registration: WebhookRegistration) -> str:
        """Return the list of its refusals in the same admin site, or nothing if that does not show them."""
        try:
            url = reverse("admin:django_bi_integration_refusal_changelist", current_app=self.admin_site.name)
        except NoReverseMatch:
            return ""
        return f"{url}?{urlencode({'registration__id__exact': str(registration.pk)})}"

    @admin.display(description=_("proof"))
    def proof(self, registration: WebhookRegistration) -> str:
        proofs = [(registration.has_key, gettext("key")), (registration.allowed_networks, gettext("allowlist"))]
        asked = [name for is_set, name in proofs if is_set]
        return " + ".join(asked) or gettext("none: refuses everything")

    @admin.display(description=_("URL for the vendor"))
    def url(self, registration: Any) -> SafeString:
        if not registration.public_url:
            return _no_url_here(registration)
        return format_html(
            '<span class="bi-url"><code>{url}</code>'
            '<button type="button" hidden data-bi-copy="{url}" data-bi-copied="{copied}">{copy}</button></span>',
            url=registration.public_url,
            copy=_("Copy"),
            copied=_("Copied"),
        )

    @admin.display(description=_("current key"))
    def key_state(self, registration: WebhookRegistration) -> str:
        until = registration.previous_key_until
        if until is None or until < timezone.now():
            return gettext("set")
        return gettext("set; the former key works until %s") % exact_time(until)

    @admin.display(description=_("activity"))
    def activity(self, registration: WebhookRegistration) -> SafeString | str:
        """Which side to look at when nothing arrives: was it ever called, was it refused, why?"""
        latest = registration.events.order_by("-pk").first()
        day = timezone.now() - timedelta(days=1)
        refused = registration.refusals.filter(last_at__gte=day).values("reason").annotate(requests=Sum("count"))
        lines = [
            _latest_event(latest),
            *(
                gettext("Refused in the last 24 hours: %(count)d (%(reason)s).")
                % {"count": row["requests"], "reason": Refusal.Reason(row["reason"]).label}
                for row in refused.order_by("reason")
            ),
        ]
        return format_html(
            '<ul class="bi-activity">{}</ul>', format_html_join("", "<li>{}</li>", ((line,) for line in lines))
        )

    @admin.display(description=_("latest refusals"))
    def latest_refusals(self, registration: Any) -> SafeString:
        newest = registration.refusals.order_by("-last_at")[:NEWEST]
        context = {
            "refusals": [(refusal, exact_time(refusal.last_at)) for refusal in newest],
            "all_url": registration.refusals_url,
        }
        return render_to_string("django_bi_integration/admin/latest_refusals.html", context)


def _public_url(request: HttpRequest, registration: WebhookRegistration) -> str:
    """Return the URL for the vendor, or nothing if the URLconf that serves this page does not include the webhooks."""
    try:
        return request.build_absolute_uri(registration.get_absolute_url())
    except NoReverseMatch:
        return ""


def _no_url_here(registration: WebhookRegistration) -> SafeString:
    text = gettext(
        "This site does not serve the webhooks. If another host or URLconf of the project does, the URL for the vendor"
        " is that host, the prefix there, and {path}. If none does, add {include} to the URLconf."
    )
    path = format_html("<code>webhooks/{}/</code>", registration.pk)
    include = mark_safe('<code>path("bi/", include("django_bi_integration.urls"))</code>')
    return format_html(text, path=path, include=include)


def _latest_event(event: ReceivedEvent | None) -> str:
    if event is None:
        return gettext("No event has arrived yet.")
    if timezone.now() - event.received_at < timedelta(minutes=1):
        return gettext("Latest new event just now.")
    return gettext("Latest new event %s ago.") % timesince(event.received_at)
