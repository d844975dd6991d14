"""Only the receiver that raises is retried, with growing pauses, until it succeeds or has no attempt left."""

from datetime import timedelta

import pytest
from django.utils import timezone

from django_bi_integration.dispatch.outcomes import back_off
from django_bi_integration.dispatch.worker import dispatch_pending
from django_bi_integration.exceptions import GiveUp, RetryLater
from django_bi_integration.models import ReceivedEvent
from django_bi_integration.recovery import retry_failed
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
from tests.helpers.receivers import effect_of, effects, later, outcome
from tests.host.models import Effect

# Receivers commit their effects, and some lose the connection.
pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.database]


def test_only_the_receiver_that_raises_is_retried():
    """Invariant 6: nine receivers are done at the first attempt, and only the tenth is retried."""
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


def test_the_pauses_between_attempts_double_up_to_their_limit(settings):
    settings.BI_INTEGRATION = {"RETRY_FIRST_SECONDS": 10, "RETRY_LIMIT_SECONDS": 60}
    for attempts, seconds in [(1, 10), (2, 20), (3, 40), (4, 60), (100, 60)]:
        assert 0.8 * seconds <= back_off(attempts).total_seconds() <= 1.2 * seconds


def test_a_receiver_that_raises_retry_later_is_retried_after_the_given_seconds():
    def busy(**arguments):
        raise RetryLater("the register is locked until noon", after=7200)

    deliver(big_interview())
    with subscribed(event_received, busy, dispatch_uid="busy"):
        dispatch_pending()
    wait = stored().next_attempt_at - timezone.now()
    assert timedelta(seconds=7100) < wait <= timedelta(seconds=7200)
    assert outcome("busy")["error"] == "RetryLater: the register is locked until noon"


def test_a_receiver_that_raises_give_up_fails_at_the_first_attempt():
    def hopeless(**arguments):
        raise GiveUp("not one of our students")

    deliver(big_interview())
    with subscribed(event_received, hopeless, dispatch_uid="hopeless"):
        assert dispatch_pending() == {"failed": 1}
    assert (stored().attempts, outcome("hopeless")["status"]) == (1, "failed")


def test_retrying_a_failed_event_runs_only_its_failed_receivers():
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
