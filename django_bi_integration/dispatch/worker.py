"""Dispatch what waits: claim events, run their receivers, commit effects and outcomes together.

Exactly once: a receiver's writes and the record that it is done are one commit, which succeeds only while the
claim is still held. One at a time: while an event of an object is claimed no other event of it can be, and the
object's row is locked while its receivers run, so that not even a claim that ran out lets a second worker in.
"""

import logging
import math
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from functools import partial
from itertools import accumulate, takewhile
from typing import NamedTuple
from uuid import UUID, uuid4

from django.db import Error as DatabaseFailure
from django.db import connection
from django.db.models import F, Q, QuerySet
from django.utils import timezone

from django_bi_integration.conf import settings
from django_bi_integration.dispatch import receivers
from django_bi_integration.dispatch.receivers import MAX_CRASHES, Outcome, Receiver
from django_bi_integration.models import ObjectState, ReceivedEvent
from django_bi_integration.models.event import CLAIMED
from django_bi_integration.text import in_plane
from django_bi_integration.transactions import (
    is_conflict,
    is_in_callers_transaction,
    retry_on_conflict,
    write_transaction,
)

logger = logging.getLogger(__name__)

#: How many events one claim takes at most.
BATCH = 200
#: Seconds of work that one claim is meant to be.
CLAIM_SECONDS = 1.0
#: Seconds between two looks of a worker process at all that is due.
FULL_LOOK_INTERVAL = 10.0
#: A look at all that is due costs a process at most one part in so many of its time.
FULL_LOOK_SHARE = 20
#: How much earlier than anything found an event may be due that arrives later: clocks differ, and commits take time.
ARRIVES_LATE = timedelta(seconds=10)
#: Milliseconds of work that one commit is meant to be: so long may an effect wait for others to be had.
COMMIT_MS = 100.0

#: What an event says while it waits because of conflicts.
CONFLICT = (
    "The database ended this event's transactions again and again in favour of others (deadlocks or serialization"
    " failures). That counts as no attempt; the event is tried again."
)

Status = ReceivedEvent.Status


class Head(NamedTuple):
    """What is to be known of an event before it is claimed."""

    pk: int
    object_key: UUID | None
    registration_id: UUID
    object_type: str
    object_id: str
    subject_id: str
    next_attempt_at: datetime


class ClaimLost(Exception):
    """The claim ran out and another worker has the event, or it was deleted: what was done here is rolled back."""


class TransactionLost(Exception):
    """A receiver broke the transaction that it ran in, and with it what the receivers before it wrote."""


class Horizon:
    """How far back one process looks for due events.

    While a backup or a report holds an old snapshot open, the database keeps an index entry of every event dispatched
    since, and a claim that began with the oldest would walk over all of them. So most claims begin close to what the
    last full look found; a full look now and then finds everything else.
    """

    def __init__(self) -> None:
        self._since: datetime | None = None
        self._next_full_look = 0.0

    def since(self, now: datetime) -> datetime | None:
        """Return when the events to look for became due at the earliest; None for a full look."""
        is_usable = self._since is not None and self._since <= now  # a clock may be set back
        return self._since if is_usable and time.monotonic() < self._next_full_look else None

    def looked(self, earliest: datetime, seconds: float) -> None:
        """Remember a full look: what it found is due from ``earliest`` on, and it took that many seconds."""
        self._since = earliest - ARRIVES_LATE
        self._next_full_look = time.monotonic() + max(FULL_LOOK_INTERVAL, FULL_LOOK_SHARE * seconds)


def dispatch_pending(*, seconds: float | None = None, horizon: Horizon | None = None) -> Counter[str]:
    """Dispatch every event that is due, and count the events by the status that they have then.

    Starts no further receiver after ``seconds``. With a ``horizon``, events that became due long ago may be left to one
    of the next calls with it. Raises ``django.db.Error`` if the database becomes unavailable; the events in hand are
    dispatched again after their claims have run out.
    """
    end = math.inf if seconds is None else time.monotonic() + seconds
    ended: Counter[str] = Counter()
    size = BATCH // 4
    while events := retry_on_conflict(partial(claim, size, horizon)):
        started = time.monotonic()
        ended += _dispatch_claimed(events, until=min(end, started + settings.LEASE_SECONDS / 3))
        if time.monotonic() >= end:
            break
        took = max(time.monotonic() - started, 0.001)  # some clocks tick 60 times a second
        size = max(1, min(BATCH, 2 * size, round(len(events) * CLAIM_SECONDS / took)))
    return ended


def _dispatch_claimed(events: list[ReceivedEvent], *, until: float) -> Counter[str]:
    """Dispatch events batch by batch; give back those that none was started with at that time."""
    ended: Counter[str] = Counter()
    while events and time.monotonic() < until:
        batch = _first_batch(events)
        try:
            statuses = dispatch(*batch, until=until)
        except BaseException:
            with suppress(DatabaseFailure):  # then they wait for the end of their lease
                release(events[len(batch) :])
            raise
        ended.update(statuses)
        events = events[len(statuses) :]
    release(events)
    return ended


def _first_batch(events: list[ReceivedEvent]) -> list[ReceivedEvent]:
    """The events to begin with, which are more than one only as far as they are known to be quick."""
    work = accumulate(receivers.expected_ms(event) for event in events)
    size = max(1, sum(1 for _ in takewhile(lambda milliseconds: milliseconds <= COMMIT_MS, work)))
    return events[:size]


def claim(size: int = BATCH, horizon: Horizon | None = None) -> list[ReceivedEvent]:
    """Claim ``size`` events that are due, with all that waits of the same objects, in the order to dispatch them.

    The attempt is counted and committed here, before any receiver runs.
    """
    now = timezone.now()
    due = ReceivedEvent.objects.due(now)
    for heads in _heads(due, size, horizon, now):
        _ensure_states(heads)
        if events := _claim(heads, now):
            return events
    return []


def _heads(due: QuerySet[ReceivedEvent], size: int, horizon: Horizon | None, now: datetime) -> Iterator[list[Head]]:
    """Yield those that have been due longest, then the next ones without these and their objects, and so on."""
    since = horizon.since(now) if horizon else None
    found = (due.filter(next_attempt_at__gte=since) if since else due).order_by("next_attempt_at", "pk")
    started = time.monotonic()
    heads = _first(found, size)
    if horizon and not since:
        horizon.looked(heads[0].next_attempt_at if heads else now, time.monotonic() - started)
    while heads:
        yield heads
        # Other workers are at all of these, with receivers that outlive their lease: others must not wait for that.
        keys = {head.object_key for head in heads if head.object_key}
        found = found.exclude(pk__in=[head.pk for head in heads]).exclude(object_key__in=keys)
        heads = _first(found, size)


def _first(found: QuerySet[ReceivedEvent], size: int) -> list[Head]:
    return list(map(Head._make, found.values_list(*Head._fields)[:size]))


def _claim(heads: list[Head], now: datetime) -> list[ReceivedEvent]:
    """Claim ``heads``, the events that have waited longest, and their objects' others, where no worker is at them."""
    with write_transaction():
        keys = _free_objects({head.object_key for head in heads if head.object_key}, now)
        heads = [head for head in heads if not head.object_key or head.object_key in keys]
        if events := _one_at_most_unfinished(_in_vendor_order(heads, now)):
            _take(events)
    return events


def _one_at_most_unfinished(events: list[ReceivedEvent]) -> list[ReceivedEvent]:
    """Those of the events that may be claimed together.

    One that its last worker left unfinished is claimed alone, lest it take others down with it, and what comes
    after it of the same object waits for that.
    """
    unfinished = {_object(event) for event in events if event.is_unfinished}
    if events and _object(events[0]) in unfinished:
        return events[:1]
    return [event for event in events if _object(event) not in unfinished]


def _object(event: ReceivedEvent | Head) -> UUID | int:
    """What an event is one at a time with: its object, or itself where it has none."""
    return event.object_key or event.pk


def _take(events: Sequence[ReceivedEvent]) -> None:
    token = uuid4()
    interruptions = int(events[0].claim is not None)  # then it is the only one
    for event in events:
        event.was_unfinished = event.is_unfinished
        event.before_claim = {name: getattr(event, name) for name in CLAIMED}
        event.claim, event.attempts = token, event.attempts + 1
        event.interruptions += interruptions
    ReceivedEvent.objects.filter(pk__in=[event.pk for event in events]).update(
        claim=token,
        attempts=F("attempts") + 1,
        interruptions=F("interruptions") + interruptions,
        next_attempt_at=_end_of_lease(),
    )


def _in_vendor_order(heads: list[Head], now: datetime) -> list[ReceivedEvent]:
    """Lock the events of the heads' objects: object after object as the heads stand, each in the vendor's order.

    Where they are more than one claim takes, they are those of the first object alone.
    """
    due = ReceivedEvent.objects.due_among(now)
    for chosen in (heads, heads[:1]):
        lone = Q(pk__in=[head.pk for head in chosen if not head.object_key])
        wanted = due.filter(lone | Q(object_key__in={head.object_key for head in chosen if head.object_key}))
        in_order = wanted.order_by(F("occurred_at").asc(nulls_last=True), "pk")
        events = list(in_order.select_for_update(skip_locked=True)[: BATCH + 1])
        if len(events) <= BATCH:
            break
    turns = {_object(head): -turn for turn, head in enumerate(reversed(heads))}
    return sorted(events[:BATCH], key=lambda event: (turns[_object(event)], event.vendor_order))


def _end_of_lease() -> datetime:
    return timezone.now() + timedelta(seconds=settings.LEASE_SECONDS)


def _ensure_states(heads: list[Head]) -> None:
    wanted = {head.object_key: head for head in heads if head.object_key}
    present = ObjectState.objects.filter(key__in=wanted).values_list("key", flat=True)
    for key in present:
        del wanted[key]
    ObjectState.objects.bulk_create(
        [
            ObjectState(
                key=key,
                registration_id=head.registration_id,
                object_type=head.object_type,
                object_id=head.object_id,
                subject_id=head.subject_id,
            )
            for key, head in sorted(wanted.items())
        ],
        ignore_conflicts=True,
    )


def _free_objects(keys: set[UUID], now: datetime) -> set[UUID]:
    """Lock the objects among ``keys`` that no worker is at; they stay locked until the claim is committed."""
    if not keys:
        return set()
    states = ObjectState.objects.filter(key__in=keys).order_by("key").select_for_update(skip_locked=True)
    unlocked = set(states.values_list("key", flat=True))
    held = ReceivedEvent.objects.held_among(now).filter(object_key__in=unlocked)
    return unlocked - set(held.values_list("object_key", flat=True))


def release(events: Sequence[ReceivedEvent]) -> None:
    """Give back what is left of a claim, as if it had not been claimed: each keeps its place in the queue."""
    for event in events:
        claimed = ReceivedEvent.objects.filter(pk=event.pk, claim=event.claim)
        retry_on_conflict(partial(claimed.update, **event.before_claim))


def dispatch(*events: ReceivedEvent, until: float = math.inf) -> list[str]:
    """Run the receivers of claimed events that are due, and return the status that each event has then.

    All run in one transaction, each receiver in its own savepoint. Where that transaction could not be kept, each event
    gets one of its own; and where that could not be kept, or an earlier worker did not finish, each receiver does, so
    that one cannot undo the others.

    After ``until``, by the monotonic clock, and where receivers turn out slower than they were known to be, no further
    one starts, but for the very first: the statuses are those of the first events, and the others are still claimed.
    Where the transaction was lost by then, the claims run out, and each event is another task's, alone.
    """
    if len(events) == 1:
        return [_dispatch_alone(*events, until=until)]
    works = [_Work(event) for event in events]
    try:
        return _together(works, until)
    except (DatabaseFailure, TransactionLost, ClaimLost) as error:
        logger.info("a batch of %s events: %s; they run one by one", len(events), type(error).__name__)
        if is_conflict(error) and time.monotonic() >= until:
            release(events)  # no event is to blame
            return [Status.PENDING] * len(events)
        _reconnect_after(error)
    except BaseException:
        if any(work.is_running for work in works):  # that one ended the worker; the others are as if not begun
            with suppress(DatabaseFailure):
                release([work.event for work in works if not work.is_running])
        raise
    statuses: list[str] = []
    for event in events:
        if time.monotonic() >= until:
            break
        try:
            statuses.append(_dispatch_alone(event, until=until))
        except BaseException:
            with suppress(DatabaseFailure):
                release(events[len(statuses) + 1 :])
            raise
    return statuses or [Status.PENDING] * len(events)


def _dispatch_alone(event: ReceivedEvent, *, until: float) -> str:
    if event.interruptions >= settings.MAX_ATTEMPTS * (MAX_CRASHES + 1):
        return _set_aside(event)
    try:
        if not event.was_unfinished:
            try:
                (status,) = _together([_Work(event)], until)
            except (DatabaseFailure, TransactionLost) as error:
                logger.warning("event %s: %s; its receivers run one by one", event.pk, type(error).__name__)
                _reconnect_after(error)
                if time.monotonic() >= until:
                    if is_conflict(error):
                        release([event])
                    return Status.PENDING  # unless released, its claim runs out
            else:
                return status
        return _Work(event).one_by_one(until)
    except ClaimLost:
        logger.warning("event %s: the claim ran out, another worker has it", event.pk)
        return Status.PENDING


def _reconnect_after(error: Exception) -> None:
    """Go on with a new connection if the error may mean that this one is lost; a caller's transaction has no other."""
    if not is_conflict(error) and not is_in_callers_transaction():
        connection.close()


def _set_aside(event: ReceivedEvent) -> str:
    """Fail an event that no worker gets done with, although none of its receivers is to blame."""
    reason = f"No worker lived to finish any of the last {event.interruptions} attempts."
    claimed = ReceivedEvent.objects.filter(pk=event.pk, claim=event.claim)
    ended = {"status": Status.FAILED, "claim": None, "next_attempt_at": None, "interruptions": 0}
    retry_on_conflict(partial(claimed.update, last_error=reason, **ended))
    return Status.FAILED


def _together(works: "Sequence[_Work]", until: float) -> list[str]:
    """Run what is due of as many of them as there is time for, and store what became of it with its effects, in one
    transaction."""
    before = [vars(work.event).copy() for work in works]
    try:
        with write_transaction():
            states = _States([work.event for work in works])
            commit_at = min(until, time.monotonic() + COMMIT_MS / 1000)
            ran: list[_Work] = []
            for work in works:
                work.run(work.due(), states, until)
                ran.append(work)
                if time.monotonic() >= commit_at:
                    break
            _settle(ran)
            states.save()  # not before: MariaDB rejects a reference to an event that was deleted meanwhile
    except BaseException:
        for work, attributes in zip(works, before, strict=True):
            work.event.__dict__ = attributes
        raise
    return [work.event.status for work in ran]


def _settle(works: "Sequence[_Work]") -> None:
    for work in works:
        work.settle()
    if not ReceivedEvent.objects.settle([work.event for work in works]):
        raise ClaimLost


class _States:
    """The objects of some claimed events, locked to keep others out until this transaction ends, also when the
    lease ends before it. An event without an object is locked itself."""

    def __init__(self, events: Sequence[ReceivedEvent]) -> None:
        keys = {event.object_key for event in events if event.object_key}
        if len(keys) < len(events):
            lone = [event.pk for event in events if not event.object_key]
            list(ReceivedEvent.objects.filter(pk__in=lone).order_by("pk").select_for_update().values_list("pk"))
        locked = ObjectState.objects.filter(key__in=keys).order_by("key").select_for_update() if keys else ()
        self._by_key = {state.key: state for state in locked}
        if len(self._by_key) < len(keys):  # one was deleted since; the next claim makes it anew
            raise ClaimLost
        self._changed: dict[UUID, ObjectState] = {}
        self._students: set[str] = set()  # whom these are about

    def of(self, event: ReceivedEvent) -> ObjectState | None:
        """The state that the event is about to be compared with."""
        # Receivers find what earlier events of this object and of this student said.
        if event.object_key in self._changed or event.subject_id in self._students:
            self.save()
        return self._by_key[event.object_key] if event.object_key else None

    def changed(self, state: ObjectState) -> None:
        """Have it stored before anything asks for it."""
        self._changed[state.key] = state
        self._students.add(state.subject_id)

    def save(self) -> None:
        """Store what was taken in."""
        ObjectState.objects.store(self._changed.values())
        self._changed, self._students = {}, set()


class _Work:
    """One event in the hands of one worker."""

    is_running = False

    def __init__(self, event: ReceivedEvent) -> None:
        self.event = event
        self.receivers = receivers.receivers_of(event)
        self.outcomes = receivers.load(event)
        # It takes its place in the order with its first dispatch: a retry may come after a newer one.
        self.has_its_place = bool(self.outcomes)

    def one_by_one(self, until: float) -> str:
        """Run each receiver in its own transaction, which is run again after a conflict with another one.

        If a conflict persists, the event is postponed: a conflict is no attempt, no failure and no worker's death.
        """
        # Whatever took a worker down before comes last.
        due = sorted(self.due(), key=lambda receiver: self._before(receiver).status == "started")
        try:
            for receiver in due:
                self._alone(receiver, until)
                if time.monotonic() >= until:
                    break
            retry_on_conflict(self._settle_alone)
        except DatabaseFailure as error:
            if not is_conflict(error) or is_in_callers_transaction():
                raise
            logger.warning("event %s: its transactions conflict with others; it is tried again later", self.event.pk)
            retry_on_conflict(self._postpone)
        return self.event.status

    def _settle_alone(self) -> None:
        with write_transaction():
            _States([self.event])
            _settle([self])

    def _postpone(self) -> None:
        """Give up the claim as if it had not been made, with what is done, and have the event wait as for a retry."""
        claimed = ReceivedEvent.objects.filter(pk=self.event.pk, claim=self.event.claim)
        wait = receivers.back_off(1)
        as_before = {**self.event.before_claim, "next_attempt_at": timezone.now() + wait}
        claimed.update(receiver_results=receivers.dump(self.outcomes), last_error=CONFLICT, **as_before)

    def _alone(self, receiver: Receiver, until: float) -> None:
        unmarked = self._before(receiver)
        try:
            if retry_on_conflict(partial(self._mark_started, receiver, unmarked)):
                self._run_alone(receiver, until)
        except DatabaseFailure:
            # If it is a conflict, it is no sign of a worker that died. Other errors end this task.
            self.outcomes[receiver.name] = unmarked
            raise

    def _run_alone(self, receiver: Receiver, until: float) -> None:
        before = self._before(receiver)
        try:
            retry_on_conflict(partial(self._keep, receiver), until=until)
        except (DatabaseFailure, TransactionLost) as error:
            if is_conflict(error):
                raise
            _reconnect_after(error)
            retry_on_conflict(partial(self._keep_failure, receiver, before, error))

    def _keep_failure(self, receiver: Receiver, before: Outcome, error: Exception) -> None:
        with write_transaction():
            _States([self.event])  # a lost connection may still be committing
            self.outcomes = receivers.load(ReceivedEvent.objects.only("receiver_results").get(pk=self.event.pk))
            if self._before(receiver) == before:  # else it was committed, and only the answer was lost
                attempt = Outcome(attempts=before.attempts + 1)
                self.outcomes[receiver.name] = receivers.failure(attempt, error, receiver)
                self._keep()

    def _mark_started(self, receiver: Receiver, before: Outcome) -> bool:
        """Commit that ``receiver`` is about to run; False where it was about to too often."""
        if before.status != "started":
            started = Outcome(status="started", attempts=before.attempts)
        elif before.crashes + 1 < MAX_CRASHES:
            started = Outcome(status="started", attempts=before.attempts, crashes=before.crashes + 1)
        else:
            reason = f"The worker died {MAX_CRASHES} times while this receiver ran."
            started = Outcome(status="failed", attempts=MAX_CRASHES, crashes=MAX_CRASHES, error=reason)
        self.outcomes[receiver.name] = started
        self._keep()
        return not started.has_ended

    def _keep(self, *run: Receiver) -> None:
        """Run ``run`` and store the outcomes with their effects, in one transaction; the claim stays.

        If that transaction is lost, the outcomes and the event's attributes are as before.
        """
        outcomes, attributes = self.outcomes.copy(), vars(self.event).copy()
        try:
            with write_transaction():
                states = _States([self.event])
                self.run(run, states)
                kept = ReceivedEvent.objects.filter(pk=self.event.pk, claim=self.event.claim).update(
                    receiver_results=receivers.dump(self.outcomes),
                    is_stale=self.event.is_stale,
                    next_attempt_at=_end_of_lease(),
                )
                if not kept:
                    raise ClaimLost
                states.save()
        except BaseException:
            self.outcomes, self.event.__dict__ = outcomes, attributes
            raise

    def run(self, run: Sequence[Receiver], states: _States, until: float = math.inf) -> None:
        """Run receivers, those left at that time another time, and have the event take its place among those of its
        object."""
        event = self.event
        state = states.of(event)
        event.is_stale = state is not None and state.supersedes(event)
        self.is_running = True
        for receiver in run:
            self._run(receiver)
            if time.monotonic() >= until:
                break
        self.is_running = False
        if state is not None and not event.is_stale and not self.has_its_place:
            state.apply(event, self.event.data)
            states.changed(state)

    def _run(self, receiver: Receiver) -> None:
        if self.event.is_stale and settings.SKIP_STALE:
            self.outcomes[receiver.name] = Outcome(status="skipped")
            return
        depth = len(connection.savepoint_ids)
        outcome = receivers.run(receiver, self.event, self.event.data, self._before(receiver))
        self.outcomes[receiver.name] = outcome
        is_left_open = len(connection.savepoint_ids) != depth
        if is_left_open or connection.needs_rollback or connection.closed_in_transaction:
            reason = outcome.error or "it left an atomic block open"
            raise TransactionLost(f"{receiver.name} lost its transaction: {reason}")

    def settle(self) -> None:
        """Set what is to be done next: another attempt, or nothing more. Receivers gone from the code do not count."""
        event, now = self.event, timezone.now()
        current = [self._before(receiver) for receiver in self.receivers]
        # One that there was no time for keeps the event's place in the queue.
        place = event.before_claim["next_attempt_at"]
        waiting = [outcome.next_attempt_at or place for outcome in current if not outcome.has_ended]
        failed = any(outcome.status == "failed" for outcome in current)
        ended = Status.FAILED if failed else Status.DISPATCHED
        event.receiver_results = receivers.dump(self.outcomes)
        event.interruptions = 0
        event.status = Status.PENDING if waiting else ended
        event.next_attempt_at = min(waiting) if waiting else None
        event.dispatched_at = now if not waiting and not failed else None
        event.last_error = in_plane(next((outcome.error for outcome in current if outcome.error), ""))

    def due(self) -> list[Receiver]:
        """In the order of their connection; those that were tried less often come first."""
        now = timezone.now()
        due = [receiver for receiver in self.receivers if self._before(receiver).is_due(now)]
        return sorted(due, key=lambda receiver: self._before(receiver).attempts)

    def _before(self, receiver: Receiver) -> Outcome:
        return self.outcomes.get(receiver.name, Outcome())
