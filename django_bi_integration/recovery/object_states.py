"""Recompute object states from the events that remain, after forged or mistaken events were deleted.

This is safe while workers run: the state is locked as a worker locks it. If an event is made due again, a worker that
has claimed it loses the claim, so that the worker's transaction is rolled back.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Sequence
from functools import partial
from typing import Any
from uuid import UUID

from django.db import transaction
from django.db.models import Exists, OuterRef, QuerySet
from django.utils import timezone

from django_bi_integration.dispatch.notify import notify_worker
from django_bi_integration.models import ObjectState, ReceivedEvent, WebhookRegistration
from django_bi_integration.models.object_state import CHANGED_BY_EVENT, as_json
from django_bi_integration.sql import fields_of
from django_bi_integration.transactions import retry_on_conflict, write_transaction

#: How many objects one transaction locks.
BATCH = 50


def rebuild_states(
    *,
    registration: WebhookRegistration | None = None,
    objects: Collection[UUID | None] | None = None,
    replay: bool = False,
    dry_run: bool = False,
) -> Counter[str]:
    """Recompute the object states from the remaining events, and return how many were found and changed.

    By default, recompute the states of all objects. ``registration`` limits them to one registration, ``objects`` to
    keys as in ``ReceivedEvent.object_key``. If an object of ``objects`` has no event left, its state is deleted.
    Otherwise such a state stays, because old events may be deleted, too.

    Events that are marked stale, but that no remaining event supersedes, are counted as ``no_longer_stale``; with
    ``replay``, they are dispatched again. With ``dry_run``, nothing is changed.
    """
    counts: Counter[str] = Counter(dict.fromkeys(("objects", "changed", "removed", "no_longer_stale"), 0))
    for keys in _batches(registration, objects):
        counts.update(_rebuild_batch(keys, replay=replay, removes=objects is not None, dry_run=dry_run))
    if replay and not dry_run:
        transaction.on_commit(notify_worker, robust=True)
    return counts


def states_without_events() -> QuerySet[ObjectState]:
    """Return the states of objects whose events were all deleted, so that the states cannot be recomputed."""
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
    """Rebuild the objects that no worker holds, then each of the others, which takes as long as its receivers."""
    counts, done = retry_on_conflict(partial(_lock_and_rebuild, keys, skip_locked=True, **options))
    for key in keys:
        if key not in done:
            counts.update(retry_on_conflict(partial(_lock_and_rebuild, [key], skip_locked=False, **options))[0])
    return counts


def _lock_and_rebuild(
    keys: list[UUID], *, skip_locked: bool, replay: bool, removes: bool, dry_run: bool
) -> tuple[Counter[str], set[UUID]]:
    with write_transaction():
        _create_missing_states(keys)
        states = lock_states(keys, skip_locked=skip_locked)
        counts = rebuild_locked(states, replay=replay, removes=removes)
        if dry_run:
            transaction.set_rollback(True)
    return counts, {state.key for state in states}


def lock_states(keys: Collection[UUID], *, skip_locked: bool = False) -> list[ObjectState]:
    """Lock the states of the objects, in an order that prevents deadlocks."""
    return list(ObjectState.objects.filter(key__in=keys).order_by("key").select_for_update(skip_locked=skip_locked))


def _create_missing_states(keys: Collection[UUID]) -> None:
    present = set(ObjectState.objects.filter(key__in=keys).values_list("key", flat=True))
    columns = ("registration_id", "object_type", "object_id")
    missing = ReceivedEvent.objects.filter(object_key__in=set(keys) - present).values_list("object_key", *columns)
    made = {key: ObjectState(key=key, **dict(zip(columns, values, strict=True))) for key, *values in missing}
    ObjectState.objects.bulk_create([made[key] for key in sorted(made)], ignore_conflicts=True)


def rebuild_locked(states: Collection[ObjectState], *, replay: bool, removes: bool) -> Counter[str]:
    """Recompute and store states that are locked."""
    events: dict[UUID | None, list[ReceivedEvent]] = defaultdict(list)
    keys = [state.key for state in states]
    # Only the latest body is read, because there may be many large ones.
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
        make_due([event.pk for event in stale])
    changed = _values(state) != before
    if changed:
        state.save(update_fields=CHANGED_BY_EVENT)
    return Counter(objects=1, changed=int(changed), no_longer_stale=len(stale))


def _has_its_place(event: ReceivedEvent) -> bool:
    """Return True if the event was dispatched at least in part, and so has a place in the order of its object."""
    return event.status == ReceivedEvent.Status.DISPATCHED or bool(event.receiver_results)


def _values(state: ObjectState) -> list[Any]:
    return [getattr(state, field.attname) for field in fields_of(ObjectState, *CHANGED_BY_EVENT)]


def _recompute(state: ObjectState, events: Sequence[ReceivedEvent], *, keeps_stale: bool) -> list[ReceivedEvent]:
    """Recompute the state from the events, which are in the vendor's order.

    Return the events that are marked stale although no event that remains supersedes them. They count only if
    ``keeps_stale``.
    """
    state.forget()
    applied = [event for event in events if not event.is_stale]
    for event in applied:
        state.apply(event, None)
    freed = [event for event in events if event.is_stale and not state.supersedes(event)]
    for event in freed if keeps_stale else ():
        if not state.supersedes(event):
            state.apply(event, None)
            applied.append(event)
    known = (event.data for event in reversed(applied) if not event.is_deletion)
    data = next((data for data in known if data is not None), None)
    state.data = as_json(data) if data is not None else None
    return freed


def make_due(pks: Collection[int], **changes: Any) -> None:
    """Make events due for all their receivers, as if they had just arrived; a worker that has claimed one loses it."""
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
