"""Receivers: find those of an event, and call one so that it cannot affect the others."""

import asyncio
import logging
import time
import weakref
from collections.abc import Callable, Iterator
from contextvars import Context
from dataclasses import dataclass, replace
from functools import partial

from django.db import Error as DatabaseFailure
from django.db import connection, transaction
from django.dispatch import Signal

from django_bi_integration.dispatch.async_receivers import wait_for
from django_bi_integration.dispatch.final_errors import remedy_for
from django_bi_integration.dispatch.isolation import isolate_callbacks, restored, separate_context
from django_bi_integration.dispatch.outcomes import Outcome, after_error
from django_bi_integration.events import EventData
from django_bi_integration.models import ReceivedEvent
from django_bi_integration.signals import BY_EVENT_TYPE, event_received
from django_bi_integration.text import clean
from django_bi_integration.transactions import is_conflict

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Receiver:
    """A function that is connected to one of the signals; ``name`` is its dotted path or ``dispatch_uid``."""

    name: str
    signal: Signal
    function: Callable[..., object]
    is_async: bool

    def call(self, event: ReceivedEvent, data: EventData | None) -> None:
        call = partial(self.function, signal=self.signal, sender=ReceivedEvent, event=event, data=data)
        if self.is_async:
            wait_for(call)
        else:
            call()


def receivers_of(event: ReceivedEvent) -> list[Receiver]:
    """Return the receivers of the event's own signal, in the order of their connection, then those of every event."""
    own = BY_EVENT_TYPE.get(event.event_type)
    found = [*(_connected(own) if own else ()), *_connected(event_received)]
    seen: dict[str, int] = {}
    for index, receiver in enumerate(found):
        seen[receiver.name] = seen.get(receiver.name, 0) + 1
        if seen[receiver.name] > 1:
            found[index] = replace(receiver, name=f"{receiver.name} #{seen[receiver.name]}")
    return found


def all_receivers() -> list[Receiver]:
    """Return every receiver that is connected to one of the signals for events, in the order of their names."""
    found = {
        receiver.name: receiver
        for signal in {*BY_EVENT_TYPE.values(), event_received}
        for receiver in _connected(signal)
    }
    return [found[name] for name in sorted(found)]


def _connected(signal: Signal) -> Iterator[Receiver]:
    # Signal.send_robust() does not report which receiver is which; the list that it iterates over does.
    for (uid, sender_id), reference, *_, is_async in list(signal.receivers):
        if sender_id not in (id(None), id(ReceivedEvent)):
            continue
        function = reference() if isinstance(reference, weakref.ReferenceType) else reference
        if function is not None:
            name = uid if isinstance(uid, str) else _dotted_path(function)
            yield Receiver(clean(name, 200), signal, function, is_async)


def _dotted_path(function: Callable[..., object]) -> str:
    named = function.func if isinstance(function, partial) else function
    if not hasattr(named, "__qualname__"):
        named = type(named)
    return f"{named.__module__}.{named.__qualname__}"


def call(receiver: Receiver, event: ReceivedEvent, before: Outcome) -> Outcome:
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
