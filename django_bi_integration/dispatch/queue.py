"""The queue: claim events that are due, release them, complete them.

While an event of an object is claimed, no other event of that object can be claimed. A claim is a lease: if its worker
dies, another worker may claim the event when the lease has run out.
"""

import time
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from functools import cache, partial
from typing import NamedTuple
from uuid import UUID, uuid4

from django.db.models import BooleanField, Case, F, Q, QuerySet, When
from django.utils import timezone

from django_bi_integration.conf import settings
from django_bi_integration.dispatch.horizon import Horizon
from django_bi_integration.models import ObjectState, ReceivedEvent
from django_bi_integration.sql import BulkUpdate, fields_of
from django_bi_integration.transactions import retry_on_conflict, write_transaction

#: How many events one claim takes at most.
MAX_CLAIM = 200
#: The columns that a claim changes.
CLAIMED = ("claim", "attempts", "interruptions", "next_attempt_at")
#: The columns that completing an event changes, beside the claim.
COMPLETED = (
    "receiver_results", "is_stale", "interruptions", "status", "next_attempt_at", "dispatched_at", "last_error",
)  # fmt: skip


class ClaimLost(Exception):
    """The lease ran out and another worker has claimed the event, or the event was deleted."""


class Candidate(NamedTuple):
    """The columns of a due event that are needed to claim it."""

    pk: int
    object_key: UUID | None
    registration_id: UUID
    object_type: str
    object_id: str
    subject_id: str
    next_attempt_at: datetime


def claim(size: int = MAX_CLAIM, horizon: Horizon | None = None) -> list[ReceivedEvent]:
    """Claim up to ``size`` due events and all others of the same objects, in the order in which to dispatch them.

    The attempt is counted and committed here, before any receiver runs.
    """
    now = timezone.now()
    for candidates in _candidates(size, horizon, now):
        _create_missing_states(candidates)
        if events := _claim(candidates, now):
            return events
    return []


def _candidates(size: int, horizon: Horizon | None, now: datetime) -> Iterator[list[Candidate]]:
    """Yield the events that have been due longest; then the next ones without these and their objects, and so on."""
    since = horizon.since(now) if horizon else None
    due = ReceivedEvent.objects.due(now)
    due = (due.filter(next_attempt_at__gte=since) if since else due).order_by("next_attempt_at", "pk")
    started = time.monotonic()
    candidates = _first(due, size)
    if horizon and not since:
        horizon.searched_all(candidates[0].next_attempt_at if candidates else now, time.monotonic() - started)
    while candidates:
        yield candidates
        # Other workers hold all of these, with receivers that outlive their lease. Others must not wait for that.
        keys = {candidate.object_key for candidate in candidates if candidate.object_key}
        due = due.exclude(pk__in=[candidate.pk for candidate in candidates]).exclude(object_key__in=keys)
        candidates = _first(due, size)


def _first(due: QuerySet[ReceivedEvent], size: int) -> list[Candidate]:
    return list(map(Candidate._make, due.values_list(*Candidate._fields)[:size]))


def _create_missing_states(candidates: list[Candidate]) -> None:
    missing = {candidate.object_key: candidate for candidate in candidates if candidate.object_key}
    for key in ObjectState.objects.filter(key__in=missing).values_list("key", flat=True):
        del missing[key]
    ObjectState.objects.bulk_create(
        [
            ObjectState(
                key=key,
                registration_id=candidate.registration_id,
                object_type=candidate.object_type,
                object_id=candidate.object_id,
                subject_id=candidate.subject_id,
            )
            for key, candidate in sorted(missing.items())
        ],
        ignore_conflicts=True,
    )


def _claim(candidates: list[Candidate], now: datetime) -> list[ReceivedEvent]:
    """Claim the candidates, and the other due events of their objects, except those of objects that a worker holds."""
    with write_transaction():
        free = _free_objects({candidate.object_key for candidate in candidates if candidate.object_key}, now)
        candidates = [candidate for candidate in candidates if not candidate.object_key or candidate.object_key in free]
        if events := _claimable_together(_lock_in_vendor_order(candidates, now)):
            _mark_claimed(events)
    return events


def _free_objects(keys: set[UUID], now: datetime) -> set[UUID]:
    """Lock the objects that no worker holds; they stay locked until the claim is committed."""
    if not keys:
        return set()
    states = ObjectState.objects.filter(key__in=keys).order_by("key").select_for_update(skip_locked=True)
    unlocked = set(states.values_list("key", flat=True))
    held = ReceivedEvent.objects.filter(_without_index(Q(claim__isnull=False, next_attempt_at__gt=now)))
    return unlocked - set(held.filter(object_key__in=unlocked).values_list("object_key", flat=True))


def _lock_in_vendor_order(candidates: list[Candidate], now: datetime) -> list[ReceivedEvent]:
    """Lock the due events of the candidates' objects: object after object, each in the vendor's order.

    If they are more than one claim takes, lock only those of the first object.
    """
    due = ReceivedEvent.objects.filter(_without_index(Q(status=ReceivedEvent.Status.PENDING, next_attempt_at__lte=now)))
    for chosen in (candidates, candidates[:1]):
        without_object = Q(pk__in=[candidate.pk for candidate in chosen if not candidate.object_key])
        keys = {candidate.object_key for candidate in chosen if candidate.object_key}
        wanted = due.filter(without_object | Q(object_key__in=keys))
        in_order = wanted.order_by(F("occurred_at").asc(nulls_last=True), "pk")
        events = list(in_order.select_for_update(skip_locked=True)[: MAX_CLAIM + 1])
        if len(events) <= MAX_CLAIM:
            break
    turns = {_object_of(candidate): -turn for turn, candidate in enumerate(reversed(candidates))}
    return sorted(events[:MAX_CLAIM], key=lambda event: (turns[_object_of(event)], event.vendor_order))


def _without_index(condition: Q) -> Case:
    """Return a condition on a few rows in a form that no database looks up in the index of due events.

    That index is slow to read while many of its entries are dead, and databases choose it because few are alive.
    """
    return Case(When(condition, then=True), default=False, output_field=BooleanField())


def _claimable_together(events: list[ReceivedEvent]) -> list[ReceivedEvent]:
    """Return those of the events that may be claimed together.

    An event whose last worker died is claimed alone, so that a second crash affects no other event. Later events of the
    same object wait.
    """
    unfinished = {_object_of(event) for event in events if event.is_unfinished}
    if events and _object_of(events[0]) in unfinished:
        return events[:1]
    return [event for event in events if _object_of(event) not in unfinished]


def _object_of(event: ReceivedEvent | Candidate) -> UUID | int:
    """Return what is dispatched one at a time: the event's object, or the event if it has none."""
    return event.object_key or event.pk


def _mark_claimed(events: Sequence[ReceivedEvent]) -> None:
    token, lease = uuid4(), end_of_lease()
    interruptions = int(events[0].claim is not None)  # an unfinished event is claimed alone
    for event in events:
        event.was_unfinished = event.is_unfinished
        event.before_claim = {name: getattr(event, name) for name in CLAIMED}
        event.claim, event.attempts = token, event.attempts + 1
        event.interruptions += interruptions
    ReceivedEvent.objects.filter(pk__in=[event.pk for event in events]).update(
        claim=token,
        attempts=F("attempts") + 1,
        interruptions=F("interruptions") + interruptions,
        next_attempt_at=lease,
    )


def end_of_lease() -> datetime:
    """Return when another worker may claim what is claimed now."""
    return timezone.now() + timedelta(seconds=settings.LEASE_SECONDS)


def claimed(event: ReceivedEvent) -> QuerySet[ReceivedEvent]:
    """Return the event's row if the claim on ``event`` is still held."""
    return ReceivedEvent.objects.filter(pk=event.pk, claim=event.claim)


def release(events: Sequence[ReceivedEvent]) -> None:
    """Give up the claims as if they had not been made: each event keeps its place in the queue."""
    for event in events:
        retry_on_conflict(partial(claimed(event).update, **event.before_claim))


def complete(events: Sequence[ReceivedEvent]) -> None:
    """Store what the events have in the columns ``COMPLETED``, and give up their claims.

    Raise ClaimLost if a claim is no longer held.
    """
    if _complete_statement().execute(events) < len(events):
        raise ClaimLost


@cache
def _complete_statement() -> BulkUpdate:
    completed, claimed = fields_of(ReceivedEvent, *COMPLETED), fields_of(ReceivedEvent, "id", "claim")
    return BulkUpdate(ReceivedEvent, completed, claimed, also=["claim = NULL"])
