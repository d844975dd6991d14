"""Whatever is taken away under load: acknowledged = stored = dispatched, and each receiver's effect counted once.

Real programs all of them: gunicorn, Celery workers and beat, and database and broker servers of the tests' own.
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
from tests.helpers.own_servers import own
from tests.helpers.stack import running_stack
from tests.helpers.waiting import wait_until

# In one process, one after the other: each of them loads the machine by itself.
pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("chaos")]

#: Ten minutes between two attempts become five seconds: a server comes back before its vendor gives up.
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
    """The deployment under test, with the servers beneath it."""

    def __init__(self, stack, database, broker):
        self.stack, self.database, self.broker = stack, database, broker
        self.ask(PREPARE)
        arguments = ["bi_register", "--vendor", "big_interview", "--name", "x", "--key", "-"]
        url = stack.url + json.loads(stack.manage(*arguments, stdin=KEY))["path"]
        self.vendor = big_interview(url, KEY, time_scale=TIME_SCALE)

    def ask(self, script):
        return self.stack.manage("shell", "--no-imports", "-c", script)

    def send(self, sent, **options):
        """Send with the vendor's retries; the log. It fails unless everything was acknowledged in the end."""
        log = campaign.run([(self.vendor, event) for event in sent], threads=4, **options)
        assert log.given_up == set(), log.statuses()
        return log

    def pending(self):
        return int(self.ask(PENDING))

    def finish(self):
        """Wait until nothing is pending, as long as ever fewer are; what is in the database then."""
        while left := self.pending():
            wait_until(lambda left=left: self.pending() < left, timeout=90, every=0.5)
        return json.loads(self.ask(LOOK))

    def assert_once(self, sent):
        """Every event stored and dispatched, and its effects counted exactly once."""
        found = self.finish()
        wanted = {event.event_id for event in sent}
        assert set(found["events"]) == wanted
        assert Counter(row["status"] for row in found["events"].values()) == {"dispatched": len(wanted)}
        assert found["counted"] == len(wanted)
        assert sorted(found["seen"]) == sorted(wanted)
        return found


@pytest.fixture(params=["postgres+redis", "mariadb+rabbitmq"])
def deploy(request, tmp_path_factory):
    """Makes a deployment on servers of its own, which the test may kill."""
    with ExitStack() as running:

        def made(**variables):
            folder = tmp_path_factory.mktemp("chaos")
            database, broker = (running.enter_context(own(kind)) for kind in request.param.split("+"))
            stack = running.enter_context(running_stack(database.server, broker.server, folder, **variables))
            request.node.funcargs["live_stack"] = stack  # its programs' output is shown where a test fails
            return Deployment(stack, database, broker)

        yield made


def some_events(number, title="Top 10 Questions"):
    now = datetime.now(UTC)
    return [events.interview_created(index, f"student-{index % 50}", now, title=title) for index in range(number)]


def in_background(call):
    """Start the call in a thread; a function that waits for it and gives its result."""
    results = []
    thread = threading.Thread(target=lambda: results.append(call()))
    thread.start()

    def result():
        thread.join()
        assert results, "the call raised"
        return results[0]

    return result


def test_workers_killed_at_random_instants(deploy):
    """5,000 events, a worker killed with -9 twenty times and more."""
    deployment = deploy()
    sent = some_events(5000)
    sending = in_background(lambda: deployment.send(sent))
    chance = random.Random(11)
    kills = 0
    while kills < 20 or deployment.pending() > 1500:
        time.sleep(chance.uniform(0, 1.5))  # the instant of the crash is what is random here
        deployment.stack.worker.kill()
        deployment.stack.worker.start()
        kills += 1
    sending()
    deployment.assert_once(sent)


@pytest.mark.parametrize(("take_away", "bring_back"), [("crash", "start"), ("freeze", "thaw")], ids=["gone", "silent"])
def test_the_broker_is_away_for_the_whole_load(deploy, take_away, bring_back):
    """Requests are answered 200 in under a second; the broker's return is enough for the rest."""
    deployment = deploy()
    getattr(deployment.broker, take_away)()
    sent = some_events(300)
    log = deployment.send(sent)
    assert log.statuses() == {200: 300}
    seconds = sorted(attempt.seconds for attempts in log.attempts.values() for attempt in attempts)
    assert seconds[len(seconds) // 2] < 1, "the broker held requests; a busy machine may hold some"
    getattr(deployment.broker, bring_back)()
    deployment.assert_once(sent)


def test_there_never_is_a_broker(deploy):
    """Cron's bi_dispatch alone."""
    deployment = deploy()
    deployment.broker.crash()
    deployment.stack.worker.kill()
    sent = some_events(300)
    assert deployment.send(sent).statuses() == {200: 300}
    assert json.loads(deployment.stack.manage("bi_dispatch", "--json"))["dispatched"] == 300
    deployment.assert_once(sent)
    deployment.broker.start()  # so that its queue can be tidied away


def test_the_database_crashes_under_load(deploy):
    """Senders see 503 or a broken connection, and their retries bring everything."""
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
    assert sum(log.statuses().values()) > 1500, "nothing was rejected: the database was not missed"
    deployment.assert_once(sent)


def test_web_processes_race_for_the_same_ids(deploy):
    """Each event three times, at once."""
    deployment = deploy()
    sent = some_events(200)
    log = campaign.run([(deployment.vendor, event) for event in sent for _ in range(3)], threads=8)
    assert log.statuses() == {200: 600}
    found = deployment.assert_once(sent)
    # On MariaDB, one that meets its event in a worker's hands for a second is acknowledged without being counted.
    least = 1 if deployment.stack.database.version.startswith("MariaDB") else 3
    assert {row["deliveries"] for row in found["events"].values()} <= set(range(least, 4))


def test_receivers_that_raise_hang_end_their_process_or_lose_their_connection(deploy):
    """The queue goes on; what cannot succeed ends failed with its reason; the other receivers' effects are there."""
    deployment = deploy(TEST_STACK_SOFT_TIME_LIMIT="3")
    reasons = {
        "raise": "LookupError: as asked",
        "hang": "SoftTimeLimitExceeded",
        "exit": "The worker died 3 times while this receiver ran.",
        "lose connection": "",
    }
    # Each twice, one after the other: a task may meet the second one, too.
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


def test_receivers_that_hang_one_after_the_other(deploy):
    """All that waits is one batch, and a time limit interrupts once in a task: each is interrupted, none is killed."""
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


def test_a_deploy_in_the_middle_of_the_load(deploy):
    """Web and worker are stopped as a deploy stops them, warmly, and started again."""
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
