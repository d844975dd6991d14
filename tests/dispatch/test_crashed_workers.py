"""Workers that crash: another worker takes over their events, and a receiver that crashes workers fails in the end."""

import math
from contextlib import ExitStack

import pytest
from django.db import connection

from django_bi_integration.dispatch import run
from django_bi_integration.dispatch import worker as dispatch
from django_bi_integration.dispatch.queue import claim
from django_bi_integration.dispatch.worker import dispatch_pending
from django_bi_integration.exceptions import RetryLater
from django_bi_integration.models import ObjectState, ReceivedEvent
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
from tests.helpers.receivers import Killed, effect_of, effects, later

# Receivers commit their effects, and some lose the connection.
pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.database]


def test_a_receiver_that_crashes_workers_fails_and_the_others_are_done():
    """Other events are dispatched, and the outcome names the receiver that crashed the worker."""
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
def test_a_receiver_that_ends_its_worker_releases_the_other_events(commit_after, left, monkeypatch):
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
    with later(61):
        dispatch_pending()
    assert set(ReceivedEvent.objects.exclude(status="pending").values_list("interruptions", flat=True)) == {0}


def test_an_event_that_no_worker_survives_fails(settings):
    """Each worker crashes outside any receiver, so no receiver's outcome counts the crashes, but the event does."""
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
    assert event.last_error == "No worker survived any of the last 8 attempts."
    assert (event.claim, event.interruptions) == (None, 0), "a retry by hand would have fewer attempts"


def test_another_worker_claims_the_events_of_a_crashed_one_after_the_lease(settings):
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


def test_retries_do_not_count_as_crashes(settings):
    """After many attempts for receivers that raise RetryLater, a single crash does not make the event fail."""
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
        assert stored().attempts > 12, "the event had no more attempts than workers may crash on it"
        with later(1500):
            assert len(claim()) == 1  # and this worker dies
        with later(1600):
            dispatch_pending()
    assert (stored().status, stored().interruptions) == ("pending", 0)


def test_a_worker_whose_claim_ran_out_leaves_no_effect(caplog):
    """Invariant 5: if two workers have the same event, only the one that holds the claim commits."""
    deliver(big_interview(), '{"webhook": {"id": "1", "event_name": "x"}}')
    (slow,) = claim()
    with subscribed(event_received, effect_of("good")):
        with later(61):
            assert dispatch_pending() == {"dispatched": 1}
        assert dispatch.dispatch(slow) == ["pending"]
    assert f"event {slow.pk}: the claim ran out, another worker has it" in caplog.messages
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


def test_a_released_event_is_as_it_was_before_the_claim():
    """It is still marked as unfinished by an earlier worker."""
    deliver(big_interview())
    claim()  # and this worker dies
    as_it_was = ReceivedEvent.objects.values().get()
    with later(61):
        dispatch_pending(seconds=0)
        assert ReceivedEvent.objects.values().get() == as_it_was
        (event,) = claim()
    assert event.was_unfinished


def test_deleting_rows_while_their_events_are_claimed_stops_no_other_event():
    """Deleted are an event with its object's state, only an event, only a state, and a registration."""
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
