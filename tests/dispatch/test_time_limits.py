"""A task ends in time: no receiver starts after the time budget, and the remaining events keep their place."""

from contextlib import contextmanager, suppress
from types import SimpleNamespace

import pytest

from django_bi_integration.dispatch import run, separately
from django_bi_integration.dispatch import worker as dispatch
from django_bi_integration.dispatch.queue import claim
from django_bi_integration.dispatch.worker import dispatch_pending
from django_bi_integration.models import ReceivedEvent
from django_bi_integration.models import event as event_model
from django_bi_integration.signals import (
    event_received,
)
from tests.helpers.deliveries import (
    big_interview,
    deliver,
    interview_event,
    subscribed,
)
from tests.helpers.receivers import Killed, later, lose_connection, outcome

# Receivers commit their effects, and some lose the connection.
pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.database]


def test_a_task_without_time_left_releases_the_events_that_it_claimed():
    to = big_interview()
    for number in range(3):
        deliver(to, interview_event(str(number), interview=str(number)))
    assert dispatch_pending(seconds=0) == {}
    assert list(ReceivedEvent.objects.values_list("attempts", "claim")) == [(0, None)] * 3
    assert dispatch_pending() == {"dispatched": 3}


@pytest.fixture
def clock(monkeypatch):
    """Replace the monotonic clock of dispatch. Return a list with its time in seconds, which receivers increase."""
    seconds = [0.0]
    for module in (dispatch, run, separately):
        monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: seconds[0]))
    return seconds


@contextmanager
def slow_and_other(clock, *, seconds, error=None):
    """Connect two receivers, of which the first takes ``seconds`` and then may raise ``error``.

    Yield a list of the receivers' calls, in their order.
    """
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


def test_a_slow_event_ends_its_transaction(batches, clock, monkeypatch):
    """The slow event is committed together with those before it, and the events after it are committed separately."""
    monkeypatch.setattr(run, "COMMIT_AFTER", 10)
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
def test_a_task_starts_no_receiver_after_its_time_budget(was_unfinished, batches, clock):
    """Celery's soft time limit interrupts a task only once, so a second receiver that hangs would kill the worker."""
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


def test_a_body_is_parsed_once_however_often_a_transaction_ends_early(clock, monkeypatch):
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
def test_no_receiver_is_started_again_if_its_transaction_is_lost_after_the_time_budget(number, batches, clock):
    """It would hang once more, and no time limit would interrupt it. The claim expires instead."""
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


def test_a_receivers_crashes_are_still_counted_after_a_task_without_time_for_it(clock):
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
    assert len(crashes) == 4  # one crash in a batch, which counts none, and then as many as a receiver may have
    assert outcome("deadly")["status"] == "failed"


def test_a_slow_receiver_that_is_retried_does_not_keep_the_next_receiver_from_running(clock):
    """Its retry is due before the other events are done, so each task could be used up by it."""
    to = big_interview()
    for number in "123":
        deliver(to, interview_event(number, interview=number))
    with slow_and_other(clock, seconds=240, error=LookupError) as begun:
        for _ in range(9):
            with later(clock[0]):
                dispatch_pending(seconds=60)
    assert begun.index("other 1") <= 2


def test_an_event_without_time_left_keeps_its_place_before_the_next_of_its_object(clock):
    """Even if the clock of the worker that started it is ahead, or was set back since."""
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
