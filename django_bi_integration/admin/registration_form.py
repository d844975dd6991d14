"""The form of a registration: its name, its key and its allowlist."""

from copy import copy
from datetime import timedelta
from typing import Any

from django import forms
from django.utils.functional import cached_property
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from django_bi_integration import keys, vendors
from django_bi_integration.admin.base import KeyField
from django_bi_integration.models import WebhookRegistration
from django_bi_integration.models.registration import validate_networks

OVERLAPS = {"0": timedelta(0), "1": timedelta(days=1), "7": timedelta(days=7)}
#: What a new key changes.
KEY_COLUMNS = ["key_digest", "previous_key_digest", "previous_key_until"]


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
    #: What happened to the key, in words.
    key_change = ""

    key = KeyField(label=_("Key"), shortest=keys.SHORTEST)
    overlap = forms.ChoiceField(
        label=_("The key until now"),
        required=False,
        choices=[
            ("", "---------"),
            ("0", _("stops at once")),
            ("1", _("works for one more day")),
            ("7", _("works for seven more days")),
        ],
        help_text=_("Only if you set a new key. Leave time to change it on the vendor's side, unless it has leaked."),
    )
    allowed_networks = NetworksField(
        label=_("Allowed networks"),
        required=False,
        help_text=_("IP addresses or CIDR networks, one a line. Deliveries from elsewhere are rejected."),
    )

    class Meta:
        model = WebhookRegistration
        fields = ["name", "vendor", "allowed_networks", "is_active"]

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        if self.instance.has_key:
            self.fields["key"].label = _("New key")

    def clean(self) -> Any:
        cleaned = super().clean()
        key, overlap = self.cleaned_data.get("key"), self.cleaned_data.get("overlap")
        if overlap and not key and "key" not in self.errors:
            text = _("This applies only together with a new key. Paste the new key, or leave the choice empty.")
            self.add_error("overlap", text)
        elif key and not overlap and self.instance.has_key:
            self.add_error("overlap", _("Choose for how long the key until now works."))
        return cleaned

    def save(self, commit: bool = True) -> Any:
        if key := self.cleaned_data.get("key"):
            former = copy(self.instance)
            self.instance.set_key(key, overlap=OVERLAPS[self.cleaned_data.get("overlap") or "0"])
            self.key_change = _key_change(former, self.instance)
        return super().save(commit)

    @cached_property
    def changed_data(self) -> list[str]:
        """The fields that changed, for the history. What happened to the key takes words: ``key_change``."""
        return [name for name in super().changed_data if name not in ("key", "overlap")]


def _key_change(former: WebhookRegistration, now: WebhookRegistration) -> str:
    """What happened to the key, as a sentence for the history; empty if nothing did."""
    if now.key_digest == former.key_digest:
        return gettext("Ended the previous key.") if former.has_previous_key and not now.has_previous_key else ""
    if not former.has_key:
        return gettext("Set the key.")
    if not now.has_previous_key:
        return gettext("Replaced the key; the previous one stopped at once.")
    until = f"{now.previous_key_until:%Y-%m-%d %H:%M} UTC"
    return gettext("Replaced the key; the previous one works until %s.") % until
