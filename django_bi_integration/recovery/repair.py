"""Repair what forged or mistaken events left behind: dispatch the other body of a conflict, rebuild object states.

Both are safe while workers run: the object's row is locked as a worker locks it, and what a worker has claimed
meanwhile is taken from it, so that its transaction is rolled back.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterator
from functools import partial
from typing import Any, NamedTuple, cast
from uuid import UUID

from django.db import transaction
from django.db.models import Exists, OuterRef, QuerySet
from django.utils import timezone

from django_bi_integration import vendors
from django_bi_integration.dispatch.notify import notify_worker
from django_bi_integration.models import ObjectState, ReceivedEvent, WebhookRegistration
from django_bi_integration.models.object_state import CHANGED, as_json
from django_bi_integration.recovery.retry import Record
from django_bi_integration.sql import fields_of
from django_bi_integration.transactions import retry_on_conflict, write_transaction
from django_bi_integration.webhooks.receive import IncomingEvent, despite_values, incoming_event, parse
from django_bi_integration.webhooks.rejections import NotAnObject

#: How many objects one transaction locks.
BATCH = 50
#: What is read from a body, apart from the id, which both bodies of a conflict have in common.
READ = ("event_type", "subject_id", "object_type", "object_id", "object_key", "occurred_at")


class Swaps(NamedTuple):
    """The events that ``dispatch_conflicting`` found to have a conflicting body, by primary key.

    ``swapped`` are due again. ``busy`` and ``unreadable`` were skipped: a worker has locked the event or its object, or
    the conflicting body cannot be parsed.
    """

    swapped: list[int]
    busy: list[int]
    unreadable: list[int]


def dispatch_conflicting(events: QuerySet[ReceivedEvent], *, record: Record | None = None) -> Swaps:
    """Dispatch the latest conflicting body of each event instead of the stored one, which becomes the conflicting one.

    All receivers run again; undoing what they did for the other body is up to the host project. Only events with
    ``conflicts`` are swapped, and a swap resets ``conflicts`` to 0, so an event is not swapped back when this runs
    again.

    Each swap is one transaction, and waits for no worker. ``record`` is called with the swapped event in a list and
    commits with it. If an error ends this, the swaps before it stay.
    """
    swaps = Swaps([], [], [])
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
    """Swap the bodies of one event; return its field of ``Swaps``, or None if there is nothing to swap any more."""
    with write_transaction():
        event, states = _lock_swappable(pk)
        if event is None:
            return "busy" if _swappable(ReceivedEvent.objects.filter(pk=pk)).exists() else None
        former, body = bytes(event.body), bytes(cast("bytes", event.conflicting_body))
        try:
            document = parse(body)
        except NotAnObject:  # stored when deeper nesting was accepted
            return "unreadable"
        # The conflicting body came with a later delivery.
        reading = vendors.VENDORS[event.vendor].read(document)
        arrival = incoming_event(event.registration, body, reading, event.origin, event.last_delivery_at)
        event.body, event.conflicting_body, event.conflicts = body, former, 0
        despite_values(arrival, partial(_store_swapped, event))
        _rebuild_all(states, replay=False, removes=True)
        if record is not None:
            record([event])
    return "swapped"


def _lock_swappable(pk: int) -> tuple[ReceivedEvent | None, list[ObjectState]]:
    """Lock the event and its object's state, the state first, as workers do; no event if another has one of them."""
    rows = ReceivedEvent.objects.filter(pk=pk)
    key = rows.values_list("object_key", flat=True).first()
    states = _lock([key] if key else [], skip_locked=True)
    if key and not states and ObjectState.objects.filter(key=key).exists():
        return None, []
    event = _swappable(rows).select_for_update(skip_locked=True).first()
    # It may have been swapped since its key was read, and then be about another object.
    return (event if event and event.object_key == key else None), states


@transaction.atomic
def _store_swapped(event: ReceivedEvent, arrival: IncomingEvent) -> None:
    for name in READ:
        setattr(event, name, getattr(arrival, name))
    bodies = {name: getattr(event, name) for name in (*READ, "body", "conflicting_body", "conflicts")}
    _make_due([event.pk], **bodies)


def _make_due(pks: Collection[int], **changes: Any) -> None:
    """Have all receivers run again, as if the events had just arrived; a worker that has one of them loses it."""
    ReceivedEvent.objects.filter(pk__in=pks).update(
        status=ReceivedEvent.Status.PENDING,
        next_attempt_at=timezone.now(),
        attempts=0,
        claim=None,
        interruptions=0,
        dispatched_at=None,
        receiver_results={},
        last_error="",
        is_stale=False,
        **changes,
    )


def rebuild_states(
    *,
    registration: WebhookRegistration | None = None,
    objects: Collection[UUID | None] | None = None,
    replay: bool = False,
    dry_run: bool = False,
) -> Counter[str]:
    """Recompute the object states from the events that remain, and count what was found.

    All of them; or those of one registration; or those of ``objects``, keys as in ``ReceivedEvent.object_key``. A named
    object that has no event left loses its state. Otherwise such a state stays, since old events are deleted, too.

    Events that are marked stale, but would not be so by the events that remain, are counted as ``no_longer_stale``;
    with ``replay`` they are dispatched again. With ``dry_run`` nothing is changed.
    """
    counts: Counter[str] = Counter(dict.fromkeys(("objects", "changed", "removed", "no_longer_stale"), 0))
    for keys in _batches(registration, objects):
        counts.update(_rebuild_batch(keys, replay=replay, removes=objects is not None, dry_run=dry_run))
    if replay and not dry_run:
        transaction.on_commit(notify_worker, robust=True)
    return counts


def states_without_events() -> QuerySet[ObjectState]:
    """The states of objects whose events were all deleted: nothing is left to recompute them from."""
    return ObjectState.objects.exclude(Exists(ReceivedEvent.objects.filter(object_key=OuterRef("key"))))


def _batches(registration: WebhookRegistration | None, objects: Collection[UUID | None] | None) -> Iterator[list[UUID]]:
    if objects is not None:
        named = sorted({key for key in objects if key})
        yield from (named[start : start + BATCH] for start in range(0, len(named), BATCH))
        return
    events = ReceivedEvent.objects.all() if registration is None else registration.events.all()
    keys = events.order_by("object_key").values_list("object_key", flat=True).distinct()
    last = UUID(int=0)
    while batch := [key for key in keys.filter(object_key__gt=last)[:BATCH] if key]:
        yield batch
        last = batch[-1]


def _rebuild_batch(keys: list[UUID], **options: Any) -> Counter[str]:
    """Rebuild the objects that no worker is at; then the others, one by one, as each takes as long as its receivers."""
    counts, done = retry_on_conflict(partial(_rebuild_locked, keys, skip_locked=True, **options))
    for key in keys:
        if key not in done:
            counts.update(retry_on_conflict(partial(_rebuild_locked, [key], skip_locked=False, **options))[0])
    return counts


def _rebuild_locked(
    keys: list[UUID], *, skip_locked: bool, replay: bool, removes: bool, dry_run: bool
) -> tuple[Counter[str], set[UUID]]:
    with write_transaction():
        _ensure_states(keys)
        states = _lock(keys, skip_locked=skip_locked)
        counts = _rebuild_all(states, replay=replay, removes=removes)
        if dry_run:
            transaction.set_rollback(True)
    return counts, {state.key for state in states}


def _lock(keys: Collection[UUID], *, skip_locked: bool = False) -> list[ObjectState]:
    return list(ObjectState.objects.filter(key__in=keys).order_by("key").select_for_update(skip_locked=skip_locked))


def _ensure_states(keys: Collection[UUID]) -> None:
    present = set(ObjectState.objects.filter(key__in=keys).values_list("key", flat=True))
    columns = ("registration_id", "object_type", "object_id")
    missing = ReceivedEvent.objects.filter(object_key__in=set(keys) - present).values_list("object_key", *columns)
    made = {key: ObjectState(key=key, **dict(zip(columns, values, strict=True))) for key, *values in missing}
    ObjectState.objects.bulk_create([made[key] for key in sorted(made)], ignore_conflicts=True)


def _rebuild_all(states: list[ObjectState], *, replay: bool, removes: bool) -> Counter[str]:
    """Recompute states, which are locked, and store them."""
    events: dict[UUID | None, list[ReceivedEvent]] = defaultdict(list)
    keys = [state.key for state in states]
    # Of the bodies only the latest is read: somebody may have sent many, and large ones.
    for event in ReceivedEvent.objects.filter(object_key__in=keys).defer("body", "conflicting_body"):
        events[event.object_key].append(event)
    counts: Counter[str] = Counter()
    for state in states:
        remaining = sorted(events[state.key], key=lambda event: event.vendor_order)
        counts.update(_rebuild(state, remaining, replay=replay, removes=removes))
    return counts


def _rebuild(state: ObjectState, remaining: list[ReceivedEvent], *, replay: bool, removes: bool) -> Counter[str]:
    if removes and not remaining:
        state.delete()
        return Counter(objects=1, removed=1)
    before = _values(state)
    stale = _recompute(state, [event for event in remaining if _has_its_place(event)], keeps_stale=not replay)
    if replay:
        _make_due([event.pk for event in stale])
    changed = _values(state) != before
    if changed:
        state.save(update_fields=CHANGED)
    return Counter(objects=1, changed=int(changed), no_longer_stale=len(stale))


def _has_its_place(event: ReceivedEvent) -> bool:
    """Whether it was dispatched before, if only in part: it took its place among its object's events then."""
    return event.status == ReceivedEvent.Status.DISPATCHED or bool(event.receiver_results)


def _values(state: ObjectState) -> list[Any]:
    return [getattr(state, field.attname) for field in fields_of(ObjectState, *CHANGED)]


def _recompute(state: ObjectState, events: list[ReceivedEvent], *, keeps_stale: bool) -> list[ReceivedEvent]:
    """Have the state say what the events say, which are in the vendor's order.

    Return those that are marked stale, although nothing that remains supersedes them; they count only if
    ``keeps_stale``.
    """
    state.forget()
    taken = [event for event in events if not event.is_stale]
    for event in taken:
        state.apply(event, None)
    freed = [event for event in events if event.is_stale and not state.supersedes(event)]
    for event in freed if keeps_stale else ():
        if not state.supersedes(event):
            state.apply(event, None)
            taken.append(event)
    known = (event.data for event in reversed(taken) if not event.is_deletion)
    data = next((data for data in known if data is not None), None)
    state.data = as_json(data) if data is not None else None
    return freed
