"""WebhookRegistration: one endpoint for one vendor, with its key and its allowlist."""

import hashlib
import hmac
import re
import uuid
from datetime import timedelta
from typing import TYPE_CHECKING

from django.core.exceptions import ValidationError
from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _
from django.views.decorators.debug import sensitive_variables

from django_bi_integration import keys, vendors
from django_bi_integration.conf import settings
from django_bi_integration.models.managers import Manager
from django_bi_integration.networks import Address, is_vast, lies_in, overlap, read_hops, read_network
from django_bi_integration.paths import own_path
from django_bi_integration.text import visible

if TYPE_CHECKING:
    from django_stubs_ext import StrOrPromise


NAMES_A_PROXY = "names_a_proxy"


def validate_networks(value: object) -> None:
    """Raise ValidationError unless ``value`` is a list of IP addresses and CIDR networks that authenticate a sender."""
    if not isinstance(value, list | tuple):
        raise ValidationError(_("Give a list of IP addresses or CIDR networks."))
    for entry in value:
        try:
            network = read_network(entry)
        except ValueError as error:
            raise ValidationError(
                _("“%(entry)s” is neither an IP address nor a CIDR network: %(reason)s"),
                params={"entry": visible(str(entry)), "reason": visible(str(error))},
            ) from error
        if is_vast(network):
            raise ValidationError(
                _(
                    "“%(entry)s” is a large part of the internet, so it authenticates nobody. Name only the sender’s"
                    " networks."
                ),
                params={"entry": entry},
            )
        proxies = (proxy for hop in read_hops(settings.TRUSTED_PROXIES) for proxy in hop)
        if proxy := next((proxy for proxy in proxies if overlap(network, proxy)), None):
            raise ValidationError(
                _(
                    "“%(entry)s” overlaps the trusted proxy “%(proxy)s”, and an address in both could claim any"
                    " address. Name the sender’s networks here, and only your proxies in TRUSTED_PROXIES."
                ),
                code=NAMES_A_PROXY,
                params={"entry": entry, "proxy": proxy},
            )


class WebhookRegistration(models.Model):
    """One endpoint for one vendor.

    A delivery must have every credential that is set: the key, an address on the allowlist, or both. A registration
    with neither rejects everything.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    name = models.CharField(_("name"), max_length=100)
    vendor = models.CharField(_("vendor"), max_length=50, choices=vendors.CHOICES)
    key_digest = models.CharField(max_length=64, blank=True, editable=False)
    previous_key_digest = models.CharField(max_length=64, blank=True, editable=False)
    previous_key_until = models.DateTimeField(_("previous key accepted until"), null=True, blank=True, editable=False)
    allowed_networks = models.JSONField(
        _("allowed networks"),
        default=list,
        blank=True,
        validators=[validate_networks],
        help_text=_("The IP addresses and CIDR networks that deliveries may come from."),
    )
    is_active = models.BooleanField(
        _("active"), default=True, help_text=_("An inactive registration rejects everything.")
    )
    created_at = models.DateTimeField(_("created"), auto_now_add=True)

    objects = Manager()

    class Meta:
        base_manager_name = "objects"
        verbose_name = _("webhook registration")
        verbose_name_plural = _("webhook registrations")
        ordering = ["name"]

    def __str__(self) -> str:
        return f"{visible(self.name)} ({self.get_vendor_display()})"

    def get_absolute_url(self) -> str:
        """Return the path of the URL to give to the vendor, after the site's scheme and host.

        Raise NoReverseMatch if the current URLconf does not include the package's URLs.
        """
        return own_path("webhook", registration_id=self.pk)

    @property
    def has_key(self) -> bool:
        return bool(self.key_digest)

    @property
    def has_credentials(self) -> bool:
        """True if the registration has a key or an allowlist, so that a delivery can authenticate."""
        return self.has_key or bool(self.allowed_networks)

    @property
    def has_previous_key(self) -> bool:
        """True if the key before the current one is still accepted."""
        until = self.previous_key_until
        return bool(self.previous_key_digest) and until is not None and timezone.now() < until

    @sensitive_variables()
    def set_key(self, raw: str, *, overlap: timedelta = timedelta(0)) -> None:
        """Replace the key by ``raw``, of which only a digest is kept. Save afterwards.

        The previous key is accepted for ``overlap``, so that no delivery is lost while the key is changed at the
        vendor. If ``raw`` is the current key, as when a form is sent twice, nothing changes.

        Raise ValueError if ``raw`` is blank, begins with a scheme such as "Bearer", contains white space, cannot be
        sent in a header, or has fewer than 16 characters.
        """
        digest = self._digest(keys.checked_key(raw, shortest=keys.SHORTEST, ascii_only=False).encode())
        overlapping = bool(overlap) and self.has_key
        if overlapping and hmac.compare_digest(digest, self.key_digest):
            return
        self.previous_key_digest = self.key_digest if overlapping else ""
        self.previous_key_until = timezone.now() + overlap if overlapping else None
        self.key_digest = digest

    @staticmethod
    def key_advice(raw: str) -> "StrOrPromise":
        """Return advice for a key that does not look like one of the vendor's; "" if it does."""
        if re.fullmatch(r"[0-9a-f]{32}", raw.strip()):
            return ""
        return _("Big Interview's keys have 32 characters, digits and a to f. Check that you copied the whole key.")

    def clear_key(self) -> None:
        """Remove the key and the previous key. Save afterwards."""
        self.key_digest = ""
        self.end_previous_key()

    def end_previous_key(self) -> bool:
        """Stop accepting the previous key now. Save afterwards. Return False if no previous key was accepted."""
        was_accepted = self.has_previous_key
        self.previous_key_digest, self.previous_key_until = "", None
        return was_accepted

    @sensitive_variables()
    def check_key(self, raw: str | bytes) -> bool:
        """Return True if ``raw`` is the key, or the previous key during its overlap. This takes constant time."""
        key = raw.encode("utf-8", "surrogateescape") if isinstance(raw, str) else raw
        digest = self._digest(key.strip())
        is_current = hmac.compare_digest(digest, self.key_digest)
        is_previous = hmac.compare_digest(digest, self.previous_key_digest)
        return is_current | (is_previous & self.has_previous_key)

    def allows(self, address: Address | None) -> bool:
        """Return True if ``address`` is on the allowlist."""
        return any(lies_in(address, network) for network in self.allowed_networks)

    def _digest(self, key: bytes) -> str:
        # The vendor's keys are random and long, so a fast digest is enough. The registration's id makes the digests of
        # equal keys differ.
        return hashlib.sha256(self.pk.bytes + key).hexdigest()
