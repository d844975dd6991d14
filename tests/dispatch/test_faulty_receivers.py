"""Receivers do not affect each other, whatever one of them raises or breaks: invariants 5 and 6."""

import asyncio
import signal
import threading
from contextlib import suppress
from datetime import timedelta
from functools import partial

import pytest
from django.db import IntegrityError, OperationalError, connection, transaction
from django.utils import timezone

from django_bi_integration.dispatch.worker import dispatch_pending
from django_bi_integration.exceptions import RetryLater
from django_bi_integration.models import ReceivedEvent
from django_bi_integration.signals import (
    event_received,
)
from tests.helpers.deliveries import (
    big_interview,
    deliver,
    interview_event,
    stored,
    subscribed,
)
from tests.helpers.receivers import (
    continue_after_a_failed_query,
    effect_of,
    effects,
    later,
    lose_connection,
    outcome,
)
from tests.helpers.waiting import wait_until
from tests.host.models import Effect

# Receivers commit their effects, and some lose the connection.
pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.database]


@pytest.mark.parametrize("error", [ValueError, OperationalError])
def test_an_on_commit_callback_that_raises_affects_no_other(error):
    """Invariant 6: the other receivers' callbacks run, and so do the next events."""
    called = []

    def bad(event, **arguments):
        def fail():
            raise error

        transaction.on_commit(partial(fail))

    def good(event, **arguments):
        transaction.on_commit(lambda: called.append(event.vendor_event_id))

    to = big_interview()
    for number in "12":
        deliver(to, interview_event(number, interview=number))
    with subscribed(event_received, bad), subscribed(event_received, good):
        assert dispatch_pending() == {"dispatched": 2}
    assert called == ["1", "2"]


def close_connection(**arguments):
    connection.close()


def leave_savepoint_broken(**arguments):
    with suppress(IntegrityError):
        Effect.objects.create(pk=Effect.objects.create(receiver="x", event_id="x").pk)
    if connection.vendor == "postgresql":
        Effect.objects.count()  # raises, because PostgreSQL has aborted the transaction
    else:
        raise LookupError


def leave_block_open(**arguments):
    transaction.atomic().__enter__()


def interrupted_at_the_end_of_a_block(**arguments):
    """Raise while Django still counts a block that has ended."""
    transaction.atomic().__enter__()
    raise LookupError


def continue_after_an_error(event, **arguments):
    row = Effect.objects.create(receiver="harm", event_id="1")
    with suppress(IntegrityError):
        Effect.objects.create(pk=row.pk)


def set_rollback(event, **arguments):
    Effect.objects.create(receiver="harm", event_id="1")
    transaction.set_rollback(True)


@pytest.mark.parametrize(
    "harm",
    [
        lose_connection, close_connection, leave_savepoint_broken, leave_block_open, interrupted_at_the_end_of_a_block,
        continue_after_an_error, continue_after_a_failed_query, set_rollback,
    ],
)  # fmt: skip
def test_a_receiver_that_breaks_its_transaction_does_not_undo_the_others(harm):
    """Invariants 5 and 6: the others' effects are committed once, and only the faulty receiver has the error."""
    deliver(big_interview(), interview_event("1"))
    with (
        subscribed(event_received, effect_of("before"), dispatch_uid="before"),
        subscribed(event_received, harm, dispatch_uid="harm"),
        subscribed(event_received, effect_of("after"), dispatch_uid="after"),
    ):
        assert dispatch_pending() == {"pending": 1}
        assert (effects("before"), effects("after")) == (["1"], ["1"])
        for attempt in range(2, 11):
            with later(attempt * 86_400):
                dispatch_pending()
    assert (effects("before"), effects("after")) == (["1"], ["1"])
    assert stored().status == "failed"
    assert outcome("harm")["attempts"] == 10
    assert outcome("harm")["error"]
    assert effects("harm") == []
    assert not connection.in_atomic_block


def test_the_log_says_why_receivers_run_one_by_one(caplog):
    caplog.set_level("INFO", "django_bi_integration")
    to = big_interview()
    deliver(to, interview_event("1"))
    deliver(to, interview_event("2", interview="2"))
    with subscribed(event_received, leave_block_open):
        dispatch_pending()
    first, second = ReceivedEvent.objects.order_by("pk").values_list("pk", flat=True)
    assert [text for text in caplog.messages if text.endswith("one by one")] == [
        "a transaction of 2 events: TransactionLost; they run one by one",
        f"event {first}: TransactionLost; its receivers run one by one",
        f"event {second}: TransactionLost; its receivers run one by one",
    ]


class Rude(Exception):
    def __str__(self):
        return self.args[7]


def raises_an_error_without_text(**arguments):
    raise Rude


def retries_at_the_end_of_time(**arguments):
    raise RetryLater(after=timedelta.max)


async def is_cancelled(**arguments):
    raise asyncio.CancelledError


def raises_an_error_with_an_emoji(**arguments):
    raise LookupError("no such student \N{PILE OF POO}")


def deletes_its_event(event, **arguments):
    event.delete()


@pytest.mark.parametrize(
    "bad",
    [
        raises_an_error_without_text,
        retries_at_the_end_of_time,
        is_cancelled,
        raises_an_error_with_an_emoji,
        deletes_its_event,
    ],
)
def test_an_unusual_failure_of_a_receiver_does_not_stop_the_others(bad):
    """Invariant 6: the failure is recorded, and the retry is due within a year."""
    deliver(big_interview(), interview_event("1"))
    with (
        subscribed(event_received, bad, dispatch_uid="bad"),
        subscribed(event_received, effect_of("good"), dispatch_uid="good"),
    ):
        assert dispatch_pending() == {"pending": 1}
    assert effects() == ["1"]
    assert outcome("bad")["status"] == "retry"
    assert stored().next_attempt_at < timezone.now() + timedelta(days=366)
    assert all(ord(character) < 0x10000 for character in stored().last_error)


class SoftTimeLimit(Exception):
    """As Celery's exception of this name, which interrupts any statement."""


def test_an_async_receiver_that_is_interrupted_is_cancelled():
    """It would continue in a separate thread, whatever happened to its event."""
    woke, started = [], threading.Event()

    async def hang(**arguments):
        started.set()
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            woke.append("cancelled")
            raise

    interrupted, ended = [], threading.Event()

    def interrupt(*arguments):
        if not interrupted:
            interrupted.append(True)
            raise SoftTimeLimit

    def insist():
        # A signal that comes just before the main thread begins to wait is handled only with the next one.
        started.wait(60)
        while not interrupted and not ended.wait(0.05):
            signal.pthread_kill(threading.main_thread().ident, signal.SIGUSR1)

    deliver(big_interview())
    before = signal.signal(signal.SIGUSR1, interrupt)
    killer = threading.Thread(target=insist)
    killer.start()
    try:
        with subscribed(event_received, hang, dispatch_uid="hang"):
            assert dispatch_pending() == {"pending": 1}
    finally:
        ended.set()
        killer.join()
        signal.signal(signal.SIGUSR1, before)
    assert outcome("hang")["error"] == "SoftTimeLimit: "
    wait_until(lambda: woke)
