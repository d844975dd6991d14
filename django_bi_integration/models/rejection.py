"""Rejection: how often, why and from where deliveries were rejected; only counts, never content."""

from django.db import models
from django.utils.translation import gettext_lazy as _

from django_bi_integration.models.managers import Manager
from django_bi_integration.models.registration import WebhookRegistration

#: How many characters of the hops a list shows.
WIDTH = 60


class Rejection(models.Model):
    """A number of rejected requests with the same registration, reason, address and peer.

    A web process writes them in batches. The number of addresses that it distinguishes is bounded, and so is the number
    of rows for each registration and reason: a flood of rejected requests can neither fill the table nor displace
    rejections of another kind.
    """

    class Reason(models.TextChoices):
        UNKNOWN_URL = "unknown_url", _("no such registration")
        INACTIVE = "inactive", _("registration is inactive")
        NO_CREDENTIALS = "no_credentials", _("registration has neither key nor allowlist")
        KEY_MISSING = "key_missing", _("key is missing")
        KEY_WRONG = "key_wrong", _("key is wrong")
        ADDRESS = "address", _("address is not allowed")
        METHOD = "method", _("not a POST request")
        FORM = "form", _("body is not a JSON object")
        LENGTH = "length", _("length is missing")
        SIZE = "size", _("body is too large")

    registration = models.ForeignKey(
        WebhookRegistration,
        null=True,
        blank=True,
        on_delete=models.CASCADE,
        db_index=False,  # the index below begins with it
        related_name="rejections",
        verbose_name=_("registration"),
    )
    reason = models.CharField(_("reason"), max_length=20, choices=Reason)
    address = models.CharField(
        _("address"), max_length=45, blank=True, help_text=_("Empty if it is unknown or one of many.")
    )
    peer = models.CharField(
        _("connection from"),
        max_length=64,
        blank=True,
        help_text=_("The last hop, which is a proxy if there is one. Empty if it is one of many."),
    )
    forwarded_for = models.CharField(
        "X-Forwarded-For",
        max_length=200,
        blank=True,
        help_text=_(
            "The header of the latest request, only its end if it is long. The client may have written any of it."
        ),
    )
    count = models.PositiveIntegerField(_("requests"))
    first_at = models.DateTimeField(_("first"))
    last_at = models.DateTimeField(_("last"), db_index=True)

    objects = Manager()

    class Meta:
        base_manager_name = "objects"
        verbose_name = _("rejection")
        verbose_name_plural = _("rejections")
        ordering = ["-last_at"]
        # Each batch of rejections queries the oldest rows of its kinds.
        indexes = [models.Index(fields=["registration", "reason", "id"], name="bi_rejection_kind")]

    def __str__(self) -> str:
        return f"{self.get_reason_display()} ×{self.count}"

    @property
    def way(self) -> str:
        """The nearest hops as seen, the connection's peer last: ``54.243.7.71, 192.0.2.10 → 10.0.0.5``."""
        hops = " → ".join(filter(None, [self.forwarded_for, self.peer])) or "–"
        return hops if len(hops) <= WIDTH else f"…{hops[-WIDTH:]}"
