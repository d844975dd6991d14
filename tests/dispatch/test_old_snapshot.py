"""While a backup or report keeps an old snapshot open, no dead row is removed, and the queue works as before.

A worker therefore searches only recent entries of the index, and all of them ("a full search") in intervals.
"""

from datetime import timedelta

import pytest
import time_machine
from django.db import connection
from django.utils import timezone

from django_bi_integration import tasks
from django_bi_integration.dispatch import horizon
from django_bi_integration.dispatch.worker import dispatch_pending
from django_bi_integration.models import ReceivedEvent
from django_bi_integration.webhooks.receive import receive
from tests.helpers.deliveries import big_interview, interview_event
from tests.helpers.snapshot import snapshot
from tests.helpers.waiting import wait_until

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.database]

MANY, FEW = 400, 20


@pytest.fixture(autouse=True)
def restart(monkeypatch):
    """Let this process act as a worker that has just started. Each call of the returned function does so again."""

    def start():
        monkeypatch.setattr(tasks, "horizon", horizon.Horizon())

    start()
    return start


def entries_read():
    """Return the number of index entries of events that were read so far, including dead ones."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_stat_force_next_flush()")
        cursor.execute(
            "SELECT sum(idx_tup_read) FROM pg_stat_user_indexes WHERE relname = %s", [ReceivedEvent._meta.db_table]
        )
        return int(cursor.fetchone()[0])


def receive_and_dispatch(to, numbers):
    """Receive events, dispatch them, and return the number of index entries that the dispatch read."""
    for number in numbers:
        receive(to, interview_event(str(number), interview=str(number)))
    before = entries_read()
    tasks.dispatch.apply()
    read = entries_read() - before
    assert not ReceivedEvent.objects.filter(status="pending").exists()
    return read


@pytest.mark.skipif("connection.vendor != 'postgresql'", reason="only PostgreSQL counts the index entries it reads")
def test_claims_do_not_read_the_index_entries_of_events_dispatched_long_ago(restart):
    """Only a full search does."""
    to = big_interview()
    with snapshot():
        receive_and_dispatch(to, range(MANY))
        with time_machine.travel(timezone.now() + timedelta(minutes=2)):
            restart()
            tasks.dispatch.apply()  # a full search, which finds nothing
            read = receive_and_dispatch(to, range(MANY, MANY + FEW))
    assert read < MANY


def test_an_event_that_has_been_due_for_long_is_found_by_the_next_full_search(monkeypatch):
    """For example, one that was released, or one from a web server whose clock is far behind."""
    monkeypatch.setattr(horizon, "FULL_SEARCH_INTERVAL", 0.2)
    monkeypatch.setattr(horizon, "FULL_SEARCH_SHARE", 0)
    tasks.dispatch.apply()
    with time_machine.travel(timezone.now() - timedelta(hours=1)):
        receive(big_interview(), interview_event("late"))

    def is_dispatched():
        tasks.dispatch.apply()
        return ReceivedEvent.objects.get().status == "dispatched"

    wait_until(is_dispatched)


def test_an_event_that_has_been_due_for_long_waits_for_the_next_full_search():
    """A worker that has just done a full search does not look that far back, but one that has just started does."""
    own = horizon.Horizon()
    dispatch_pending(horizon=own)
    with time_machine.travel(timezone.now() - timedelta(hours=1)):
        receive(big_interview(), interview_event("late"))
    assert dispatch_pending(horizon=own) == {}
    assert dispatch_pending(horizon=horizon.Horizon()) == {"dispatched": 1}


def test_a_worker_finds_a_new_event_after_its_clock_was_set_back():
    """It does a full search then."""
    tasks.dispatch.apply()
    with time_machine.travel(timezone.now() - timedelta(days=1)):
        receive(big_interview(), interview_event("1"))
        tasks.dispatch.apply()
    assert ReceivedEvent.objects.get().status == "dispatched"
