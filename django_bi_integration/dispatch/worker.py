"""The main loop of a worker: claim events that are due, run their receivers, until nothing is due.

Read on in ``queue`` (claims), ``run`` (the receivers of events in one transaction), ``separately`` (the fallback: each
receiver in a separate transaction) and ``receivers`` (one receiver in a savepoint).
"""

import logging
import math
import time
from collections import Counter
from contextlib import suppress
from functools import partial

from django.db import Error as DatabaseFailure

from django_bi_integration.conf import settings
from django_bi_integration.dispatch.horizon import Horizon
from django_bi_integration.dispatch.queue import MAX_CLAIM, ClaimLost, claim, claimed, release
from django_bi_integration.dispatch.run import MAX_TOGETHER, EventRun, TransactionLost, run_together
from django_bi_integration.dispatch.separately import MAX_CRASHES, reconnect_after, run_separately
from django_bi_integration.models import ReceivedEvent
from django_bi_integration.transactions import is_conflict, retry_on_conflict

__all__ = ["Horizon", "dispatch_pending"]

logger = logging.getLogger(__name__)

#: Seconds of work that one claim should be.
CLAIM_SECONDS = 1.0

Status = ReceivedEvent.Status


def dispatch_pending(*, seconds: float | None = None, horizon: Horizon | None = None) -> Counter[str]:
    """Dispatch every event that is due, and count the events by the status that they have then.

    Start no further receiver after ``seconds``. With a ``horizon``, events that became due long ago may be left to one
    of the next calls with it. Raise ``django.db.Error`` if the database becomes unavailable; the claimed events are
    dispatched again after their leases have run out.
    """
    end = math.inf if seconds is None else time.monotonic() + seconds
    counts: Counter[str] = Counter()
    size = MAX_CLAIM // 4
    while events := retry_on_conflict(partial(claim, size, horizon)):
        started = time.monotonic()
        counts += _dispatch_claimed(events, until=min(end, started + settings.LEASE_SECONDS / 3))
        if time.monotonic() >= end:
            break
        took = max(time.monotonic() - started, 0.001)  # some clocks tick 60 times a second
        size = max(1, min(MAX_CLAIM, 2 * size, round(len(events) * CLAIM_SECONDS / took)))
    return counts


def _dispatch_claimed(events: list[ReceivedEvent], *, until: float) -> Counter[str]:
    """Dispatch claimed events, one transaction after another; release those that none began with by ``until``."""
    counts: Counter[str] = Counter()
    while events and time.monotonic() < until:
        statuses = dispatch(*events, until=until)
        counts.update(statuses)
        events = events[len(statuses) :]
    release(events)
    return counts


def dispatch(*events: ReceivedEvent, until: float = math.inf) -> list[str]:
    """Run the receivers of claimed events in one transaction; return the statuses of the events that it had time for.

    Those are the first events; the others are still claimed. If the transaction is lost, each event runs in a separate
    one.

    No receiver but the very first starts after ``until``, by the monotonic clock. If the transaction was lost by then,
    the claims run out, and another task dispatches the events one by one.
    """
    if len(events) == 1:
        return [_dispatch_alone(*events, until=until)]
    runs = [EventRun(event) for event in events[:MAX_TOGETHER]]
    try:
        return run_together(runs, until)
    except (DatabaseFailure, TransactionLost, ClaimLost) as error:
        logger.info("a transaction of %s events: %s; they run one by one", len(runs), type(error).__name__)
        if is_conflict(error) and time.monotonic() >= until:
            release(events)  # no event is to blame
            return [Status.PENDING] * len(events)
        reconnect_after(error)
    except BaseException:  # an event that ended the worker stays claimed; the others are as if not begun
        running = [run.event for run in runs if run.is_running]
        _release_quietly([event for event in events if event not in running])
        raise
    return _dispatch_one_by_one(events, until)


def _dispatch_one_by_one(events: tuple[ReceivedEvent, ...], until: float) -> list[str]:
    statuses: list[str] = []
    for event in events[:MAX_TOGETHER]:
        if time.monotonic() >= until:
            break
        try:
            statuses.append(_dispatch_alone(event, until=until))
        except BaseException:
            _release_quietly(list(events[len(statuses) + 1 :]))
            raise
    return statuses or [Status.PENDING] * len(events)


def _dispatch_alone(event: ReceivedEvent, *, until: float) -> str:
    """Run one event's receivers in one transaction, or separately if that is lost or the last worker died."""
    if event.interruptions >= settings.MAX_ATTEMPTS * (MAX_CRASHES + 1):
        return _fail_unfinished(event)
    try:
        if not event.was_unfinished:
            try:
                (status,) = run_together([EventRun(event)], until)
            except (DatabaseFailure, TransactionLost) as error:
                logger.warning("event %s: %s; its receivers run one by one", event.pk, type(error).__name__)
                reconnect_after(error)
                if time.monotonic() >= until:
                    if is_conflict(error):
                        release([event])
                    return Status.PENDING  # unless released, its claim runs out
            else:
                return status
        return run_separately(EventRun(event), until)
    except ClaimLost:
        logger.warning("event %s: the claim ran out, another worker has it", event.pk)
        return Status.PENDING


def _fail_unfinished(event: ReceivedEvent) -> str:
    """Fail an event that no worker survives, although none of its receivers is to blame."""
    reason = f"No worker survived any of the last {event.interruptions} attempts."
    ended = {"status": Status.FAILED, "claim": None, "next_attempt_at": None, "interruptions": 0}
    retry_on_conflict(partial(claimed(event).update, last_error=reason, **ended))
    return Status.FAILED


def _release_quietly(events: list[ReceivedEvent]) -> None:
    with suppress(DatabaseFailure):  # then they wait for the end of their lease
        release(events)
