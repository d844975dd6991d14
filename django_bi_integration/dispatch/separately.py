"""Run each receiver of an event in a separate transaction, so that no receiver can undo or block another.

This is slower than one transaction for all. It is the fallback for an event whose common transaction was lost, or whose
last worker died.
"""

import logging
import time
from functools import partial

from django.db import Error as DatabaseFailure
from django.db import connection
from django.utils import timezone

from django_bi_integration.dispatch import outcomes
from django_bi_integration.dispatch.final_errors import remedy_for
from django_bi_integration.dispatch.outcomes import Outcome, after_error, back_off
from django_bi_integration.dispatch.queue import ClaimLost, claimed, end_of_lease
from django_bi_integration.dispatch.receivers import Receiver
from django_bi_integration.dispatch.run import EventRun, TransactionLost, complete_runs
from django_bi_integration.dispatch.states import LockedStates
from django_bi_integration.models import ReceivedEvent
from django_bi_integration.transactions import (
    is_conflict,
    is_in_callers_transaction,
    retry_on_conflict,
    write_transaction,
)

logger = logging.getLogger(__name__)

#: How many workers may die while one receiver runs before that receiver has failed.
MAX_CRASHES = 3
#: The event's error while it waits because of conflicts.
CONFLICT = (
    "The database ended this event's transactions again and again in favour of others (deadlocks or serialization"
    " failures). That counts as no attempt; the event is tried again."
)


def run_separately(run: EventRun, until: float) -> str:
    """Run each receiver in a separate transaction, which is run again after a conflict; return the event's status.

    If a conflict persists, the event is postponed: a conflict is neither an attempt nor a failure nor a crash.
    """
    # A receiver that crashed a worker comes last.
    due = sorted(run.due(), key=lambda receiver: run.outcome_of(receiver).status == "started")
    try:
        for receiver in due:
            _run_receiver(run, receiver, until)
            if time.monotonic() >= until:
                break
        retry_on_conflict(partial(_complete, run))
    except DatabaseFailure as error:
        if not is_conflict(error) or is_in_callers_transaction():
            raise
        logger.warning("event %s: its transactions conflict with others; it is tried again later", run.event.pk)
        retry_on_conflict(partial(_postpone, run))
    return run.event.status


def _run_receiver(run: EventRun, receiver: Receiver, until: float) -> None:
    unmarked = run.outcome_of(receiver)
    try:
        if retry_on_conflict(partial(_mark_started, run, receiver, unmarked)):
            _call_and_keep(run, receiver, until)
    except DatabaseFailure:
        # If it is a conflict, it is no sign of a worker that died. Other errors end this task.
        run.outcomes[receiver.name] = unmarked
        raise


def _mark_started(run: EventRun, receiver: Receiver, before: Outcome) -> bool:
    """Commit that ``receiver`` is about to run; return False if too many workers died while it ran."""
    if before.status != "started":
        started = Outcome(status="started", attempts=before.attempts)
    elif before.crashes + 1 < MAX_CRASHES:
        started = Outcome(status="started", attempts=before.attempts, crashes=before.crashes + 1)
    else:
        reason = f"The worker died {MAX_CRASHES} times while this receiver ran."
        started = Outcome(status="failed", attempts=MAX_CRASHES, crashes=MAX_CRASHES, error=reason)
    run.outcomes[receiver.name] = started
    _keep(run)
    return not started.has_ended


def _call_and_keep(run: EventRun, receiver: Receiver, until: float) -> None:
    before = run.outcome_of(receiver)
    try:
        retry_on_conflict(partial(_keep, run, receiver), until=until)
    except (DatabaseFailure, TransactionLost) as error:
        if is_conflict(error):
            raise
        reconnect_after(error)
        retry_on_conflict(partial(_keep_error, run, receiver, before, error))


def _keep_error(run: EventRun, receiver: Receiver, before: Outcome, error: Exception) -> None:
    with write_transaction():
        LockedStates([run.event])  # a lost connection may still be committing
        run.outcomes = outcomes.load(ReceivedEvent.objects.only("receiver_results").get(pk=run.event.pk))
        if run.outcome_of(receiver) == before:  # else it was committed, and only the response was lost
            attempt = Outcome(attempts=before.attempts + 1)
            run.outcomes[receiver.name] = after_error(attempt, error, remedy_for(error, receiver.function))
            _keep(run)


def _keep(run: EventRun, *receivers: Receiver) -> None:
    """Call receivers and store the outcomes with their effects, in one transaction; the claim stays.

    If that transaction is lost, the outcomes and the event's attributes are as before.
    """
    outcomes_before, attributes = run.outcomes.copy(), vars(run.event).copy()
    try:
        with write_transaction():
            states = LockedStates([run.event])
            run.call(receivers, states)
            is_claimed = claimed(run.event).update(
                receiver_results=outcomes.dump(run.outcomes),
                is_stale=run.event.is_stale,
                next_attempt_at=end_of_lease(),
            )
            if not is_claimed:
                raise ClaimLost
            states.save()
    except BaseException:
        run.outcomes, run.event.__dict__ = outcomes_before, attributes
        raise


def _complete(run: EventRun) -> None:
    with write_transaction():
        LockedStates([run.event])
        complete_runs([run])


def _postpone(run: EventRun) -> None:
    """Give up the claim as if it had not been made, keep what is done, and let the event wait as for a retry."""
    as_before = {**run.event.before_claim, "next_attempt_at": timezone.now() + back_off(1)}
    claimed(run.event).update(receiver_results=outcomes.dump(run.outcomes), last_error=CONFLICT, **as_before)


def reconnect_after(error: Exception) -> None:
    """Close the connection if the error may mean that it is lost; a transaction of the caller's has no other."""
    if not is_conflict(error) and not is_in_callers_transaction():
        connection.close()
