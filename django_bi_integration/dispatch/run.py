"""Run the receivers of claimed events in one transaction, which also stores their outcomes.

So each effect happens once: what a receiver writes and the record that it is done are one commit, which succeeds only
while the claim is held.
"""

import math
import time
from collections.abc import Sequence

from django.db import connection
from django.utils import timezone

from django_bi_integration.conf import settings
from django_bi_integration.dispatch import outcomes
from django_bi_integration.dispatch.call import call_receiver
from django_bi_integration.dispatch.outcomes import Outcome
from django_bi_integration.dispatch.queue import complete
from django_bi_integration.dispatch.receivers import Receiver, receivers_of
from django_bi_integration.dispatch.states import LockedStates
from django_bi_integration.models import ReceivedEvent
from django_bi_integration.transactions import write_transaction

#: Seconds and events after which a transaction takes no further event: so long may effects wait for their commit, and
#: the callbacks of so many events are lost if the worker dies after the commit.
COMMIT_AFTER, MAX_TOGETHER = 0.1, 50

Status = ReceivedEvent.Status


class TransactionLost(Exception):
    """A receiver broke the transaction that it ran in, and with it what the receivers before it wrote."""


class EventRun:
    """The receivers of one claimed event, and their outcomes so far."""

    def __init__(self, event: ReceivedEvent) -> None:
        self.event = event
        self.receivers = receivers_of(event)
        self.outcomes = outcomes.load(event)
        # An event takes its place in the order with its first dispatch: a retry may come after a newer one.
        self.has_its_place = bool(self.outcomes)
        self.is_running = False

    def due(self) -> list[Receiver]:
        """Return the receivers to call, those with fewer attempts first, otherwise in the order of their connection."""
        now = timezone.now()
        due = [receiver for receiver in self.receivers if self.outcome_of(receiver).is_due(now)]
        return sorted(due, key=lambda receiver: self.outcome_of(receiver).attempts)

    def outcome_of(self, receiver: Receiver) -> Outcome:
        return self.outcomes.get(receiver.name, Outcome())

    def call(self, receivers: Sequence[Receiver], states: LockedStates, until: float = math.inf) -> None:
        """Call receivers until ``until``, by the monotonic clock, and give the event its place among its object's."""
        event = self.event
        state = states.of(event)
        event.is_stale = state is not None and state.supersedes(event)
        self.is_running = True
        for receiver in receivers:
            self._call(receiver)
            if time.monotonic() >= until:
                break
        self.is_running = False
        if state is not None and not event.is_stale and not self.has_its_place:
            states.apply(event, state)

    def _call(self, receiver: Receiver) -> None:
        if self.event.is_stale and settings.SKIP_STALE:
            self.outcomes[receiver.name] = Outcome(status="skipped")
            return
        depth = len(connection.savepoint_ids)
        outcome = call_receiver(receiver, self.event, self.outcome_of(receiver))
        self.outcomes[receiver.name] = outcome
        left_block_open = len(connection.savepoint_ids) != depth
        if left_block_open or connection.needs_rollback or connection.closed_in_transaction:
            reason = outcome.error or "it left an atomic block open"
            raise TransactionLost(f"{receiver.name} lost its transaction: {reason}")

    def set_status(self) -> None:
        """Set the event's status and next attempt. Receivers that are gone from the code do not count."""
        event, now = self.event, timezone.now()
        current = [self.outcome_of(receiver) for receiver in self.receivers]
        # A receiver that there was no time for keeps the event's place in the queue.
        place = event.before_claim["next_attempt_at"]
        waiting = [outcome.next_attempt_at or place for outcome in current if not outcome.has_ended]
        failed = any(outcome.status == "failed" for outcome in current)
        ended = Status.FAILED if failed else Status.DISPATCHED
        event.receiver_results = outcomes.dump(self.outcomes)
        event.interruptions = 0
        event.status = Status.PENDING if waiting else ended
        event.next_attempt_at = min(waiting) if waiting else None
        event.dispatched_at = now if not waiting and not failed else None
        event.last_error = outcomes.first_error(current)


def run_together(runs: Sequence[EventRun], until: float) -> list[str]:
    """Run events in one transaction; return the status of each event that was run, at least of the first.

    The transaction takes no further event after ``COMMIT_AFTER`` seconds or ``until``. If it is lost, the events'
    attributes are as they were before.
    """
    before = [vars(run.event).copy() for run in runs]
    try:
        with write_transaction():
            states = LockedStates([run.event for run in runs])
            commit_at = min(until, time.monotonic() + COMMIT_AFTER)
            done: list[EventRun] = []
            for run in runs:
                run.call(run.due(), states, until)
                done.append(run)
                if time.monotonic() >= commit_at:
                    break
            complete_runs(done)
            states.save()  # not before: MariaDB rejects a reference to an event that was deleted since
    except BaseException:
        for run, attributes in zip(runs, before, strict=True):
            run.event.__dict__ = attributes
        raise
    return [run.event.status for run in done]


def complete_runs(runs: Sequence[EventRun]) -> None:
    """Store the statuses and outcomes of the events, and give up their claims; raise ClaimLost if one is lost."""
    for run in runs:
        run.set_status()
    complete([run.event for run in runs])
