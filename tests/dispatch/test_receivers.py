"""Which receivers an event is sent to, their arguments, and the names of their outcomes."""

from functools import partial

import pytest

from django_bi_integration.dispatch.worker import dispatch_pending
from django_bi_integration.models import ReceivedEvent, WebhookRegistration
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
from tests.helpers.receivers import effect_of, effects, later, outcome
from tests.host.models import Effect

# Receivers commit their effects, and some lose the connection.
pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.database]


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


def test_an_unknown_event_is_sent_only_as_event_received():
    """Invariant 8: its receivers get no typed data."""
    everything, created = Recorder(), Recorder()
    deliver(big_interview(), '{"webhook": {"id": "1", "event_name": "resume.scored"}}')
    with subscribed(event_received, everything), subscribed(interview_created, created):
        assert dispatch_pending() == {"dispatched": 1}
    assert (everything.data, created.calls) == (None, [])


def test_six_deliveries_of_one_event_call_a_receiver_once():
    """Invariant 3: a duplicate is only counted, before and after the dispatch."""
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


def test_the_name_of_a_receiver_is_its_dotted_path_or_its_uid():
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
        "tests.dispatch.test_receivers.Portal.method",
        "tests.dispatch.test_receivers.function",
        "tests.dispatch.test_receivers.function #2",
        "tests.dispatch.test_receivers.function #3",
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


def test_outcomes_with_fields_of_a_newer_version_can_be_loaded():
    """During a deployment, workers of two versions run at the same time."""
    deliver(big_interview(), interview_event("1"))
    ReceivedEvent.objects.update(receiver_results={"new": {"status": "done", "attempts": 1, "mood": "sunny"}})
    with subscribed(event_received, effect_of("new"), dispatch_uid="new"):
        assert dispatch_pending() == {"dispatched": 1}
    assert effects() == []


def test_a_receiver_that_was_removed_from_the_code_does_not_block_the_event():
    def bad(**arguments):
        raise LookupError

    deliver(big_interview())
    with subscribed(event_received, bad, dispatch_uid="bad"):
        dispatch_pending()
    with later():
        assert dispatch_pending() == {"dispatched": 1}
    assert outcome("bad")["status"] == "retry"


def test_logs_contain_neither_payload_nor_error_text(caplog):
    def bad(**arguments):
        raise LookupError("secret detail of a student")

    deliver(big_interview())
    with subscribed(event_received, bad):
        dispatch_pending()
    (record,) = [record for record in caplog.records if record.name.startswith("django_bi_integration")]
    assert "LookupError" in record.getMessage()
    assert "secret" not in caplog.text


def test_a_receivers_name_is_at_most_200_characters_of_its_dispatch_uid():
    deliver(big_interview())
    with subscribed(event_received, effect_of("long"), dispatch_uid="x" * 300):
        assert dispatch_pending() == {"dispatched": 1}
    assert list(stored().receiver_results) == ["x" * 200]


def test_the_duration_of_a_receiver_is_a_number_of_milliseconds_above_zero():
    deliver(big_interview())
    with subscribed(event_received, Recorder(), dispatch_uid="quick"):
        dispatch_pending()
    duration = outcome("quick")["duration_ms"]
    assert isinstance(duration, float)
    assert duration > 0
