"""Receivers: which ones an event has, and running one so that it cannot hurt the others."""

import asyncio
import logging
import math
import time
import traceback
import weakref
from collections.abc import Callable, Iterator
from contextvars import Context
from dataclasses import asdict, dataclass, fields, replace
from datetime import datetime, timedelta
from functools import partial, wraps
from random import uniform
from typing import Any, Literal

from django.db import Error as DatabaseFailure
from django.db import connection, transaction
from django.dispatch import Signal
from django.utils import timezone

from django_bi_integration.conf import settings
from django_bi_integration.dispatch.async_receivers import wait_for
from django_bi_integration.dispatch.final_errors import remedy_for
from django_bi_integration.dispatch.isolation import restored, separate_context
from django_bi_integration.events import EventData
from django_bi_integration.exceptions import GiveUp, RetryLater
from django_bi_integration.models import ReceivedEvent, WebhookRegistration
from django_bi_integration.signals import BY_EVENT_TYPE, event_received
from django_bi_integration.text import clean
from django_bi_integration.transactions import is_conflict

logger = logging.getLogger(__name__)

#: The longest wait that a receiver may ask for: no calendar is as long as a timedelta.
LONGEST_WAIT = timedelta(days=365)
#: How many workers a receiver may take down with it before it is failed.
MAX_CRASHES = 3
#: How many milliseconds each receiver took the last time, with what it left for after the commit.
_last_ms: dict[str, float] = {}

Status = Literal["new", "started", "retry", "done", "failed", "skipped"]


@dataclass(frozen=True)
class Outcome:
    """What became of one receiver for one event so far; stored in ``ReceivedEvent.receiver_results``.

    ``duration_ms`` is that of the latest attempt, ``retry_at`` an ISO 8601 time in UTC. ``started`` is stored only
    where the receiver may take its worker down, so that it is known which one it was.
    """

    status: Status = "new"
    attempts: int = 0
    crashes: int = 0
    duration_ms: float | None = None
    error: str = ""
    traceback: str = ""
    retry_at: str = ""

    @property
    def has_ended(self) -> bool:
        return self.status in ("done", "failed", "skipped")

    @property
    def next_attempt_at(self) -> datetime | None:
        return datetime.fromisoformat(self.retry_at) if self.retry_at else None

    def is_due(self, now: datetime) -> bool:
        return not self.has_ended and (self.next_attempt_at is None or self.next_attempt_at <= now)


@dataclass(frozen=True)
class Receiver:
    """A function that is connected to one of the signals; ``name`` is its dotted path or ``dispatch_uid``."""

    name: str
    signal: Signal
    function: Callable[..., object]
    is_async: bool

    def call(self, event: ReceivedEvent, data: EventData | None) -> None:
        call = partial(self.function, signal=self.signal, sender=WebhookRegistration, event=event, data=data)
        if self.is_async:
            wait_for(call)
        else:
            call()


def receivers_of(event: ReceivedEvent) -> list[Receiver]:
    """The receivers of the event's own signal, in the order of their connection, then those of every event."""
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
    # Signal.send_robust() runs its receivers without telling which one is which; the list that it walks does.
    for (uid, sender_id), reference, *_, is_async in list(signal.receivers):
        if sender_id not in (id(None), id(WebhookRegistration)):
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


def expected_ms(event: ReceivedEvent) -> float:
    """How many milliseconds the event's receivers together took the last time; without end for one that is new here."""
    return sum(_last_ms.get(receiver.name, math.inf) for receiver in receivers_of(event))


def run(receiver: Receiver, event: ReceivedEvent, data: EventData | None, before: Outcome) -> Outcome:
    """Run one receiver within a savepoint; what it raises ends here, as part of its outcome.

    A deadlock is raised again: the transaction is to blame for it, which holds what other receivers locked. And so is
    an interruption of the savepoint's own end, which leaves open what became of the receiver's effects.
    """
    context = separate_context()
    callbacks = len(connection.run_on_commit)
    started = time.perf_counter()
    error: BaseException | None = None
    has_run = False
    try:
        with transaction.atomic():
            error = _error_of(receiver, event, data, context)
            has_run = True
            if error is not None:
                transaction.set_rollback(True)
    except DatabaseFailure as rejection:
        # PostgreSQL keeps nothing after any query that failed, and says so here where the receiver went on. All that
        # the receiver wrote is rolled back then, and the transaction as well as before.
        if not has_run or connection.needs_rollback or connection.closed_in_transaction or is_conflict(rejection):
            raise
        error = _went_on(rejection)
    duration_ms = _last_ms[receiver.name] = _ms_since(started)
    if len(connection.run_on_commit) > callbacks:
        _watch_callbacks(receiver, callbacks, duration_ms, context)
    attempt = Outcome(attempts=before.attempts + 1, crashes=before.crashes, duration_ms=duration_ms)
    if error is None:
        return replace(attempt, status="done")
    outcome = failure(attempt, error, receiver)
    # Neither the payload nor what the error says of it belongs into a log.
    logger.warning(
        "receiver %s raised %s for event %s: %s",
        receiver.name, type(error).__name__, event.pk, outcome.status,
    )  # fmt: skip
    return outcome


def _error_of(
    receiver: Receiver, event: ReceivedEvent, data: EventData | None, context: Context
) -> BaseException | None:
    """Call the receiver; return what it raised, or what is to be said of what it did, and None where all is well."""
    pk = event.pk
    try:
        with restored(event):
            context.run(receiver.call, event, data)
            if event.pk != pk:
                raise TypeError("A receiver may not delete its event: the record that it is done would go with it.")
            if connection.needs_rollback and not connection.closed_in_transaction:
                raise _went_on()
    except (Exception, asyncio.CancelledError) as error:  # whatever one raises must not reach the others
        if is_conflict(error):
            raise
        return error
    return None


def _went_on(cause: DatabaseFailure | None = None) -> Exception:
    error = transaction.TransactionManagementError(
        "The receiver went on after a database error, or called set_rollback(): all that it wrote is rolled back."
        " Where a query may fail, give it a transaction.atomic() of its own within the try."
    )
    error.__cause__ = cause
    return error


def _watch_callbacks(receiver: Receiver, first: int, ms: float, context: Context) -> None:
    """Have what the receiver left for after the commit run whatever one of those calls raises, which Django logs, and
    count as the receiver's time: the calls of one commit are lost together with their worker. They run in the context
    that the receiver left, so what it activated is active for them, and for nothing else."""

    def watched(call: Callable[[], object]) -> Callable[[], None]:
        @wraps(call)
        def timed() -> None:
            nonlocal ms
            started = time.perf_counter()
            try:
                with restored():
                    context.run(call)
            finally:
                ms += _ms_since(started)
                _last_ms[receiver.name] = ms

        return timed

    callbacks: list[Any] = connection.run_on_commit  # of three items each; the stubs know two
    callbacks[first:] = [(savepoints, watched(call), True) for savepoints, call, _ in callbacks[first:]]


def _ms_since(started: float) -> float:
    return round((time.perf_counter() - started) * 1000, 3)


def failure(attempt: Outcome, error: BaseException, receiver: Receiver) -> Outcome:
    """The outcome of an attempt that ended with ``error``: another try later, or none."""
    remedy = remedy_for(error, receiver.function)
    text = clean(f"{type(error).__name__}: {_text(error)}", 1_000 - len(remedy))
    told = replace(
        attempt,
        error=f"{text} {remedy}" if remedy else text,
        traceback=clean("".join(traceback.format_exception(error)), 10_000),
    )
    if remedy or isinstance(error, GiveUp) or attempt.attempts >= settings.MAX_ATTEMPTS:
        return replace(told, status="failed")
    asked = error.after if isinstance(error, RetryLater) else None
    wait = min(asked, LONGEST_WAIT) if asked is not None else back_off(attempt.attempts)
    return replace(told, status="retry", retry_at=(timezone.now() + wait).isoformat())


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # noqa: BLE001 - an error that cannot even tell what it is
        return "its text cannot be shown"


def back_off(attempts: int) -> timedelta:
    """The wait after so many attempts: doubling up to a limit, and spread by up to a fifth either way."""
    seconds = settings.RETRY_FIRST_SECONDS * 2 ** min(attempts - 1, 30)
    return timedelta(seconds=min(seconds, settings.RETRY_LIMIT_SECONDS) * uniform(0.8, 1.2))  # noqa: S311 - no secret


def load(event: ReceivedEvent) -> dict[str, Outcome]:
    # While versions are mixed during a deploy, another one may have stored more than this one knows.
    known = {item.name for item in fields(Outcome)}
    return {
        name: Outcome(**{key: value for key, value in stored.items() if key in known})
        for name, stored in event.receiver_results.items()
    }


def dump(outcomes: dict[str, Outcome]) -> dict[str, dict[str, Any]]:
    return {name: asdict(outcome) for name, outcome in outcomes.items()}
