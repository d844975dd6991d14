"""The screen of registrations: choose the vendor, paste the key or edit the allowlist, copy the URL."""

import json
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from django.contrib import admin, messages
from django.contrib.admin.models import LogEntry
from django.contrib.admin.utils import unquote
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.db.models import Sum
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.loader import render_to_string
from django.template.response import TemplateResponse
from django.urls import NoReverseMatch, path, reverse
from django.utils import timezone
from django.utils.decorators import method_decorator
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString, mark_safe
from django.utils.timesince import timesince
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from django.views.decorators.http import require_POST

from django_bi_integration import vendors
from django_bi_integration.admin.base import KeyAdmin
from django_bi_integration.admin.registration_form import KEY_COLUMNS, RegistrationForm
from django_bi_integration.admin.values import exact_time
from django_bi_integration.models import ReceivedEvent, Rejection, WebhookRegistration

if TYPE_CHECKING:
    from django_stubs_ext import StrOrPromise

ACTIVITY = ["activity", "latest_rejections"]
#: How many rejections a registration shows.
NEWEST = 5


@admin.register(WebhookRegistration)
class WebhookRegistrationAdmin(KeyAdmin):
    form = RegistrationForm
    list_display = ["name", "vendor", "credentials", "is_active"]
    list_filter = ["vendor", "is_active"]
    search_fields = ["name"]
    hidden = ("key_digest", "previous_key_digest")
    # Opening the webhook's URL in a browser shows an error and counts as a rejection.
    view_on_site = False
    delete_confirmation_template = "django_bi_integration/admin/delete_registration.html"
    change_form_template = "django_bi_integration/admin/registration_form.html"

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
            "title": gettext("Which vendor will send the webhooks?"),
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
                "Paste the verification key that Big Interview shows when you create the webhook there: your name, then"
                " “API Settings”. Only a digest of it is stored, and it is never shown again."
            ),
        }

    def get_readonly_fields(self, request: HttpRequest, obj: WebhookRegistration | None = None) -> list[str]:
        # The vendor decides how the stored events are parsed, so it cannot be changed.
        return ["url", *ACTIVITY, "key_state", *(["vendor"] if obj else [])]

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> Any:
        registration = super().get_object(request, object_id, from_field)
        if registration is not None:
            registration.public_url = _public_url(request, registration)
            may_see_rejections = request.user.has_perm("django_bi_integration.view_rejection")
            registration.rejections_url = self._rejections_url(registration) if may_see_rejections else ""
            may_end_key = registration.has_previous_key and self.has_change_permission(request, registration)
            registration.end_key_url = self._url("end_previous_key", registration) if may_end_key else ""
        return registration

    def get_urls(self) -> list[Any]:
        end = self.admin_site.admin_view(self.end_previous_key)
        name = "django_bi_integration_webhookregistration_end_previous_key"
        return [path("<path:object_id>/end-previous-key/", end, name=name), *super().get_urls()]

    @method_decorator(require_POST)
    def end_previous_key(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Stop accepting the previous key now, by the button beside the current key."""
        registration = self.get_object(request, unquote(object_id))
        if registration is None:
            raise Http404
        if not self.has_change_permission(request, registration):
            raise PermissionDenied
        with transaction.atomic():
            # Somebody may be replacing the key at this moment.
            registration = WebhookRegistration.objects.select_for_update().get(pk=registration.pk)
            if ended := registration.end_previous_key():
                registration.save(update_fields=KEY_COLUMNS)
                self.log_change(request, registration, gettext("Ended the previous key."))
        if ended:
            self.message_user(request, gettext("The previous key is no longer accepted."), messages.SUCCESS)
        else:
            self.message_user(request, gettext("No previous key was accepted."), messages.WARNING)
        return HttpResponseRedirect(self._url("change", registration))

    def construct_change_message(self, request: HttpRequest, form: Any, formsets: Any, add: bool = False) -> Any:
        message = super().construct_change_message(request, form, formsets, add)
        if add or not form.key_change:
            return message
        fields = LogEntry(change_message=json.dumps(message)).get_change_message() if message else ""
        return f"{fields} {form.key_change}".strip()

    def _url(self, page: str, registration: WebhookRegistration) -> str:
        name = f"admin:django_bi_integration_webhookregistration_{page}"
        return reverse(name, args=[registration.pk], current_app=self.admin_site.name)

    def save_model(self, request: HttpRequest, obj: WebhookRegistration, form: Any, change: bool) -> None:
        key = form.cleaned_data.get("key")
        if change:
            # Save only what was changed: somebody may have ended the previous key since the page was loaded.
            obj.save(update_fields=[*form.changed_data, *(KEY_COLUMNS if key else ())])
        else:
            super().save_model(request, obj, form, change)
        if key and (advice := WebhookRegistration.key_advice(key)):
            self.message_user(request, advice, messages.WARNING)
        if key and not form.key_change:
            text = gettext("This is already the current key, so neither it nor the previous key was changed.")
            self.message_user(request, text, messages.WARNING)
        if not obj.has_credentials:
            warning = (
                gettext("“%s” rejects everything until it has a key or an allowlist.")
                if vendors.VENDORS[obj.vendor].sends_key
                else gettext("“%s” rejects everything until it has an allowlist.")
            )
            self.message_user(request, warning % obj.name, messages.WARNING)
        if not change and (public_url := _public_url(request, obj)):
            text = gettext("Give this URL to {vendor}: {url}")
            url = format_html("<code>{}</code>", public_url)
            self.message_user(request, format_html(text, vendor=obj.get_vendor_display(), url=url))
        elif not change:
            self.message_user(request, _no_url_here(obj), messages.WARNING)

    def _rejections_url(self, registration: WebhookRegistration) -> str:
        """Return the URL of its rejections in the same admin site; "" if that site does not show them."""
        try:
            url = reverse("admin:django_bi_integration_rejection_changelist", current_app=self.admin_site.name)
        except NoReverseMatch:
            return ""
        return f"{url}?{urlencode({'registration__id__exact': str(registration.pk)})}"

    @admin.display(description=_("credentials"))
    def credentials(self, registration: WebhookRegistration) -> str:
        possible = [(registration.has_key, gettext("key")), (registration.allowed_networks, gettext("allowlist"))]
        required = [name for is_set, name in possible if is_set]
        return " + ".join(required) or gettext("none, so it rejects everything")

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
    def key_state(self, registration: Any) -> SafeString | str:
        if not registration.has_previous_key:
            return gettext("set")
        text = gettext("set; the previous key is accepted until %s") % exact_time(registration.previous_key_until)
        if not registration.end_key_url:
            return text
        button = '<span class="bi-url">{}<button type="submit" form="bi-end-previous-key">{}</button></span>'
        return format_html(button, text, gettext("End the previous key now"))

    @admin.display(description=_("activity"))
    def activity(self, registration: WebhookRegistration) -> SafeString | str:
        """Say whether deliveries arrive, and whether and why they are rejected."""
        latest = registration.events.order_by("-pk").first()
        day = timezone.now() - timedelta(days=1)
        rejected = registration.rejections.filter(last_at__gte=day).values("reason").annotate(requests=Sum("count"))
        lines = [
            _latest_event(latest),
            *(
                gettext("Rejected in the last 24 hours: %(count)d (%(reason)s).")
                % {"count": row["requests"], "reason": Rejection.Reason(row["reason"]).label}
                for row in rejected.order_by("reason")
            ),
        ]
        return format_html(
            '<ul class="bi-activity">{}</ul>', format_html_join("", "<li>{}</li>", ((line,) for line in lines))
        )

    @admin.display(description=_("latest rejections"))
    def latest_rejections(self, registration: Any) -> SafeString:
        newest = registration.rejections.order_by("-last_at")[:NEWEST]
        context = {
            "rejections": [(rejection, exact_time(rejection.last_at)) for rejection in newest],
            "all_url": registration.rejections_url,
        }
        return render_to_string("django_bi_integration/admin/latest_rejections.html", context)


def _public_url(request: HttpRequest, registration: WebhookRegistration) -> str:
    """Return the URL for the vendor; "" if the URLconf that serves this page does not include the webhooks."""
    try:
        return request.build_absolute_uri(registration.get_absolute_url())
    except NoReverseMatch:
        return ""


def _no_url_here(registration: WebhookRegistration) -> SafeString:
    text = gettext(
        "This site does not serve the webhooks. If another host or URLconf of the project does, the URL for the vendor"
        " consists of that host, the prefix there, and {path}. If none does, add {include} to the URLconf."
    )
    path = format_html("<code>webhooks/{}/</code>", registration.pk)
    include = mark_safe('<code>path("bi/", include("django_bi_integration.urls"))</code>')
    return format_html(text, path=path, include=include)


def _latest_event(event: ReceivedEvent | None) -> str:
    if event is None:
        return gettext("No event has arrived yet.")
    if timezone.now() - event.received_at < timedelta(minutes=1):
        return gettext("The latest new event arrived just now.")
    return gettext("The latest new event arrived %s ago.") % timesince(event.received_at)
