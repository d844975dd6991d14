"""Call one receiver so that it cannot affect the others."""

import asyncio
import logging
import time
from contextvars import Context
from dataclasses import replace

from django.db import Error as DatabaseFailure
from django.db import connection, transaction

from django_bi_integration.dispatch.final_errors import remedy_for
from django_bi_integration.dispatch.isolation import isolate_callbacks, restored, separate_context
from django_bi_integration.dispatch.outcomes import Outcome, after_error
from django_bi_integration.dispatch.receivers import Receiver
from django_bi_integration.models import ReceivedEvent
from django_bi_integration.transactions import is_conflict

logger = logging.getLogger(__name__)


def call_receiver(receiver: Receiver, event: ReceivedEvent, before: Outcome) -> Outcome:
    """Call one receiver in a savepoint, and return its outcome, which has what it raised.

    Raise ``django.db.Error`` if the transaction around it cannot go on.
    """
    started = time.perf_counter()
    error = _call_in_savepoint(receiver, event)
    duration_ms = round((time.perf_counter() - started) * 1000, 3)
    attempt = Outcome(attempts=before.attempts + 1, crashes=before.crashes, duration_ms=duration_ms)
    if error is None:
        return replace(attempt, status="done")
    outcome = after_error(attempt, error, remedy_for(error, receiver.function))
    # Neither the payload nor an error's text, which may quote it, belongs into a log.
    logger.warning(
        "receiver %s raised %s for event %s: %s",
        receiver.name, type(error).__name__, event.pk, outcome.status,
    )  # fmt: skip
    return outcome


def _call_in_savepoint(receiver: Receiver, event: ReceivedEvent) -> BaseException | None:
    """Call a receiver in a savepoint, which is rolled back if it raises; return the error.

    A conflict is raised again: the whole transaction has to be run again, because it holds what other receivers locked.
    An error at the end of the savepoint is raised again, because it may have lost the receiver's effects.
    """
    context = separate_context()
    callbacks = len(connection.run_on_commit)
    error: BaseException | None = None
    has_returned = False
    try:
        with transaction.atomic():
            error = _error_of(receiver, event, context)
            has_returned = True
            if error is not None:
                transaction.set_rollback(True)
    except DatabaseFailure as failure:
        # PostgreSQL keeps nothing after a query that failed, and reports that here if the receiver went on. All that
        # the receiver wrote is rolled back then, and the transaction can go on.
        if not has_returned or connection.needs_rollback or connection.closed_in_transaction or is_conflict(failure):
            raise
        error = _went_on(failure)
    isolate_callbacks(callbacks, context)
    return error


def _error_of(receiver: Receiver, event: ReceivedEvent, context: Context) -> BaseException | None:
    """Call the receiver; return what it raised, an error about what it did wrong, or None."""
    pk, data = event.pk, event.data  # parsed outside of restored(), which would forget it
    try:
        with restored(event):
            context.run(receiver.call, event, data)
            if event.pk != pk:
                raise TypeError("A receiver may not delete its event: the record that it is done would go with it.")
            if connection.needs_rollback and not connection.closed_in_transaction:
                raise _went_on()
    except (Exception, asyncio.CancelledError) as error:  # no error may reach the other receivers
        if is_conflict(error):
            raise
        return error
    return None


def _went_on(cause: DatabaseFailure | None = None) -> Exception:
    error = transaction.TransactionManagementError(
        "The receiver continued after a database error, or called set_rollback(), so all that it wrote is rolled back."
        " If a query may fail, wrap it in a separate transaction.atomic() inside the try block."
    )
    error.__cause__ = cause
    return error
