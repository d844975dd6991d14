"""Whatever fails under load, every acknowledged event is stored and dispatched, and each effect happens once.

All programs are real: gunicorn, Celery workers with beat, and database and broker servers that the tests may kill.
"""

import json
import random
import threading
import time
from collections import Counter
from contextlib import ExitStack
from datetime import UTC, datetime

import pytest

from fake_vendors import campaign, events
from fake_vendors.vendors import big_interview
from tests.helpers.deliveries import KEY
from tests.helpers.disposable_servers import disposable_server
from tests.helpers.stack import running_stack
from tests.helpers.waiting import wait_until

# In one process, one after the other, because each of them uses the whole machine.
pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("chaos")]

#: The vendor's wait of ten minutes takes five seconds, so that a server is restarted before the vendor gives up.
TIME_SCALE = 120

LOOK = """
import json
from django_bi_integration.models import ReceivedEvent
from tests.chaos.models import Count, Seen
print(json.dumps({
    "events": {row.pop("vendor_event_id"): row for row in ReceivedEvent.objects.values(
        "vendor_event_id", "status", "deliveries", "last_error", "attempts")},
    "counted": Count.objects.get().value,
    "seen": list(Seen.objects.values_list("event_id", flat=True)),
}))
"""
PENDING = """
from django_bi_integration.models import ReceivedEvent
print(ReceivedEvent.objects.filter(status="pending").count())
"""
PREPARE = """
from tests.chaos.models import Count
Count.objects.create(name="events")
"""


class Deployment:
    """The deployment under test, with its database and broker servers."""

    def __init__(self, stack, database, broker):
        self.stack, self.database, self.broker = stack, database, broker
        self.run_script(PREPARE)
        arguments = ["bi_register", "--vendor", "big_interview", "--name", "x", "--key", "-"]
        url = stack.url + json.loads(stack.manage(*arguments, stdin=KEY))["path"]
        self.vendor = big_interview(url, KEY, time_scale=TIME_SCALE)

    def run_script(self, script):
        """Run Python code in the deployment's shell, and return its output."""
        return self.stack.manage("shell", "--no-imports", "-c", script)

    def send(self, sent, **options):
        """Send events with the vendor's retries, check that each was acknowledged in the end, and return the log."""
        log = campaign.run([(self.vendor, event) for event in sent], threads=4, **options)
        assert log.given_up == set(), log.statuses()
        return log

    def pending(self):
        """Return the number of pending events."""
        return int(self.run_script(PENDING))

    def finish(self):
        """Wait until no event is pending, and return the events and effects.

        Raise TimeoutError if the number of pending events does not fall for 90 seconds.
        """
        while left := self.pending():
            wait_until(lambda left=left: self.pending() < left, timeout=90, every=0.5)
        return json.loads(self.run_script(LOOK))

    def assert_once(self, sent):
        """Check that every event is stored and dispatched, and that its effects happened exactly once."""
        found = self.finish()
        wanted = {event.event_id for event in sent}
        assert set(found["events"]) == wanted
        assert Counter(row["status"] for row in found["events"].values()) == {"dispatched": len(wanted)}
        assert found["counted"] == len(wanted)
        assert sorted(found["seen"]) == sorted(wanted)
        return found


@pytest.fixture(params=["postgres+redis", "mariadb+rabbitmq"])
def deploy(request, tmp_path_factory):
    """Return a function that deploys the example project on servers that the test may kill."""
    with ExitStack() as running:

        def made(**variables):
            folder = tmp_path_factory.mktemp("chaos")
            database, broker = (running.enter_context(disposable_server(kind)) for kind in request.param.split("+"))
            stack = running.enter_context(running_stack(database.server, broker.server, folder, **variables))
            request.node.funcargs["live_stack"] = stack  # adds its programs' output to the report of a failed test
            return Deployment(stack, database, broker)

        yield made


def some_events(number, title="Top 10 Questions"):
    """Return ``number`` events about different interviews of 50 students."""
    now = datetime.now(UTC)
    return [events.interview_created(index, f"student-{index % 50}", now, title=title) for index in range(number)]


def in_background(call):
    """Start a call in a thread, and return a function that waits for its result."""
    results = []
    thread = threading.Thread(target=lambda: results.append(call()))
    thread.start()

    def result():
        thread.join()
        assert results, "the call raised"
        return results[0]

    return result


def test_no_event_is_lost_or_repeated_while_workers_are_killed(deploy):
    """5,000 events, and at least twenty times SIGKILL at a random instant."""
    deployment = deploy()
    sent = some_events(5000)
    sending = in_background(lambda: deployment.send(sent))
    chance = random.Random(11)
    kills = 0
    while kills < 20 or deployment.pending() > 1500:
        time.sleep(chance.uniform(0, 1.5))  # crash at a random instant
        deployment.stack.worker.kill()
        deployment.stack.worker.start()
        kills += 1
    sending()
    deployment.assert_once(sent)


@pytest.mark.parametrize(
    ("interrupt", "restore"), [("crash", "start"), ("pause", "resume")], ids=["not running", "not answering"]
)
def test_the_broker_is_unavailable_under_load(deploy, interrupt, restore):
    """Most responses take less than a second. All events are dispatched once the broker is back."""
    deployment = deploy()
    getattr(deployment.broker, interrupt)()
    sent = some_events(300)
    log = deployment.send(sent)
    assert log.statuses() == {200: 300}
    seconds = sorted(attempt.seconds for attempts in log.attempts.values() for attempt in attempts)
    assert seconds[len(seconds) // 2] < 1, "requests waited for the broker; only a few may be slow, on a busy machine"
    getattr(deployment.broker, restore)()
    deployment.assert_once(sent)


def test_without_broker_and_worker_bi_dispatch_dispatches_everything(deploy):
    """As a cron job does."""
    deployment = deploy()
    deployment.broker.crash()
    deployment.stack.worker.kill()
    sent = some_events(300)
    assert deployment.send(sent).statuses() == {200: 300}
    assert json.loads(deployment.stack.manage("bi_dispatch", "--json"))["dispatched"] == 300
    deployment.assert_once(sent)
    deployment.broker.start()  # so that its queue can be deleted


def test_no_event_is_lost_if_the_database_crashes_under_load(deploy):
    """Vendors get a 503 or a broken connection, and their retries deliver every event."""
    deployment = deploy()
    sent = some_events(1500)
    attempts = []
    sending = in_background(lambda: deployment.send(sent, on_attempt=attempts.append))
    for reached in (300, 900):
        wait_until(lambda reached=reached: len(attempts) > reached, timeout=60)
        deployment.database.crash()
        rejected = len(attempts)
        wait_until(lambda rejected=rejected: len(attempts) > rejected + 4, timeout=60)
        deployment.database.start()
    log = sending()
    assert set(log.statuses()) <= {200, 503, None}
    assert log.statuses()[200] >= 1500
    assert sum(log.statuses().values()) > 1500, "no delivery failed, so the crash had no effect"
    deployment.assert_once(sent)


def test_web_processes_that_get_the_same_event_at_once_store_it_once(deploy):
    """Each event is delivered three times, concurrently."""
    deployment = deploy()
    sent = some_events(200)
    log = campaign.run([(deployment.vendor, event) for event in sent for _ in range(3)], threads=8)
    assert log.statuses() == {200: 600}
    found = deployment.assert_once(sent)
    # On MariaDB, a duplicate is acknowledged uncounted if a worker locks the event's row for more than a second.
    least = 1 if deployment.stack.database.version.startswith("MariaDB") else 3
    assert {row["deliveries"] for row in found["events"].values()} <= set(range(least, 4))


def test_receivers_that_raise_hang_exit_or_lose_the_connection_do_not_affect_others(deploy):
    """Their events end as failed with the reason. All other events and receivers take effect."""
    deployment = deploy(TEST_STACK_SOFT_TIME_LIMIT="3")
    reasons = {
        "raise": "LookupError: as asked",
        "hang": "SoftTimeLimitExceeded",
        "exit": "The worker died 3 times while this receiver ran.",
        "lose connection": "",
    }
    # Two of each in a row, because one task may dispatch both.
    harmful = [(title, event) for title in reasons for event in some_events(2, title)]
    healthy = some_events(100)
    sent = [*healthy[:50], *(event for _, event in harmful), *healthy[50:]]
    deployment.send(sent)
    found = deployment.finish()
    for event in healthy:
        assert found["events"][event.event_id]["status"] == "dispatched"
    for title, event in harmful:
        row = found["events"][event.event_id]
        assert (title, row["status"]) == (title, "failed")
        assert row["last_error"]
        assert reasons[title] in row["last_error"]
    assert found["counted"] == len(sent)
    assert sorted(found["seen"]) == sorted(event.event_id for event in sent)


def test_receivers_that_hang_in_one_batch_are_all_interrupted(deploy):
    """Celery's soft time limit interrupts a task only once. Each receiver is interrupted, and no worker is killed."""
    deployment = deploy(TEST_STACK_SOFT_TIME_LIMIT="3")
    deployment.stack.worker.kill()
    hanging = some_events(3, "hang")
    sent = [*some_events(10), *hanging, *some_events(10)]
    deployment.send(sent)
    deployment.stack.worker.start()
    found = deployment.finish()
    assert {found["events"][event.event_id]["status"] for event in hanging} == {"failed"}
    assert sorted(found["seen"]) == sorted(event.event_id for event in sent)
    assert "SoftTimeLimitExceeded" in deployment.stack.worker.output()
    assert "WorkerLostError" not in deployment.stack.worker.output()


def test_no_event_is_lost_or_repeated_by_a_deploy_under_load(deploy):
    """The web server and the worker get SIGTERM, finish their work, and are started again."""
    deployment = deploy()
    sent = some_events(1000)
    attempts = []
    sending = in_background(lambda: deployment.send(sent, on_attempt=attempts.append))
    for reached in (200, 500):
        wait_until(lambda reached=reached: len(attempts) > reached, timeout=60)
        for program in (deployment.stack.worker, deployment.stack.web):
            program.stop()
            program.start()
    sending()
    deployment.assert_once(sent)
