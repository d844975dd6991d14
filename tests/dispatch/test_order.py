"""Events of one object are dispatched one at a time, in the vendor's order: invariant 7."""

import json

import pytest

from django_bi_integration.dispatch import queue
from django_bi_integration.dispatch import worker as dispatch
from django_bi_integration.dispatch.queue import claim
from django_bi_integration.dispatch.worker import dispatch_pending
from django_bi_integration.exceptions import GiveUp
from django_bi_integration.models import ObjectState, ReceivedEvent
from django_bi_integration.recovery import retry_failed
from django_bi_integration.signals import (
    event_received,
)
from tests.helpers.deliveries import (
    Recorder,
    big_interview,
    deliver,
    deliver_completion,
    innovative_educators,
    interview_event,
    subscribed,
)
from tests.helpers.receivers import later

# Receivers commit their effects, and some lose the connection.
pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.database]


def test_events_of_one_interview_are_dispatched_in_the_vendors_order():
    """Invariant 7: not in the order of receipt. A deletion comes last, a creation first among events of its time."""
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


@pytest.mark.parametrize("order", ["12", "21"])
def test_an_event_that_a_worker_left_unfinished_keeps_its_place(order):
    """Invariant 7: the crashed worker had claimed both events, or only the older one. The newer one waits for it."""
    to = big_interview()
    made = {number: interview_event(number, at=f"2020-01-0{number}T00:00:00.000Z") for number in "12"}
    deliver(to, made[order[0]])
    if order == "12":
        assert len(claim()) == 1  # and this worker dies
    deliver(to, made[order[1]])
    if order == "21":
        assert len(claim()) == 2  # and this worker dies
    received = Recorder()
    with subscribed(event_received, received), later(61):
        assert dispatch_pending() == {"dispatched": 2}
    assert received.events == ["1", "2"]
    assert not ReceivedEvent.objects.filter(is_stale=True).exists()


def test_a_deletion_comes_last_although_its_time_is_older():
    """Big Interview's deletions before 2015-07-16 contain the interview, whose time may be older."""
    to = big_interview()
    deliver(to, interview_event("1", at="2020-01-02T00:00:00.000Z"))
    dispatch_pending()
    deliver(to, interview_event("2", at="2020-01-01T00:00:00.000Z").replace(b"interview.updated", b"interview.deleted"))
    dispatch_pending()
    assert not ReceivedEvent.objects.filter(is_stale=True).exists()
    state = ObjectState.objects.get()
    assert (state.is_deleted, state.newest_at.day) == (True, 2)
    assert (state.object_type, state.object_id, state.subject_id) == ("Interview", "95607", "abc123")
    assert state.registration == to


@pytest.mark.parametrize("same_receivers_again", [False, True], ids=["retry", "run again by hand"])
def test_a_retry_does_not_revert_the_state(same_receivers_again):
    """Of two changes with equal times, the one dispatched later stays the newest when the other one is retried."""
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


def test_events_are_dispatched_first_come_first_served_across_objects():
    """A deletion comes last of its object, but waits for no other object. A released event keeps its place."""
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


def test_an_object_with_more_events_than_a_claim_delays_no_other(monkeypatch):
    monkeypatch.setattr(queue, "MAX_CLAIM", 3)
    to = big_interview()
    deliver(to, interview_event("first", interview="7", at="2030-01-01T00:00:00.000Z"))
    for number in range(1, 8):
        deliver(to, interview_event(str(number), at=f"2020-01-0{number}T00:00:00.000Z"))
    assert [event.vendor_event_id for event in claim()] == ["first"]
    assert [event.vendor_event_id for event in claim()] == ["1", "2", "3"]


def test_an_event_without_a_time_comes_last_even_if_its_object_has_more_events_than_a_claim(monkeypatch):
    monkeypatch.setattr(queue, "MAX_CLAIM", 2)
    to = big_interview()
    deliver(to, interview_event("timeless", at="never").replace(b'"created_at"', b'"x"'))
    assert ReceivedEvent.objects.get().occurred_at is None
    for number in (1, 2):
        deliver(to, interview_event(str(number), at=f"2020-01-0{number}T00:00:00.000Z"))
    received = Recorder()
    with subscribed(event_received, received):
        assert dispatch_pending() == {"dispatched": 3}
    assert received.events == ["1", "2", "timeless"]


def test_an_event_older_than_one_that_was_dispatched_is_stale():
    """Invariant 7: it is dispatched nevertheless, and receivers can see that it is stale."""
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


def test_events_that_are_dispatched_after_a_deletion_are_stale_even_if_they_are_newer():
    to = big_interview()
    for event_id, name in [("1", "interview.deleted"), ("2", "interview.created"), ("3", "interview.updated")]:
        deliver(to, interview_event(event_id, name, at="2030-01-01T00:00:00.000Z"))
        dispatch_pending()
    assert list(ReceivedEvent.objects.order_by("pk").values_list("is_stale", flat=True)) == [False, True, True]
    assert ObjectState.objects.get().is_deleted


def test_a_creation_that_is_dispatched_after_an_update_of_the_same_time_is_stale():
    to = big_interview()
    for event_id, name in [("1", "interview.updated"), ("2", "interview.created")]:
        deliver(to, interview_event(event_id, name))
        dispatch_pending()
    assert ReceivedEvent.objects.get(vendor_event_id="2").is_stale


def test_a_retried_event_is_stale_only_if_a_newer_event_was_dispatched_meanwhile():
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


def test_with_the_setting_skip_stale_no_receiver_runs_for_a_stale_event(settings):
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


def test_no_event_of_an_interview_is_claimed_while_another_one_is():
    """Invariant 7: events of other interviews are claimed meanwhile."""
    to = big_interview()
    deliver(to, interview_event("1"))
    (first,) = claim()
    deliver(to, interview_event("2"))
    deliver(to, interview_event("3", interview="7"))
    assert [event.vendor_event_id for event in claim()] == ["3"]
    dispatch.dispatch(first)
    assert [event.vendor_event_id for event in claim()] == ["2"]


def test_events_of_different_interviews_are_claimed_together():
    to = big_interview()
    for number in range(5):
        deliver(to, interview_event(str(number), interview=str(number)))
    assert len(claim()) == 5


def test_the_object_state_has_the_newest_data_until_the_object_is_deleted():
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
