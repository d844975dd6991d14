"""ObjectState: the last known state of an interview or of a course completion."""

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, cast

from django.db import models
from django.utils.translation import gettext_lazy as _

from django_bi_integration.events import EventData
from django_bi_integration.models.managers import Manager
from django_bi_integration.models.registration import WebhookRegistration
from django_bi_integration.text import clean, visible

if TYPE_CHECKING:
    from django_bi_integration.models.event import ReceivedEvent


class ObjectStateQuerySet(models.QuerySet["ObjectState"]):
    def of_subject(self, subject_id: str) -> "ObjectStateQuerySet":
        """Return the states of one person's objects that are not deleted, newest first."""
        return self.filter(subject_id=subject_id, is_deleted=False, data__isnull=False).order_by("-newest_at")


#: The columns that an event changes.
CHANGED_BY_EVENT = ("subject_id", "newest_at", "newest_event", "data", "is_deleted")


class ObjectState(models.Model):
    """The state of one object after the events dispatched so far; also the lock that dispatches them one at a time."""

    key = models.UUIDField(primary_key=True, editable=False)
    registration = models.ForeignKey(
        WebhookRegistration,
        on_delete=models.CASCADE,
        related_name="object_states",
        verbose_name=_("registration"),
    )
    object_type = models.CharField(_("object type"), max_length=100)
    object_id = models.CharField(_("object id"), max_length=255)
    subject_id = models.CharField(_("subject"), max_length=255, blank=True)
    newest_at = models.DateTimeField(
        _("newest vendor time"), null=True, blank=True, help_text=_("The vendor's time, in UTC.")
    )
    newest_event = models.ForeignKey(
        "ReceivedEvent", null=True, blank=True, on_delete=models.SET_NULL, related_name="+"
    )
    data = models.JSONField(_("latest data"), null=True, blank=True)
    is_deleted = models.BooleanField(_("deleted"), default=False)

    objects = Manager.from_queryset(ObjectStateQuerySet)()

    class Meta:
        base_manager_name = "objects"
        verbose_name = _("object state")
        verbose_name_plural = _("object states")
        indexes = [models.Index(fields=["subject_id"], name="bi_object_subject")]

    def __str__(self) -> str:
        return visible(f"{self.object_type} {self.object_id}")

    def supersedes(self, event: "ReceivedEvent") -> bool:
        """Return True if ``event`` is stale: a newer event of this object, or its deletion, was dispatched before."""
        if self.newest_event_id == event.pk or event.is_deletion:
            return False
        if self.is_deleted:
            return True
        if event.occurred_at is None or self.newest_at is None:
            return False
        # An object that was created at the time of its latest change was created before that change.
        return event.occurred_at < self.newest_at or (event.is_creation and event.occurred_at == self.newest_at)

    def forget(self) -> None:
        """Reset the state to that before any event. Save afterwards."""
        self.subject_id, self.newest_at, self.newest_event_id = "", None, None
        self.data, self.is_deleted = None, False

    def apply(self, event: "ReceivedEvent", data: EventData | None) -> None:
        """Apply ``event``, which is not stale, to the state. Save afterwards."""
        self.newest_event_id = event.pk
        self.newest_at = max(filter(None, (event.occurred_at, self.newest_at)), default=None)
        self.subject_id = event.subject_id or self.subject_id
        if event.is_deletion:
            self.is_deleted = True
        elif data is not None:
            self.data = as_json(data)


def as_json(data: EventData) -> dict[str, Any]:
    """Return typed data as JSON: times in ISO 8601, text without characters that a database cannot hold."""

    def plain(value: Any) -> Any:
        if isinstance(value, datetime):
            return value.isoformat()
        if isinstance(value, str):
            return clean(value, 10_000)
        if isinstance(value, Mapping):
            return {key: plain(item) for key, item in value.items()}
        if is_dataclass(value) and not isinstance(value, type):
            return {item.name: plain(getattr(value, item.name)) for item in fields(value)}
        return value

    return cast("dict[str, Any]", plain(data))
