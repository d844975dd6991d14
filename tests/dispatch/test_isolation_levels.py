"""PostgreSQL at REPEATABLE READ and SERIALIZABLE: after a serialization failure, dispatch runs again, uncounted."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import count

import pytest
from django.db import DatabaseError, connection, connections
from django.utils import timezone

from django_bi_integration.dispatch.queue import claim
from django_bi_integration.dispatch.worker import dispatch_pending
from django_bi_integration.models import ObjectState, ReceivedEvent
from django_bi_integration.signals import event_received, interview_updated
from tests.helpers.deliveries import big_interview, deliver, interview_event, stored, subscribed
from tests.helpers.receivers import later
from tests.helpers.waiting import wait_until
from tests.host.models import Counter, Effect
from tests.invariants.test_concurrency import together

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.database,
    pytest.mark.skipif("connection.vendor != 'postgresql'", reason="other databases' levels raise no such errors"),
]

#: More statements than any dispatch here executes, so that the loop ends with a run that no conflict interrupts.
MOST = 60


@pytest.fixture(params=["repeatable read", "serializable"], autouse=True)
def level(request):
    """Set the isolation level of all connections, as a host project does."""
    options = connection.settings_dict["OPTIONS"]
    options["options"] = f"-c default_transaction_isolation={request.param.replace(' ', chr(92) + ' ')}"
    connections.close_all()
    yield request.param
    del options["options"]
    connections.close_all()


def in_another_transaction(call):
    """Run the call in a transaction on another connection, and return its result."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(together, call).result(30)


@contextmanager
def conflict_before(number):
    """Change the event and its object's state in another transaction before the statement with this number.

    Locked rows are not changed, because no conflict is possible then. Yield a list that contains the number as soon as
    that statement is reached.
    """
    statements = count(1)

    def change():
        with connection.cursor() as cursor:
            cursor.execute("SET lock_timeout = '20ms'")
            for model, column in (ReceivedEvent, "deliveries"), (ObjectState, "object_type"):
                try:
                    cursor.execute(f"UPDATE {model._meta.db_table} SET {column} = {column}")
                except DatabaseError:
                    continue

    reached = []

    def wrapper(execute, *arguments):
        if next(statements) == number:
            reached.append(number)
            in_another_transaction(change)
        return execute(*arguments)

    with connection.execute_wrapper(wrapper):
        yield reached


def effect(event, **arguments):
    Effect.objects.create(receiver="one", event_id=event.vendor_event_id)


def nothing(**arguments):
    pass


@pytest.mark.parametrize("was_unfinished", [False, True], ids=["together", "one by one"])
def test_a_conflict_at_any_statement_is_not_counted(was_unfinished):
    """No attempt, failure or crash is counted, and the effect happens once."""
    to = big_interview()
    for number in range(1, MOST):
        for model in (ReceivedEvent, ObjectState, Effect):
            model.objects.all().delete()
        deliver(to, interview_event("1"))
        if was_unfinished:
            assert len(claim()) == 1  # and this worker dies
        with (
            subscribed(event_received, effect, dispatch_uid="one"),
            subscribed(interview_updated, nothing, dispatch_uid="two"),
            later(61),
            conflict_before(number) as reached,
        ):
            assert dispatch_pending() == {"dispatched": 1}
        event = stored()
        assert (event.status, event.attempts, event.interruptions) == ("dispatched", 1 + was_unfinished, 0)
        results = event.receiver_results.values()
        assert {(result["status"], result["attempts"], result["crashes"]) for result in results} == {("done", 1, 0)}
        assert Effect.objects.count() == 1
        if not reached:
            return
    pytest.fail(f"more than {MOST} statements")


class Contended:
    """A receiver that reads a row, which another transaction changes before the receiver writes it.

    This happens in the first ``conflicts`` calls.
    """

    def __init__(self, conflicts):
        self.conflicts = conflicts
        self.calls = 0

    def __call__(self, event, **arguments):
        self.calls += 1
        row = Counter.objects.get()
        if self.calls <= self.conflicts:
            in_another_transaction(lambda: Counter.objects.update(value=0))
        row.value += 1
        row.save()


@pytest.mark.parametrize("was_unfinished", [False, True], ids=["together", "one by one"])
def test_a_receiver_with_a_conflict_runs_again_and_its_effect_happens_once(was_unfinished):
    Counter.objects.create(name="x")
    deliver(big_interview(), interview_event("1"))
    if was_unfinished:
        assert len(claim()) == 1  # and this worker dies
    contended = Contended(conflicts=3)
    with subscribed(event_received, contended, dispatch_uid="contended"), later(61):
        assert dispatch_pending() == {"dispatched": 1}
    result = stored().receiver_results["contended"]
    assert (result["attempts"], result["crashes"], stored().interruptions) == (1, 0, 0)
    assert (Counter.objects.get().value, contended.calls) == (1, 4)


@pytest.mark.parametrize("was_unfinished", [False, True], ids=["together", "one by one"])
def test_an_event_with_endless_conflicts_waits_for_a_later_attempt_and_nothing_is_counted(was_unfinished):
    """Its error names the reason, and the worker goes on with other events meanwhile."""
    Counter.objects.create(name="x")
    deliver(big_interview(), interview_event("1"))
    if was_unfinished:
        assert len(claim()) == 1  # and this worker dies
    contended = Contended(conflicts=1_000)
    with (
        subscribed(event_received, contended, dispatch_uid="contended"),
        subscribed(event_received, effect, dispatch_uid="one"),
    ):
        with later(61):
            before = stored()
            assert dispatch_pending() == {"pending": 1}
            waiting = stored()
            assert (waiting.attempts, waiting.interruptions, waiting.claim) == (
                before.attempts, before.interruptions, before.claim,
            )  # fmt: skip
            assert waiting.next_attempt_at > timezone.now()
            assert "serialization failures" in waiting.last_error
            assert (waiting.receiver_results["contended"]["status"], Effect.objects.count()) == ("new", 0)
            assert dispatch_pending() == {}
        contended.conflicts = 0
        with later(121):
            assert dispatch_pending() == {"dispatched": 1}
    assert (stored().status, stored().attempts, stored().last_error) == ("dispatched", before.attempts + 1, "")
    assert stored().receiver_results["contended"]["attempts"] == 1
    assert (Counter.objects.get().value, Effect.objects.count()) == (1, 1)


def test_four_workers_whose_receivers_increment_one_row_count_each_event_once(settings):
    settings.BI_INTEGRATION = {"RETRY_FIRST_SECONDS": 1}
    Counter.objects.create(name="x")
    to = big_interview()
    for number in range(40):
        deliver(to, interview_event(str(number), interview=str(number)))

    def add(event, **arguments):
        row = Counter.objects.get()
        row.value += 1
        row.save()

    def work():
        wait_until(lambda: not (dispatch_pending() or ReceivedEvent.objects.filter(status="pending").exists()))

    with subscribed(event_received, add, dispatch_uid="add"):
        together(*[work] * 4)
    assert Counter.objects.get().value == 40
    assert set(ReceivedEvent.objects.values_list("status", "attempts", "interruptions")) == {("dispatched", 1, 0)}
    results = [event.receiver_results["add"] for event in ReceivedEvent.objects.all()]
    assert {(result["attempts"], result["crashes"]) for result in results} == {(1, 0)}
