"""Dispatch the other body of a conflict, after a leaked key was used to deliver the first one."""

from collections.abc import Collection
from functools import partial
from typing import NamedTuple, cast

from django.db import transaction
from django.db.models import QuerySet

from django_bi_integration.dispatch.notify import notify_worker
from django_bi_integration.models import ObjectState, ReceivedEvent
from django_bi_integration.recovery.object_states import lock_states, make_due, rebuild_locked
from django_bi_integration.recovery.retry import Record
from django_bi_integration.transactions import retry_on_conflict, write_transaction
from django_bi_integration.webhooks.receive import parse_event
from django_bi_integration.webhooks.rejections import NotAnObject
from django_bi_integration.webhooks.store import write_what_fits

#: The columns that are parsed from a body, except for the id, which both bodies of a conflict have in common.
PARSED = ("event_type", "subject_id", "object_type", "object_id", "object_key", "occurred_at")


class SwapResult(NamedTuple):
    """The events that ``dispatch_conflicting`` found to have a conflicting body, by primary key.

    ``swapped`` are due again. ``busy`` and ``unreadable`` were skipped: a worker has locked the event or its object, or
    the conflicting body cannot be parsed.
    """

    swapped: list[int]
    busy: list[int]
    unreadable: list[int]


def dispatch_conflicting(events: QuerySet[ReceivedEvent], *, record: Record | None = None) -> SwapResult:
    """Dispatch the latest conflicting body of each event instead of the stored one, which becomes the conflicting one.

    All receivers run again; undoing what they did for the other body is up to the host project. Only events with
    ``conflicts`` are swapped, and a swap resets ``conflicts`` to 0, so an event is not swapped back if this runs again.

    Each swap is one transaction, and waits for no worker. ``record`` is called with the swapped event in a list, and
    commits with it. If an error ends this, the swaps before it stay.
    """
    swaps = SwapResult([], [], [])
    wanted = list(_swappable(events).order_by("pk").values_list("pk", flat=True))
    try:
        for pk in wanted:
            if outcome := retry_on_conflict(partial(_swap, pk, record)):
                getattr(swaps, outcome).append(pk)
    finally:
        transaction.on_commit(notify_worker, robust=True)
    return swaps


def _swappable(events: QuerySet[ReceivedEvent]) -> QuerySet[ReceivedEvent]:
    return events.filter(conflicts__gt=0, conflicting_body__isnull=False)


def _swap(pk: int, record: Record | None) -> str | None:
    """Swap the bodies of one event; return its field of ``SwapResult``, or None if nothing is left to swap."""
    with write_transaction():
        event, states = _lock_swappable(pk)
        if event is None:
            return "busy" if _swappable(ReceivedEvent.objects.filter(pk=pk)).exists() else None
        previous, body = bytes(event.body), bytes(cast("bytes", event.conflicting_body))
        try:
            # The conflicting body came with a later delivery.
            parsed = parse_event(event.registration, body, origin=event.origin, received_at=event.last_delivery_at)
        except NotAnObject:  # stored when deeper nesting was accepted
            return "unreadable"
        event.body, event.conflicting_body, event.conflicts = body, previous, 0
        write_what_fits(parsed, partial(_store_swapped, event, parsed))
        rebuild_locked(states, replay=False, removes=True)
        if record is not None:
            record([event])
    return "swapped"


def _lock_swappable(pk: int) -> tuple[ReceivedEvent | None, Collection[ObjectState]]:
    """Lock the object's state and then the event, as workers do; return no event if a worker has locked one of them."""
    rows = ReceivedEvent.objects.filter(pk=pk)
    key = rows.values_list("object_key", flat=True).first()
    states = lock_states([key] if key else [], skip_locked=True)
    if key and not states and ObjectState.objects.filter(key=key).exists():
        return None, []
    event = _swappable(rows).select_for_update(skip_locked=True).first()
    # It may have been swapped after its key was read, and may now be about another object.
    return (event if event and event.object_key == key else None), states


@transaction.atomic
def _store_swapped(event: ReceivedEvent, parsed: ReceivedEvent) -> None:
    for name in PARSED:
        setattr(event, name, getattr(parsed, name))
    make_due([event.pk], **{name: getattr(event, name) for name in (*PARSED, "body", "conflicting_body", "conflicts")})
