"""Dispatch: each receiver's effect once, whatever the others do; one object at a time, in the vendor's order."""

import asyncio
import json
import math
import signal
import threading
from contextlib import ExitStack, contextmanager, suppress
from datetime import timedelta
from functools import partial
from types import SimpleNamespace

import pytest
import time_machine
from django.db import DatabaseError, IntegrityError, OperationalError, connection, transaction
from django.utils import timezone

from django_bi_integration.dispatch import queue, run, separately, states
from django_bi_integration.dispatch import worker as dispatch
from django_bi_integration.dispatch.outcomes import back_off
from django_bi_integration.dispatch.queue import claim
from django_bi_integration.dispatch.worker import dispatch_pending
from django_bi_integration.exceptions import GiveUp, RetryLater
from django_bi_integration.models import ObjectState, ReceivedEvent, WebhookRegistration
from django_bi_integration.models import event as event_model
from django_bi_integration.recovery import retry_failed
from django_bi_integration.signals import (
    course_completed,
    event_received,
    interview_created,
    interview_deleted,
    interview_updated,
)
from tests.helpers.deliveries import (
    Recorder,
    big_interview,
    deliver,
    deliver_completion,
    innovative_educators,
    interview_event,
    stored,
    subscribed,
)
from tests.helpers.waiting import wait_until
from tests.host.models import Effect

# Effects are committed and connections are lost in earnest here.
pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.database]


def effect_of(receiver):
    """A receiver that writes one row a call."""

    def write(event, **arguments):
        Effect.objects.create(receiver=receiver, event_id=event.vendor_event_id)

    return write


def effects(receiver=None):
    rows = Effect.objects.filter(receiver=receiver) if receiver else Effect.objects.all()
    return sorted(rows.values_list("event_id", flat=True))


def outcome(name):
    return stored().receiver_results[name]


def later(seconds=3600):
    """The clock as it will be."""
    return time_machine.travel(timezone.now() + timedelta(seconds=seconds), tick=True)


def test_a_receiver_gets_the_event_and_its_typed_data():
    received, everything = Recorder(), Recorder()
    deliver(big_interview())
    with subscribed(interview_created, received), subscribed(event_received, everything):
        assert dispatch_pending() == {"dispatched": 1}
    (call,) = received.calls
    assert (call["signal"], call["sender"]) == (interview_created, ReceivedEvent)
    assert call["event"] == stored()
    assert (call["data"].id, call["data"].completed, call["data"].partner_id) == ("95607", True, "{partner_id}")
    assert everything.data == received.data
    assert (stored().status, stored().next_attempt_at) == ("dispatched", None)


@pytest.mark.parametrize(
    ("signal", "name"),
    [
        (interview_created, "interview.created"),
        (interview_updated, "interview.updated"),
        (interview_deleted, "interview.deleted"),
    ],
)
def test_each_interview_event_has_its_own_signal(signal, name):
    received = Recorder()
    deliver(big_interview(), interview_event("1", name))
    with subscribed(signal, received):
        dispatch_pending()
    assert received.data.id == "95607"


def test_a_completion_is_sent_as_course_completed():
    received = Recorder()
    deliver_completion(innovative_educators())
    with subscribed(course_completed, received):
        dispatch_pending()
    assert received.data.learner.external_customer_id == "111222333444"


def test_an_unknown_event_is_sent_as_event_received_alone():
    """Invariant 8."""
    everything, created = Recorder(), Recorder()
    deliver(big_interview(), '{"webhook": {"id": "1", "event_name": "resume.scored"}}')
    with subscribed(event_received, everything), subscribed(interview_created, created):
        assert dispatch_pending() == {"dispatched": 1}
    assert (everything.data, created.calls) == (None, [])


def test_six_deliveries_are_one_call():
    """Invariant 3: a repeat causes nothing else, before and after the dispatch."""
    received = Recorder()
    to = big_interview()
    with subscribed(event_received, received):
        for _ in range(3):
            deliver(to)
        dispatch_pending()
        for _ in range(3):
            deliver(to)
        dispatch_pending()
    assert (len(received.calls), stored().deliveries) == (1, 6)


def test_an_event_without_receivers_is_dispatched():
    deliver(big_interview())
    assert dispatch_pending() == {"dispatched": 1}


def test_a_receiver_that_raises_is_retried_alone():
    """Invariant 6: nine are done at the first attempt, the tenth goes on by itself."""
    deliver(big_interview(), interview_event("1"))
    good = [effect_of(f"good {number}") for number in range(9)]

    def bad(event, **arguments):
        Effect.objects.create(receiver="bad", event_id=event.vendor_event_id)
        raise LookupError("no such student")

    with subscribed(event_received, bad, dispatch_uid="bad"):
        for number, receiver in enumerate(good):
            event_received.connect(receiver, weak=False, dispatch_uid=f"good {number}")
        try:
            assert dispatch_pending() == {"pending": 1}
            assert len(effects()) == 9
            assert outcome("bad")["status"] == "retry"
            assert stored().next_attempt_at < timezone.now() + timedelta(seconds=30)
            for attempt in range(2, 11):
                with later(attempt * 86_400):
                    dispatch_pending()
        finally:
            for number in range(9):
                event_received.disconnect(dispatch_uid=f"good {number}")
    assert len(effects()) == 9
    event = stored()
    assert (event.status, event.attempts, event.next_attempt_at) == ("failed", 10, None)
    assert event.last_error == "LookupError: no such student"
    assert outcome("bad")["attempts"] == 10
    assert "raise LookupError" in outcome("bad")["traceback"]
    assert outcome("good 3") == {**outcome("good 3"), "status": "done", "attempts": 1, "error": ""}


def test_the_number_of_attempts_can_be_set(settings):
    settings.BI_INTEGRATION = {"MAX_ATTEMPTS": 2}

    def bad(**arguments):
        raise LookupError

    deliver(big_interview())
    with subscribed(event_received, bad):
        assert dispatch_pending() == {"pending": 1}
        with later():
            assert dispatch_pending() == {"failed": 1}


def test_the_waits_between_attempts_double_up_to_their_limit(settings):
    settings.BI_INTEGRATION = {"RETRY_FIRST_SECONDS": 10, "RETRY_LIMIT_SECONDS": 60}
    for attempts, seconds in [(1, 10), (2, 20), (3, 40), (4, 60), (100, 60)]:
        assert 0.8 * seconds <= back_off(attempts).total_seconds() <= 1.2 * seconds


def test_a_receiver_may_ask_for_a_later_try():
    def busy(**arguments):
        raise RetryLater("the register is locked until noon", after=7200)

    deliver(big_interview())
    with subscribed(event_received, busy, dispatch_uid="busy"):
        dispatch_pending()
    wait = stored().next_attempt_at - timezone.now()
    assert timedelta(seconds=7100) < wait <= timedelta(seconds=7200)
    assert outcome("busy")["error"] == "RetryLater: the register is locked until noon"


def test_a_receiver_may_give_up_at_once():
    def hopeless(**arguments):
        raise GiveUp("not one of our students")

    deliver(big_interview())
    with subscribed(event_received, hopeless, dispatch_uid="hopeless"):
        assert dispatch_pending() == {"failed": 1}
    assert (stored().attempts, outcome("hopeless")["status"]) == (1, "failed")


def test_a_failed_event_can_be_tried_again_and_only_its_failed_receivers_run():
    calls = []

    def repaired(**arguments):
        calls.append(1)
        if len(calls) == 1:
            raise GiveUp

    deliver(big_interview(), interview_event("1"))
    with subscribed(event_received, repaired, dispatch_uid="repaired"), subscribed(event_received, effect_of("good")):
        dispatch_pending()
        assert retry_failed(ReceivedEvent.objects.all()) == 1
        assert dispatch_pending() == {"dispatched": 1}
    assert (len(calls), effects("good")) == (2, ["1"])


def test_an_async_receiver_is_awaited_and_its_effects_are_in_the_same_transaction():
    async def receiver(event, **arguments):
        await Effect.objects.acreate(receiver="async", event_id=event.vendor_event_id)
        if event.attempts == 1:
            raise ValueError

    deliver(big_interview(), interview_event("1"))
    with subscribed(event_received, receiver):
        dispatch_pending()
        assert effects() == []
        with later():
            assert dispatch_pending() == {"dispatched": 1}
    assert effects() == ["1"]


class Portal:
    def method(self, **arguments):
        pass


def function(text="", **arguments):
    pass


def test_receivers_are_known_by_their_dotted_path_or_their_uid():
    portal = Portal()
    partial_ = partial(function, "x")
    deliver(big_interview())
    with (
        subscribed(event_received, portal.method),
        subscribed(event_received, function),
        subscribed(interview_created, function),
        subscribed(event_received, partial_),
        subscribed(event_received, Recorder(), dispatch_uid="audit"),
    ):
        dispatch_pending()
    assert sorted(stored().receiver_results) == [
        "audit",
        "tests.dispatch.test_dispatch.Portal.method",
        "tests.dispatch.test_dispatch.function",
        "tests.dispatch.test_dispatch.function #2",
        "tests.dispatch.test_dispatch.function #3",
    ]


def test_a_receiver_of_another_sender_is_not_called():
    events, others = Recorder(), Recorder()
    deliver(big_interview())
    with (
        subscribed(event_received, events, sender=ReceivedEvent),
        subscribed(event_received, others, sender=WebhookRegistration),
    ):
        dispatch_pending()
    assert (len(events.calls), others.calls) == (1, [])


def test_what_a_newer_version_stored_about_a_receiver_is_no_hindrance():
    """During a deploy, workers of two versions run together."""
    deliver(big_interview(), interview_event("1"))
    ReceivedEvent.objects.update(receiver_results={"new": {"status": "done", "attempts": 1, "mood": "sunny"}})
    with subscribed(event_received, effect_of("new"), dispatch_uid="new"):
        assert dispatch_pending() == {"dispatched": 1}
    assert effects() == []


@pytest.mark.parametrize("error", [ValueError, OperationalError])
def test_a_callback_after_the_commit_that_raises_hurts_nobody(error):
    """Invariant 6: neither the other receivers' callbacks nor the events behind."""
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


def test_a_receiver_that_is_gone_from_the_code_does_not_block_the_event():
    def bad(**arguments):
        raise LookupError

    deliver(big_interview())
    with subscribed(event_received, bad, dispatch_uid="bad"):
        dispatch_pending()
    with later():
        assert dispatch_pending() == {"dispatched": 1}
    assert outcome("bad")["status"] == "retry"


def lose_connection(**arguments):
    connection.connection.close()
    connection.cursor().execute("SELECT 1")


def close_connection(**arguments):
    connection.close()


def leave_savepoint_broken(**arguments):
    with suppress(IntegrityError):
        Effect.objects.create(pk=Effect.objects.create(receiver="x", event_id="x").pk)
    if connection.vendor == "postgresql":
        Effect.objects.count()  # the transaction is aborted: PostgreSQL rejects
    else:
        raise LookupError


def leave_block_open(**arguments):
    transaction.atomic().__enter__()


def interrupted_at_the_end_of_a_block(**arguments):
    """Django counts one block too many then, as it has not yet taken this one off."""
    transaction.atomic().__enter__()
    raise LookupError


def go_on_after_an_error(event, **arguments):
    row = Effect.objects.create(receiver="harm", event_id="1")
    with suppress(IntegrityError):
        Effect.objects.create(pk=row.pk)


def go_on_after_a_failed_query(event, **arguments):
    """PostgreSQL takes no more of the transaction; the others have done what they could not, and know of no harm."""
    Effect.objects.create(receiver="harm" if connection.vendor == "postgresql" else "x", event_id="1")
    with suppress(DatabaseError):
        connection.cursor().execute("SELECT nonsense")
    if connection.vendor != "postgresql":
        raise LookupError


def set_rollback(event, **arguments):
    Effect.objects.create(receiver="harm", event_id="1")
    transaction.set_rollback(True)


@pytest.mark.parametrize(
    "harm",
    [
        lose_connection, close_connection, leave_savepoint_broken, leave_block_open, interrupted_at_the_end_of_a_block,
        go_on_after_an_error, go_on_after_a_failed_query, set_rollback,
    ],
)  # fmt: skip
def test_a_receiver_that_breaks_its_transaction_does_not_undo_the_others(harm):
    """Invariant 5 and 6: the others' effects are committed once, and the harm is told on the one that did it."""
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


class Rude(Exception):
    def __str__(self):
        return self.args[7]


def cannot_tell_its_error(**arguments):
    raise Rude


def asks_for_the_end_of_time(**arguments):
    raise RetryLater(after=timedelta.max)


async def is_cancelled(**arguments):
    raise asyncio.CancelledError


def says_it_with_an_emoji(**arguments):
    raise LookupError("no such student \N{PILE OF POO}")


def deletes_its_event(event, **arguments):
    event.delete()


@pytest.mark.parametrize(
    "bad", [cannot_tell_its_error, asks_for_the_end_of_time, is_cancelled, says_it_with_an_emoji, deletes_its_event]
)
def test_nothing_that_a_receiver_raises_stops_the_others(bad):
    """Invariant 6: whatever the error is made of."""
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
    """As Celery raises it: out of nowhere."""


def test_an_async_receiver_that_is_interrupted_is_not_left_behind():
    """It would go on in a thread of its own, whatever became of its event."""
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
        # A signal that comes just before the main thread begins to wait is seen only with the next one.
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


class Killed(BaseException):
    """As if the process had ended here: nothing of ours catches it."""


def test_a_receiver_that_takes_its_worker_down_ends_failed_and_the_others_are_done():
    """The queue goes on, and the event says which receiver it was."""
    to = big_interview()
    deliver(to, interview_event("1", interview="1"))
    deliver(to, interview_event("2", interview="2"))

    def deadly(event, **arguments):
        if event.vendor_event_id == "1":
            raise Killed

    with (
        subscribed(event_received, deadly, dispatch_uid="deadly"),
        subscribed(event_received, effect_of("good"), dispatch_uid="good"),
    ):
        for attempt in range(6):
            with later(attempt * 600):
                try:
                    dispatch_pending()
                except Killed:
                    connection.close()
    assert effects("good") == ["1", "2"]
    event = ReceivedEvent.objects.get(vendor_event_id="1")
    assert (event.status, event.next_attempt_at) == ("failed", None)
    assert event.receiver_results["deadly"]["error"] == "The worker died 3 times while this receiver ran."
    assert ReceivedEvent.objects.get(vendor_event_id="2").status == "dispatched"


@pytest.mark.parametrize(("commit_after", "left"), [(-1, 1), (math.inf, 2)], ids=["one by one", "batch"])
def test_what_ends_a_worker_gives_back_the_other_events(commit_after, left, monkeypatch):
    monkeypatch.setattr(run, "COMMIT_AFTER", commit_after)
    to = big_interview()
    for number in "123":
        deliver(to, interview_event(number, interview=number))

    def deadly(event, **arguments):
        if event.vendor_event_id == "2":
            raise SystemExit

    with subscribed(event_received, deadly), subscribed(event_received, effect_of("good")):
        with pytest.raises(SystemExit):
            dispatch_pending()
        assert dispatch_pending() == {"dispatched": left}
    assert effects() == ["1", "3"]
    assert list(ReceivedEvent.objects.order_by("pk").values_list("attempts", flat=True)) == [1, 1, 1]


def test_an_event_that_no_worker_survives_is_set_aside(settings):
    """It dies outside any receiver, again and again: the attempt was counted before."""
    settings.BI_INTEGRATION = {"MAX_ATTEMPTS": 2}
    deliver(big_interview(), interview_event("1"))
    for attempt in range(8):
        with later(attempt * 100):
            assert len(claim()) == 1  # and this worker dies
    deliver(big_interview(), interview_event("2"))
    with later(800):
        assert dispatch_pending() == {"failed": 1, "dispatched": 1}
    event = ReceivedEvent.objects.get(vendor_event_id="1")
    assert (event.status, event.next_attempt_at) == ("failed", None)
    assert event.last_error == "No worker lived to finish any of the last 8 attempts."


def test_a_worker_that_dies_leaves_its_events_to_another_once_its_claim_ran_out(settings):
    settings.BI_INTEGRATION = {"LEASE_SECONDS": 60}
    deliver(big_interview(), interview_event("1"))
    assert len(claim()) == 1  # and this worker dies
    with subscribed(event_received, effect_of("good")):
        assert dispatch_pending() == {}
        with later(30):
            assert dispatch_pending() == {}
        with later(61):
            assert dispatch_pending() == {"dispatched": 1}
    assert effects() == ["1"]
    assert stored().attempts == 2


def test_retries_are_no_sign_of_workers_that_die(settings):
    """Many receivers that each ask for later, and one worker that is killed: nothing is set aside."""
    settings.BI_INTEGRATION = {"MAX_ATTEMPTS": 3}
    deliver(big_interview())

    def later_by(number):
        def receiver(**arguments):
            raise RetryLater(after=100 * (number + 1))

        return receiver

    with ExitStack() as connected:
        for number in range(16):
            connected.enter_context(subscribed(event_received, later_by(number), dispatch_uid=f"receiver {number}"))
        for seconds in range(0, 1400, 100):
            with later(seconds):
                dispatch_pending()
        assert stored().attempts > 12, "that many workers may die over an event"
        with later(1500):
            assert len(claim()) == 1  # and this worker dies
        with later(1600):
            dispatch_pending()
    assert (stored().status, stored().interruptions) == ("pending", 0)


def test_a_worker_whose_claim_ran_out_leaves_no_effect():
    """Invariant 5: two workers with the same event; only the one that holds the claim commits."""
    deliver(big_interview(), '{"webhook": {"id": "1", "event_name": "x"}}')
    (slow,) = claim()
    with subscribed(event_received, effect_of("good")):
        with later(61):
            assert dispatch_pending() == {"dispatched": 1}
        assert dispatch.dispatch(slow) == ["pending"]
    assert effects() == ["1"]
    assert stored().status == "dispatched"


def test_the_attempt_is_counted_before_the_receivers_run():
    deliver(big_interview())
    seen = []

    def look(event, **arguments):
        seen.append(ReceivedEvent.objects.get(pk=event.pk).attempts)

    with subscribed(event_received, look):
        dispatch_pending()
    assert seen == [1]


def test_waiting_events_of_one_interview_go_in_the_vendors_order():
    """Invariant 7: whatever order they arrived in; a delete comes last, a creation before its equals."""
    to = big_interview()
    deliver(to, interview_event("5", "interview.deleted"))
    deliver(to, interview_event("4", at="2020-01-03T00:00:00.000Z"))
    deliver(to, interview_event("2", at="2020-01-01T00:00:00.000Z"))
    deliver(to, interview_event("1", "interview.created", at="2020-01-01T00:00:00.000Z"))
    deliver(to, interview_event("3", at="2020-01-02T00:00:00.000Z"))
    received = Recorder()
    with subscribed(event_received, received):
        dispatch_pending()
    assert received.events == ["1", "2", "3", "4", "5"]
    assert not ReceivedEvent.objects.filter(is_stale=True).exists()


@pytest.mark.parametrize("arrival", ["12", "21"])
def test_an_event_that_a_worker_left_unfinished_keeps_its_place(arrival):
    """Invariant 7: the worker that died had both, or the older one alone; the newer one waits for it."""
    to = big_interview()
    made = {number: interview_event(number, at=f"2020-01-0{number}T00:00:00.000Z") for number in "12"}
    deliver(to, made[arrival[0]])
    if arrival == "12":
        assert len(claim()) == 1  # and this worker dies
    deliver(to, made[arrival[1]])
    if arrival == "21":
        assert len(claim()) == 2  # and this worker dies
    received = Recorder()
    with subscribed(event_received, received), later(61):
        assert dispatch_pending() == {"dispatched": 2}
    assert received.events == ["1", "2"]
    assert not ReceivedEvent.objects.filter(is_stale=True).exists()


def test_a_deletion_wins_although_it_carries_an_older_time():
    """Before 2015-07-16, deletes came with their object."""
    to = big_interview()
    deliver(to, interview_event("1", at="2020-01-02T00:00:00.000Z"))
    dispatch_pending()
    deliver(to, interview_event("2", at="2020-01-01T00:00:00.000Z").replace(b"interview.updated", b"interview.deleted"))
    dispatch_pending()
    assert not ReceivedEvent.objects.filter(is_stale=True).exists()
    state = ObjectState.objects.get()
    assert (state.is_deleted, state.newest_at.day) == (True, 2)


@pytest.mark.parametrize("same_receivers_again", [False, True], ids=["retry", "run again by hand"])
def test_a_retry_does_not_take_the_state_back(same_receivers_again):
    """Of two changes of equal time the one that was dispatched last is the newest, also after a retry of the first."""
    to = big_interview()

    def fails_once(event, **arguments):
        if event.vendor_event_id == "1" and not retried:
            raise GiveUp if same_receivers_again else LookupError

    retried = []
    with subscribed(event_received, fails_once):
        deliver(to, interview_event("1").replace(b'"completed": true', b'"completed": false'))
        dispatch_pending()
        deliver(to, interview_event("2"))
        dispatch_pending()
        retried.append(True)
        retry_failed(ReceivedEvent.objects.all())
        with later():
            assert dispatch_pending() == {"dispatched": 1}
    assert ObjectState.objects.get().data["completed"] is True


def test_no_event_is_passed_over_for_ever():
    """A deletion, which comes last of its own object, waits for no other; what is given back keeps its place."""
    to = big_interview()
    deliver(to, interview_event("gone", "interview.deleted", interview="1"))
    for number in range(2, 5):
        deliver(to, interview_event(str(number), interview=str(number)))
    received = Recorder()
    with subscribed(event_received, received):
        for number in range(5, 9):
            (first, *rest) = claim()
            dispatch.dispatch(first)
            queue.release(rest)
            deliver(to, interview_event(str(number), interview=str(number)))
    assert received.events == ["gone", "2", "3", "4"]


def test_an_object_with_more_events_than_a_claim_takes_holds_nobody_up(monkeypatch):
    monkeypatch.setattr(queue, "MAX_CLAIM", 3)
    to = big_interview()
    deliver(to, interview_event("first", interview="7", at="2030-01-01T00:00:00.000Z"))
    for number in range(1, 8):
        deliver(to, interview_event(str(number), at=f"2020-01-0{number}T00:00:00.000Z"))
    assert [event.vendor_event_id for event in claim()] == ["first"]
    assert [event.vendor_event_id for event in claim()] == ["1", "2", "3"]


def test_an_event_older_than_one_that_was_dispatched_is_stale():
    """Invariant 7: it is sent all the same, and receivers can see it."""
    to = big_interview()
    seen = {}

    def look(event, **arguments):
        seen[event.vendor_event_id] = event.is_stale

    with subscribed(event_received, look):
        for event_id, day in [("1", 2), ("2", 1), ("3", 2), ("4", 3)]:
            deliver(to, interview_event(event_id, at=f"2020-01-0{day}T00:00:00.000Z"))
            dispatch_pending()
    assert seen == {"1": False, "2": True, "3": False, "4": False}
    assert list(ReceivedEvent.objects.filter(is_stale=True).values_list("vendor_event_id", flat=True)) == ["2"]


def test_a_deletion_wins_over_what_comes_later():
    to = big_interview()
    for event_id, name in [("1", "interview.deleted"), ("2", "interview.created"), ("3", "interview.updated")]:
        deliver(to, interview_event(event_id, name, at="2030-01-01T00:00:00.000Z"))
        dispatch_pending()
    assert list(ReceivedEvent.objects.order_by("pk").values_list("is_stale", flat=True)) == [False, True, True]
    assert ObjectState.objects.get().is_deleted


def test_a_creation_that_comes_after_an_update_of_the_same_time_is_stale():
    to = big_interview()
    for event_id, name in [("1", "interview.updated"), ("2", "interview.created")]:
        deliver(to, interview_event(event_id, name))
        dispatch_pending()
    assert ReceivedEvent.objects.get(vendor_event_id="2").is_stale


def test_a_retry_is_not_stale_by_its_own_first_attempt_but_by_a_newer_event():
    to = big_interview()
    seen = []

    def fails(event, **arguments):
        if event.vendor_event_id == "1":
            seen.append(event.is_stale)
            raise LookupError

    with subscribed(event_received, fails):
        deliver(to, interview_event("1", at="2020-01-01T00:00:00.000Z"))
        dispatch_pending()
        with later():
            dispatch_pending()
            deliver(to, interview_event("2", at="2020-01-02T00:00:00.000Z"))
            dispatch_pending()
        with later(86_400):
            dispatch_pending()
    assert seen == [False, False, True]


def test_stale_events_can_be_kept_from_the_receivers(settings):
    settings.BI_INTEGRATION = {"SKIP_STALE": True}
    to = big_interview()
    received = Recorder()
    with subscribed(event_received, received, dispatch_uid="recorder"):
        for event_id, day in [("1", 2), ("2", 1)]:
            deliver(to, interview_event(event_id, at=f"2020-01-0{day}T00:00:00.000Z"))
            dispatch_pending()
    assert received.events == ["1"]
    stale = ReceivedEvent.objects.get(vendor_event_id="2")
    assert (stale.status, stale.receiver_results["recorder"]["status"]) == ("dispatched", "skipped")


def test_while_one_event_of_an_interview_is_claimed_no_other_is():
    """Invariant 7."""
    to = big_interview()
    deliver(to, interview_event("1"))
    (first,) = claim()
    deliver(to, interview_event("2"))
    deliver(to, interview_event("3", interview="7"))
    assert [event.vendor_event_id for event in claim()] == ["3"]
    dispatch.dispatch(first)
    assert [event.vendor_event_id for event in claim()] == ["2"]


def test_events_of_other_interviews_do_not_wait():
    to = big_interview()
    for number in range(5):
        deliver(to, interview_event(str(number), interview=str(number)))
    assert len(claim()) == 5


def test_the_object_state_is_the_newest_reading():
    to = big_interview()
    for event_id, day in [("1", 2), ("2", 1)]:
        body = json.loads(interview_event(event_id, at=f"2020-01-0{day}T00:00:00.000Z"))
        body["webhook"]["api_object"]["completed"] = event_id == "1"
        deliver(to, json.dumps(body))
        dispatch_pending()
    (state,) = ObjectState.objects.of_subject("abc123")
    assert (state.data["completed"], state.newest_at.day, state.object_id) == (True, 2, "95607")
    deliver(to, interview_event("3", "interview.deleted"))
    dispatch_pending()
    assert not ObjectState.objects.of_subject("abc123").exists()


def test_completions_of_one_course_by_two_learners_are_two_objects():
    to = innovative_educators()
    for number in "12":
        deliver_completion(
            to, json.dumps({"event": "courseComplete", "id": number, "notifiableId": "c", "user": number})
        )
    dispatch_pending()
    assert ObjectState.objects.count() == 2


def test_a_stint_ends_in_time_and_gives_back_what_it_claimed():
    to = big_interview()
    for number in range(3):
        deliver(to, interview_event(str(number), interview=str(number)))
    assert dispatch_pending(seconds=0) == {}
    assert list(ReceivedEvent.objects.values_list("attempts", "claim")) == [(0, None)] * 3
    assert dispatch_pending() == {"dispatched": 3}


def test_logs_carry_neither_payload_nor_error_text(caplog):
    def bad(**arguments):
        raise LookupError("secret detail of a student")

    deliver(big_interview())
    with subscribed(event_received, bad):
        dispatch_pending()
    (record,) = [record for record in caplog.records if record.name.startswith("django_bi_integration")]
    assert "LookupError" in record.getMessage()
    assert "secret" not in caplog.text


def test_quick_events_share_their_commits(django_assert_max_num_queries, monkeypatch):
    """Invariant 11: beside its receiver's savepoint and work, an event costs a share of what all cost together."""
    monkeypatch.setattr(run, "COMMIT_AFTER", 60)  # on a machine of any speed
    to = big_interview()
    with subscribed(event_received, effect_of("quick"), dispatch_uid="quick"):
        for number in range(30):
            deliver(to, interview_event(str(number), interview=str(number)))
        # A savepoint, its end, the effect; and, as all are about one student, what the event before said of them.
        with django_assert_max_num_queries(30 * 4 + 20):
            assert dispatch_pending() == {"dispatched": 30}
    assert len(effects("quick")) == 30


def test_each_event_of_a_shared_transaction_keeps_what_became_of_it(batches):
    """Whatever its text looks like to a database that takes all of them as one list."""
    to = big_interview()
    texts = ["fine", "", "NULL", "{}", '{"a","b"}', "a,b", "\\", '"', "'", "%(id)s", "ü", "line\nline"]

    def say(event, **arguments):
        text = texts[int(event.object_id)]
        if text != "fine":
            raise GiveUp(text)

    with subscribed(event_received, say, dispatch_uid="say"):
        for number in range(len(texts)):
            deliver(to, interview_event(str(number), interview=str(number)))
        dispatch_pending()
    assert batches == [len(texts)]
    for event in ReceivedEvent.objects.all():
        text, result = texts[int(event.object_id)], event.receiver_results["say"]
        said = "" if text == "fine" else f"GiveUp: {text}"
        assert (event.status, event.dispatched_at is None) == (("failed", True) if said else ("dispatched", False))
        assert (event.last_error, result["error"], event.claim, event.next_attempt_at) == (said, said, None, None)
        state = ObjectState.objects.get(object_id=event.object_id)
        assert (state.newest_event, state.data["id"]) == (event, event.object_id)


def test_text_that_is_too_long_is_not_cut_unseen():
    deliver(big_interview())
    dispatch_pending()
    state = ObjectState.objects.get()
    state.subject_id = "x" * 300
    with suppress(DatabaseError):  # SQLite has no limit
        states._update_statement().execute([state])
    assert ObjectState.objects.get().subject_id in ("{partner_id}", "x" * 300)


def test_an_event_of_the_same_student_finds_what_the_one_before_said(batches):
    """A receiver that asks for all interviews of a student may run in the same transaction as the one before."""
    to = big_interview()
    seen = []

    def count(event, **arguments):
        seen.append(ObjectState.objects.of_subject(event.subject_id).count())

    with subscribed(event_received, count, dispatch_uid="count"):
        deliver(to, interview_event("0", interview="1"))
        dispatch_pending()
        for number in range(2, 6):
            deliver(to, interview_event(str(number), interview=str(number)))
        dispatch_pending()
    assert batches == [1, 4]
    assert seen == [0, 1, 2, 3, 4]


def test_one_that_fails_in_a_shared_transaction_takes_none_along(batches):
    """Invariant 6, across events."""
    to = big_interview()

    def fails_for_three(event, **arguments):
        Effect.objects.create(receiver="some", event_id=event.vendor_event_id)
        if event.vendor_event_id == "3":
            raise LookupError

    with subscribed(event_received, fails_for_three, dispatch_uid="some"):
        deliver(to, interview_event("0", interview="1"))
        dispatch_pending()
        for number in range(1, 6):
            deliver(to, interview_event(str(number), interview=str(number)))
        assert dispatch_pending() == {"dispatched": 4, "pending": 1}
    assert batches == [1, 5]
    assert effects("some") == ["0", "1", "2", "4", "5"]


@pytest.fixture
def clock(monkeypatch):
    """The monotonic clock of dispatch, which ticks once in 10 s; receivers move it forward."""
    seconds = [0.0]
    for module in (dispatch, run, separately):
        monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: seconds[0]))
    return seconds


@contextmanager
def slow_and_other(clock, *, seconds, error=None):
    """Two receivers, of which the first takes so long, and may raise then; what was begun, in its order."""
    begun = []

    def slow(event, **arguments):
        begun.append(f"slow {event.vendor_event_id}")
        clock[0] += seconds
        if error:
            raise error

    def other(event, **arguments):
        begun.append(f"other {event.vendor_event_id}")
        assert not event.is_stale

    with (
        subscribed(event_received, slow, dispatch_uid="slow"),
        subscribed(event_received, other, dispatch_uid="other"),
    ):
        yield begun


def test_a_receiver_that_turns_out_slow_holds_back_no_further_event(batches, clock, monkeypatch):
    """What it wrote is committed with what was written before, and the others have a commit of their own."""
    monkeypatch.setattr(run, "COMMIT_AFTER", 10)  # on a machine of any speed
    to = big_interview()
    dispatched = []

    def look(event, **arguments):
        dispatched.append(ReceivedEvent.objects.filter(status="dispatched").count())
        if event.vendor_event_id == "2":
            clock[0] += 10

    with subscribed(event_received, look, dispatch_uid="look"):
        deliver(to, interview_event("0", interview="10"))
        dispatch_pending()
        for number in "1234":
            deliver(to, interview_event(number, interview=number))
        assert dispatch_pending() == {"dispatched": 4}
    assert batches == [1, 4, 2]
    assert dispatched == [0, 1, 1, 3, 3]


@pytest.mark.parametrize("was_unfinished", [False, True], ids=["batch", "one by one"])
def test_after_its_time_a_task_starts_no_further_receiver(was_unfinished, batches, clock):
    """A time limit interrupts one receiver of a task: the next one that hangs would have its worker killed."""
    to = big_interview()
    with slow_and_other(clock, seconds=10) as begun:
        deliver(to, interview_event("0", interview="10"))
        dispatch_pending()
        for number in "12":
            deliver(to, interview_event(number, interview=number))
        if was_unfinished:
            assert len(claim()) == 2  # and this worker dies
        begun.clear()
        with later(61):
            assert dispatch_pending(seconds=5) == {"pending": 1}
            assert begun == ["slow 1"]
            assert dispatch_pending() == {"dispatched": 2}
    assert sorted(begun) == ["other 1", "other 2", "slow 1", "slow 2"]
    assert batches[1] == (1 if was_unfinished else 2)


def test_a_body_is_read_once_however_often_a_batch_ends_early(clock, monkeypatch):
    monkeypatch.setattr(run, "COMMIT_AFTER", 10)
    read_object, read = event_model.read_object, []
    monkeypatch.setattr(event_model, "read_object", lambda body: (read.append(body), read_object(body))[1])
    to = big_interview()

    def slow(**arguments):
        clock[0] += 10

    for number in range(6):
        deliver(to, interview_event(str(number), interview=str(number)))
    with subscribed(event_received, slow, dispatch_uid="slow"):
        assert dispatch_pending() == {"dispatched": 6}
    assert len(read) == 6


@pytest.mark.parametrize("number", [1, 3], ids=["one event", "batch"])
def test_a_transaction_that_is_lost_late_has_no_receiver_started_again(number, batches, clock):
    """It would hang once more, with nothing left to interrupt it; the claim runs out instead."""
    to = big_interview()
    begun = []

    def hang(**arguments):
        begun.append(clock[0])
        clock[0] += 240
        lose_connection()

    for index in range(number):
        deliver(to, interview_event(str(index), interview=str(index)))
    with subscribed(event_received, hang, dispatch_uid="hang"):
        assert dispatch_pending(seconds=60) == {"pending": number}
        assert (begun, batches) == ([0], [number])
        for task in range(1, 60):
            before = len(begun)
            with later(task * 4400):
                dispatch_pending(seconds=60)
            assert len(begun) <= before + 1
    assert list(ReceivedEvent.objects.values_list("status", flat=True)) == ["failed"] * number


def test_a_receiver_that_goes_on_after_a_failed_query_has_no_other_run_again(batches):
    """Its savepoint alone is rolled back, and the batch goes on."""
    calls = []

    def good(event, **arguments):
        calls.append(event.vendor_event_id)

    to = big_interview()
    for number in "123":
        deliver(to, interview_event(number, interview=number))
    with (
        subscribed(event_received, good, dispatch_uid="good"),
        subscribed(event_received, go_on_after_a_failed_query, dispatch_uid="harm"),
    ):
        assert dispatch_pending() == {"pending": 3}
    assert (calls, batches) == (["1", "2", "3"], [3])


@pytest.mark.parametrize("ending", [transaction.commit, transaction.rollback])
def test_a_caller_without_autocommit_keeps_what_it_wrote(ending):
    deliver(big_interview(), interview_event("1"))
    connection.close()
    transaction.set_autocommit(False)
    try:
        Effect.objects.create(receiver="host", event_id="1")
        with subscribed(event_received, effect_of("good"), dispatch_uid="good"):
            assert dispatch_pending() == {"dispatched": 1}
        assert not transaction.get_autocommit()
        ending()
    finally:
        connection.close()
    assert effects() == (["1", "1"] if ending is transaction.commit else [])


def test_what_a_lost_batch_has_not_begun_one_by_one_is_given_back(batches):
    to = big_interview()
    calls = []

    def ends_the_worker(event, **arguments):
        calls.append(event.vendor_event_id)
        if len(calls) == 2:
            raise OperationalError(1213, "Deadlock found when trying to get lock")
        if len(calls) == 4:
            raise SystemExit

    for number in "1234":
        deliver(to, interview_event(number, interview=number))
    with subscribed(event_received, ends_the_worker, dispatch_uid="ends"), pytest.raises(SystemExit):
        dispatch_pending()
    assert (calls, batches) == (["1", "2", "1", "2"], [4])
    claimed = ReceivedEvent.objects.filter(claim__isnull=False)
    assert list(claimed.values_list("vendor_event_id", flat=True)) == ["2"]


def test_a_receiver_that_took_a_worker_down_is_remembered_although_there_was_no_time_for_it(clock):
    crashes = []

    def deadly(**arguments):
        crashes.append(1)
        raise Killed

    def slow(**arguments):
        clock[0] += 70
        raise LookupError

    deliver(big_interview(), interview_event("1"))
    with (
        subscribed(event_received, deadly, dispatch_uid="deadly"),
        subscribed(event_received, slow, dispatch_uid="slow"),
    ):
        for task in range(40):
            with later(task * 4400), suppress(Killed):
                dispatch_pending(seconds=60)
    assert len(crashes) == 4  # once with no note of it, then as often as a receiver may
    assert outcome("deadly")["status"] == "failed"


def test_a_slow_receiver_that_fails_does_not_keep_the_next_one_from_its_turn(clock):
    """Its wait is over before the queue comes round again."""
    to = big_interview()
    for number in "123":
        deliver(to, interview_event(number, interview=number))
    with slow_and_other(clock, seconds=240, error=LookupError) as begun:
        for _ in range(9):
            with later(clock[0]):
                dispatch_pending(seconds=60)
    assert begun.index("other 1") <= 2


def test_what_is_given_back_is_as_it_was():
    """Also that a worker did not get done with it."""
    deliver(big_interview())
    claim()  # and this worker dies
    as_it_was = ReceivedEvent.objects.values().get()
    with later(61):
        dispatch_pending(seconds=0)
        assert ReceivedEvent.objects.values().get() == as_it_was
        (event,) = claim()
    assert event.was_unfinished


def test_an_event_that_there_was_no_time_for_keeps_its_place_before_the_next_of_its_object(clock):
    """Where the clock of the worker that began it is ahead, or was set back since."""
    to = big_interview()
    deliver(to, interview_event("1", "interview.created", at="2020-01-01T00:00:00.000Z"))
    deliver(to, interview_event("2", at="2020-01-02T00:00:00.000Z"))
    with slow_and_other(clock, seconds=30) as begun:
        with later(2):
            dispatch_pending(seconds=20)
        for _ in range(4):
            dispatch_pending(seconds=20)
    assert begun == ["slow 1", "other 1", "slow 2", "other 2"]
    assert set(ReceivedEvent.objects.values_list("status", flat=True)) == {"dispatched"}


def test_receivers_find_what_earlier_events_of_the_batch_said_of_the_object(batches):
    """Although it names no student."""
    to = big_interview()
    deliver(to, interview_event("1"))
    deliver(to, interview_event("2", "interview.deleted").replace(b'"abc123"', b"null"))
    found = []

    def look(event, **arguments):
        state = ObjectState.objects.get(key=event.object_key)
        found.append((event.vendor_event_id, state.data and state.data["id"]))

    with subscribed(event_received, look):
        dispatch_pending()
    assert batches == [2]
    assert found == [("1", None), ("2", "95607")]


def test_what_is_deleted_while_it_is_claimed_stops_no_other():
    """An event with its object's state, an event alone, a state alone, and a registration with all that it had."""
    to, gone = big_interview(), big_interview()
    for number in "1234":
        deliver(to, interview_event(number, interview=number))
    deliver(gone, interview_event("5", interview="5"))
    events = claim()
    ReceivedEvent.objects.filter(vendor_event_id__in="125").delete()
    ObjectState.objects.filter(object_id__in="135").delete()
    gone.delete()
    with subscribed(event_received, effect_of("good")):
        assert dispatch.dispatch(*events) == ["pending"] * 3 + ["dispatched", "pending"]
        with later():
            assert dispatch_pending() == {"dispatched": 1}
    assert effects() == ["3", "4"]


def test_a_batch_that_was_rolled_back_leaves_its_events_as_they_were(batches):
    """Receivers that run again find them as they were found the first time."""
    to = big_interview()
    for number in "12":
        deliver(to, interview_event(number, interview=number))
    seen = []

    def look(event, **arguments):
        seen.append((event.vendor_event_id, event.status, event.is_stale, event.event_type, hasattr(event, "note")))
        event.event_type = event.note = "changed"
        if len(seen) == 2:
            raise OperationalError(1213, "Deadlock found when trying to get lock")

    with subscribed(event_received, look):
        assert dispatch_pending() == {"dispatched": 2}
    assert seen == [(number, "pending", False, "interview.updated", False) for number in "1212"]


def test_a_batch_within_a_transaction_of_the_caller_leaves_that_alone(batches):
    """As in a TestCase, also where what a receiver does to another event has the batch done over."""
    to = big_interview()
    for number in "12":
        deliver(to, interview_event(number, interview=number))

    def deletes_the_other(event, **arguments):
        ReceivedEvent.objects.exclude(pk=event.pk).delete()

    with transaction.atomic(), subscribed(event_received, deletes_the_other):
        assert dispatch_pending() == {"dispatched": 1, "pending": 1}
        assert stored().vendor_event_id == "1"
    assert batches == [2]


def test_callbacks_run_after_the_commit_of_the_events_that_shared_a_transaction(batches):
    sent = []

    def send(event_id):
        sent.append((event_id, ReceivedEvent.objects.filter(status="dispatched").count()))

    def mails(event, **arguments):
        transaction.on_commit(partial(send, event.vendor_event_id))

    to = big_interview()
    for number in "123":
        deliver(to, interview_event(number, interview=number))
    with subscribed(event_received, mails):
        dispatch_pending()
    assert batches == [3]
    assert sent == [("1", 3), ("2", 3), ("3", 3)]


def test_a_transaction_takes_a_limited_number_of_events(batches, monkeypatch):
    """A worker that dies after the commit loses the callbacks of no more events."""
    monkeypatch.setattr(run, "MAX_TOGETHER", 2)
    monkeypatch.setattr(dispatch, "MAX_TOGETHER", 2)
    committed = []

    def look(event, **arguments):
        committed.append(ReceivedEvent.objects.filter(status="dispatched").count())

    to = big_interview()
    for number in "12345":
        deliver(to, interview_event(number, interview=number))
    with subscribed(event_received, look):
        assert dispatch_pending() == {"dispatched": 5}
    assert (batches, committed) == ([5, 3, 1], [0, 0, 2, 2, 4])
