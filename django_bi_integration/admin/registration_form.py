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
#: The columns that a new key changes.
KEY_COLUMNS = ["key_digest", "previous_key_digest", "previous_key_until"]


class NetworksField(forms.CharField):
    """A list of networks, edited as text with one entry on each line; a ``#`` begins a comment, which is not stored."""

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
    """A form with a key that is never shown again."""

    vendor = forms.ChoiceField(choices=vendors.CHOICES, widget=forms.HiddenInput)
    #: A sentence for the history about the key's change; empty without one.
    key_change = ""

    key = KeyField(label=_("Key"), shortest=keys.SHORTEST)
    overlap = forms.ChoiceField(
        label=_("The current key"),
        required=False,
        choices=[
            ("", "---------"),
            ("0", _("is rejected at once")),
            ("1", _("is accepted for one more day")),
            ("7", _("is accepted for seven more days")),
        ],
        help_text=_("Only if you set a new key. Leave time to change it at the vendor, unless it has leaked."),
    )
    allowed_networks = NetworksField(
        label=_("Allowed networks"),
        required=False,
        help_text=_("IP addresses or CIDR networks, one on each line. Deliveries from elsewhere are rejected."),
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
            text = _("This applies only together with a new key. Paste the new key, or leave this choice empty.")
            self.add_error("overlap", text)
        elif key and not overlap and self.instance.has_key:
            self.add_error("overlap", _("Choose how long the current key is accepted."))
        return cleaned

    def save(self, commit: bool = True) -> Any:
        if key := self.cleaned_data.get("key"):
            previous = copy(self.instance)
            self.instance.set_key(key, overlap=OVERLAPS[self.cleaned_data.get("overlap") or "0"])
            self.key_change = _key_change(previous, self.instance)
        return super().save(commit)

    @cached_property
    def changed_data(self) -> list[str]:
        """The changed fields, for the history, without the key, whose change ``key_change`` describes."""
        return [name for name in super().changed_data if name not in ("key", "overlap")]


def _key_change(previous: WebhookRegistration, now: WebhookRegistration) -> str:
    """Return a sentence for the history about the key's change; "" if nothing changed."""
    if now.key_digest == previous.key_digest:
        return gettext("Ended the previous key.") if previous.has_previous_key and not now.has_previous_key else ""
    if not previous.has_key:
        return gettext("Set the key.")
    if not now.has_previous_key:
        return gettext("Replaced the key; the previous one is rejected at once.")
    until = f"{now.previous_key_until:%Y-%m-%d %H:%M} UTC"
    return gettext("Replaced the key; the previous one is accepted until %s.") % until
