"""A backup or a report holds an old snapshot open: no dead row is removed, and the queue goes on as before."""

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
    """Make this a worker process that has just started; so does each call."""

    def start():
        monkeypatch.setattr(tasks, "horizon", horizon.Horizon())

    start()
    return start


def entries_read():
    """How many entries of the indexes over events were read so far, dead ones too."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_stat_force_next_flush()")
        cursor.execute(
            "SELECT sum(idx_tup_read) FROM pg_stat_user_indexes WHERE relname = %s", [ReceivedEvent._meta.db_table]
        )
        return int(cursor.fetchone()[0])


def receive_and_dispatch(to, numbers):
    """Have the task dispatch these events; how many entries of indexes that read."""
    for number in numbers:
        receive(to, interview_event(str(number), interview=str(number)))
    before = entries_read()
    tasks.dispatch.apply()
    read = entries_read() - before
    assert not ReceivedEvent.objects.filter(status="pending").exists()
    return read


@pytest.mark.skipif("connection.vendor != 'postgresql'", reason="only PostgreSQL counts what it reads of an index")
def test_claims_do_not_walk_over_what_was_dispatched_long_ago(restart):
    """Only a full look does, which a process takes now and then."""
    to = big_interview()
    with snapshot():
        receive_and_dispatch(to, range(MANY))
        with time_machine.travel(timezone.now() + timedelta(minutes=2)):
            restart()
            tasks.dispatch.apply()  # a full look, at nothing
            read = receive_and_dispatch(to, range(MANY, MANY + FEW))
    assert read < MANY


def test_what_has_been_due_for_long_is_found_by_the_next_full_look(monkeypatch):
    """An event that was given back, or whose web server's clock is far behind."""
    monkeypatch.setattr(horizon, "FULL_SEARCH_INTERVAL", 0.2)
    monkeypatch.setattr(horizon, "FULL_SEARCH_SHARE", 0)
    tasks.dispatch.apply()
    with time_machine.travel(timezone.now() - timedelta(hours=1)):
        receive(big_interview(), interview_event("late"))

    def is_dispatched():
        tasks.dispatch.apply()
        return ReceivedEvent.objects.get().status == "dispatched"

    wait_until(is_dispatched)


def test_what_has_been_due_for_long_waits_for_the_next_full_look():
    """A worker that has just looked at everything does not look that far back, one that has just started does."""
    own = horizon.Horizon()
    dispatch_pending(horizon=own)
    with time_machine.travel(timezone.now() - timedelta(hours=1)):
        receive(big_interview(), interview_event("late"))
    assert dispatch_pending(horizon=own) == {}
    assert dispatch_pending(horizon=horizon.Horizon()) == {"dispatched": 1}


def test_a_clock_that_is_set_back_hides_nothing():
    """The worker looks at everything then."""
    tasks.dispatch.apply()
    with time_machine.travel(timezone.now() - timedelta(days=1)):
        receive(big_interview(), interview_event("1"))
        tasks.dispatch.apply()
    assert ReceivedEvent.objects.get().status == "dispatched"
