"""The object states of claimed events, locked while the receivers of these events run."""

from collections.abc import Sequence
from functools import cache
from uuid import UUID

from django_bi_integration.dispatch.queue import ClaimLost
from django_bi_integration.models import ObjectState, ReceivedEvent
from django_bi_integration.models.object_state import CHANGED_BY_EVENT
from django_bi_integration.sql import BulkUpdate, fields_of


class LockedStates:
    """The states of the events' objects, locked until the transaction ends.

    The lock keeps other workers out even if the lease ends before the transaction. An event without an object is locked
    itself. Raise ClaimLost if a state was deleted since the claim; the next claim creates it again.
    """

    def __init__(self, events: Sequence[ReceivedEvent]) -> None:
        keys = {event.object_key for event in events if event.object_key}
        if len(keys) < len(events):
            without_object = [event.pk for event in events if not event.object_key]
            rows = ReceivedEvent.objects.filter(pk__in=without_object).order_by("pk")
            list(rows.select_for_update().values_list("pk"))
        locked = ObjectState.objects.filter(key__in=keys).order_by("key").select_for_update() if keys else ()
        self._by_key = {state.key: state for state in locked}
        if len(self._by_key) < len(keys):
            raise ClaimLost
        self._changed: dict[UUID, ObjectState] = {}
        self._subjects: set[str] = set()  # the persons that changed states are about

    def of(self, event: ReceivedEvent) -> ObjectState | None:
        """Return the state to compare the event with.

        If earlier events of the same object or person changed states, these are stored now, so that receivers see them.
        """
        if event.object_key in self._changed or event.subject_id in self._subjects:
            self.save()
        return self._by_key[event.object_key] if event.object_key else None

    def apply(self, event: ReceivedEvent, state: ObjectState) -> None:
        """Change the state to what the event says; store it before anything reads it."""
        state.apply(event, event.data)
        self._changed[state.key] = state
        self._subjects.add(state.subject_id)

    def save(self) -> None:
        """Store the changed states."""
        if self._changed:
            _update_statement().execute(self._changed.values())
        self._changed, self._subjects = {}, set()


@cache
def _update_statement() -> BulkUpdate:
    return BulkUpdate(ObjectState, fields_of(ObjectState, *CHANGED_BY_EVENT), fields_of(ObjectState, "key"))
