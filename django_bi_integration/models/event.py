"""ReceivedEvent: one row for each event, however often it is delivered; together the rows are the queue."""

import hashlib
from datetime import datetime
from typing import Any
from uuid import UUID

from django.contrib.auth.base_user import AbstractBaseUser
from django.db import models
from django.utils import timezone
from django.utils.functional import cached_property
from django.utils.translation import gettext_lazy as _

from django_bi_integration import users, vendors
from django_bi_integration.events import INTERVIEW_CREATED, INTERVIEW_DELETED, EventData
from django_bi_integration.json_body import plain_object, read_object
from django_bi_integration.models.managers import Manager
from django_bi_integration.models.registration import WebhookRegistration
from django_bi_integration.text import visible


def digest(*parts: str) -> UUID:
    """Return 122 bits of the parts' SHA-256 as a UUID, whose index is several times smaller than that of text."""
    # Their lengths keep the parts apart, whatever they contain, and lone surrogates stay distinct. MariaDB accepts a
    # UUID only with a version: 5 means that it was made from a name.
    text = "".join([f"{len(part)}:{part}" for part in parts])
    return UUID(bytes=hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:16], version=5)


class ReceivedEventQuerySet(models.QuerySet["ReceivedEvent"]):
    def with_vendor_event_id(self, event_id: str) -> "ReceivedEventQuerySet":
        """Return the events with this id, at most one for each registration, through their unique index."""
        return self.filter(event_digest=digest("id", event_id))

    def conflicting(self) -> "ReceivedEventQuerySet":
        """Return the events under whose id another body was delivered."""
        return self.filter(conflicts__gt=0)

    def received_between(self, start: datetime, end: datetime) -> "ReceivedEventQuerySet":
        """Return the events received from ``start`` on and before ``end``, for example while a leaked key worked."""
        return self.filter(received_at__gte=start, received_at__lt=end)

    def due(self, now: datetime) -> "ReceivedEventQuerySet":
        """Return the events that a worker may claim: new ones, those due for a retry, those with an expired lease."""
        return self.filter(status=ReceivedEvent.Status.PENDING, next_attempt_at__lte=now)


class ReceivedEvent(models.Model):
    """An event as a vendor sent it.

    ``body`` holds the bytes exactly as received and is the source of truth. The other columns are parsed from it for
    searching, cut and cleaned so that every database can hold them.

    A row is ``pending`` until every receiver is done (then ``dispatched``) or one has used up its attempts (then
    ``failed``). A worker may claim it from ``next_attempt_at`` on, which is in the future while it waits for a retry or
    while a worker holds a ``claim`` on it, and empty when the event is dispatched or failed.
    """

    class Status(models.TextChoices):
        PENDING = "pending", _("pending")
        DISPATCHED = "dispatched", _("dispatched")
        FAILED = "failed", _("failed")

    class Origin(models.TextChoices):
        WEBHOOK = "webhook", _("webhook")
        REPLAY = "replay", _("replay")
        RECONCILIATION = "reconciliation", _("reconciliation")
        TEST = "test", _("test")

    registration = models.ForeignKey(
        WebhookRegistration,
        on_delete=models.PROTECT,
        related_name="events",
        verbose_name=_("registration"),
        db_index=False,  # an index of ours and the unique key begin with it
    )
    vendor = models.CharField(_("vendor"), max_length=50, choices=vendors.CHOICES)
    vendor_event_id = models.CharField(_("vendor's event id"), max_length=255, blank=True)
    # The digest of the id: only equal ids have equal digests, whatever the other column's collation merges or cuts.
    event_digest = models.UUIDField(editable=False)
    event_type = models.CharField(_("event type"), max_length=100, blank=True)
    subject_id = models.CharField(_("subject"), max_length=255, blank=True)
    object_type = models.CharField(_("object type"), max_length=100, blank=True)
    object_id = models.CharField(_("object id"), max_length=255, blank=True)
    object_key = models.UUIDField(null=True, blank=True, editable=False)
    occurred_at = models.DateTimeField(_("occurred"), null=True, blank=True)
    received_at = models.DateTimeField(_("received"), default=timezone.now)
    origin = models.CharField(_("origin"), max_length=20, choices=Origin, default=Origin.WEBHOOK)

    body = models.BinaryField(_("body"))

    deliveries = models.PositiveIntegerField(_("deliveries"), default=1, db_default=1)
    last_delivery_at = models.DateTimeField(_("last delivery"), default=timezone.now)
    conflicts = models.PositiveIntegerField(
        _("conflicting deliveries"),
        default=0,
        db_default=0,
        help_text=_("Deliveries with the same id and another body."),
    )
    conflicting_body = models.BinaryField(_("latest conflicting body"), null=True, blank=True)

    status = models.CharField(
        _("status"), max_length=20, choices=Status, default=Status.PENDING, db_default=Status.PENDING
    )
    attempts = models.PositiveIntegerField(_("attempts"), default=0, db_default=0)
    next_attempt_at = models.DateTimeField(_("next attempt"), default=timezone.now, null=True, blank=True)
    claim = models.UUIDField(null=True, blank=True, editable=False)
    # How many claims in a row ran out because the worker did not finish the event.
    interruptions = models.PositiveIntegerField(default=0, db_default=0, editable=False)
    dispatched_at = models.DateTimeField(_("dispatched"), null=True, blank=True)
    receiver_results = models.JSONField(
        _("receiver results"), default=dict, db_default=models.Value({}, models.JSONField()), blank=True
    )
    last_error = models.TextField(_("last error"), default="", db_default="", blank=True)
    is_stale = models.BooleanField(
        _("stale"),
        default=False,
        db_default=False,
        help_text=_("True if a newer event of the same object was dispatched before."),
    )

    objects = Manager.from_queryset(ReceivedEventQuerySet)()

    #: Set by a claim: True if the last worker did not finish the event, or one of its receivers.
    was_unfinished = False
    #: Set by a claim: the columns that it changed, as they were before.
    before_claim: dict[str, Any]

    class Meta:
        base_manager_name = "objects"
        verbose_name = _("received event")
        verbose_name_plural = _("received events")
        permissions = [("view_payload", _("Can see the content of received events"))]
        # db_index would give each text column a second index on PostgreSQL, for LIKE, which no query uses.
        indexes = [
            models.Index(fields=["status", "next_attempt_at"], name="bi_event_due"),
            models.Index(fields=["registration", "id"], name="bi_event_registration"),
            models.Index(fields=["received_at"], name="bi_event_received"),
            models.Index(fields=["subject_id"], name="bi_event_subject"),
            models.Index(fields=["object_id"], name="bi_event_object"),
            models.Index(fields=["object_key"], name="bi_event_object_key"),
        ]
        constraints = [
            models.UniqueConstraint(fields=["event_digest", "registration"], name="bi_one_row_per_vendor_event")
        ]

    def __str__(self) -> str:
        return visible(f"{self.event_type or '?'} {self.vendor_event_id}".rstrip())

    @cached_property
    def payload(self) -> dict[str, Any] | None:
        """The parsed body; None if not every database could hold it as JSON.

        These are bodies with a NUL character, a lone surrogate or ``1e400``, and those nested deeper than 30 levels.
        """
        return plain_object(bytes(self.body))

    @cached_property
    def data(self) -> EventData | None:
        """The typed data that receivers get; None if the event type is unknown, or the body cannot be parsed.

        Interpreters differ in how deeply nested a body they can parse, so one may not read what another one stored.
        """
        try:
            document = read_object(bytes(self.body))
        except ValueError:
            return None
        return vendors.VENDORS[self.vendor].read_data(document)

    @cached_property
    def user(self) -> AbstractBaseUser | None:
        """The host project's user that the event is about; None if there is no such user, or it is unknown.

        The setting ``PARTNER_USER`` finds the user by Big Interview's ``partner_id``. Innovative Educators identifies
        people by an id from its separate single sign-on, so its events have no user.
        """
        if self.vendor != vendors.BIG_INTERVIEW.slug or not self.subject_id:
            return None
        return users.user_of(self.subject_id)

    @property
    def is_unfinished(self) -> bool:
        """True if a worker claimed the event and did not finish it, or died while one of its receivers ran."""
        return self.claim is not None or any(
            result.get("status") == "started" for result in self.receiver_results.values()
        )

    @property
    def is_deletion(self) -> bool:
        return self.event_type == INTERVIEW_DELETED

    @property
    def is_creation(self) -> bool:
        return self.event_type == INTERVIEW_CREATED

    @property
    def vendor_order(self) -> tuple[bool, float, bool, int]:
        """The key that sorts events of one object in the vendor's order; a deletion has no time and comes last."""
        moment = self.occurred_at or self.received_at
        return (self.is_deletion, moment.timestamp(), not self.is_creation, self.pk)
