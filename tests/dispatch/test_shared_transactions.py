"""Quick events share a transaction, and are as independent of each other as in separate ones."""

from contextlib import suppress
from functools import partial

import pytest
from django.db import DatabaseError, OperationalError, connection, transaction

from django_bi_integration.dispatch import run, states
from django_bi_integration.dispatch import worker as dispatch
from django_bi_integration.dispatch.worker import dispatch_pending
from django_bi_integration.exceptions import GiveUp
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
from tests.helpers.receivers import continue_after_a_failed_query, effect_of, effects
from tests.host.models import Effect

# Receivers commit their effects, and some lose the connection.
pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.database]


def test_quick_events_share_a_transaction(django_assert_max_num_queries, monkeypatch):
    """Invariant 11: except for its receivers' statements and savepoints, all events together cost a few statements."""
    monkeypatch.setattr(run, "COMMIT_AFTER", 60)  # so that a slow machine commits as few times
    to = big_interview()
    with subscribed(event_received, effect_of("quick"), dispatch_uid="quick"):
        for number in range(30):
            deliver(to, interview_event(str(number), interview=str(number)))
        # A savepoint, its release, the effect, and the state after the event before, because the student is the same.
        with django_assert_max_num_queries(30 * 4 + 20):
            assert dispatch_pending() == {"dispatched": 30}
    assert len(effects("quick")) == 30


def test_each_event_of_a_shared_transaction_has_its_own_outcome(batches):
    """One statement stores all outcomes, so no error's text may be taken for SQL or for a part of an array."""
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


def test_storing_a_state_does_not_truncate_text_that_is_longer_than_its_column():
    """PostgreSQL and MariaDB raise an error, and SQLite stores the whole text."""
    deliver(big_interview())
    dispatch_pending()
    state = ObjectState.objects.get()
    state.subject_id = "x" * 300
    with suppress(DatabaseError):  # SQLite has no limit
        states._update_statement().execute([state])
    assert ObjectState.objects.get().subject_id in ("{partner_id}", "x" * 300)


def test_receivers_see_the_states_after_earlier_events_of_the_same_student(batches):
    """In a shared transaction, a receiver that queries a student's interviews finds those of the events before."""
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


def test_a_failure_in_a_shared_transaction_affects_no_other_event(batches):
    """Invariant 6: this applies to receivers of different events, too."""
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


def test_no_other_receiver_runs_again_if_one_continues_after_a_failed_query(batches):
    """Only that receiver's savepoint is rolled back, and the transaction continues."""
    calls = []

    def good(event, **arguments):
        calls.append(event.vendor_event_id)

    to = big_interview()
    for number in "123":
        deliver(to, interview_event(number, interview=number))
    with (
        subscribed(event_received, good, dispatch_uid="good"),
        subscribed(event_received, continue_after_a_failed_query, dispatch_uid="harm"),
    ):
        assert dispatch_pending() == {"pending": 3}
    assert (calls, batches) == (["1", "2", "3"], [3])


@pytest.mark.parametrize("ending", [transaction.commit, transaction.rollback])
def test_a_caller_without_autocommit_decides_whether_to_commit(ending):
    """Dispatch neither commits nor rolls back the caller's transaction."""
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


def test_events_that_were_not_started_again_after_a_lost_transaction_are_released(batches):
    """After the deadlock, the events run one by one until a receiver ends the worker. Only its event stays claimed."""
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


def test_receivers_see_the_state_after_earlier_events_of_the_same_object(batches):
    """Even if the later event names no student."""
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


def test_events_are_unchanged_after_a_rolled_back_transaction(batches):
    """A receiver that runs again gets the same values as the first time."""
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


def test_dispatch_works_inside_a_transaction_of_the_caller(batches):
    """For example in a TestCase, even if a receiver deletes another event of the batch, which then runs again."""
    to = big_interview()
    for number in "12":
        deliver(to, interview_event(number, interview=number))

    def deletes_the_other(event, **arguments):
        ReceivedEvent.objects.exclude(pk=event.pk).delete()

    with transaction.atomic(), subscribed(event_received, deletes_the_other):
        assert dispatch_pending() == {"dispatched": 1, "pending": 1}
        assert stored().vendor_event_id == "1"
    assert batches == [2]


def test_on_commit_callbacks_run_after_the_shared_transaction(batches):
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


def test_a_shared_transaction_has_a_limited_number_of_events(batches, monkeypatch):
    """A worker that dies just after the commit loses the on_commit callbacks of only so many events."""
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
