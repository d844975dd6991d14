"""Celery's pools with real workers: which of them run sync and async receivers, and how an unsupported one fails."""

import json
import os
import subprocess
import sys
from contextlib import ExitStack

import pytest

from tests.helpers.servers import ServerMissing, provided
from tests.helpers.shared_servers import fresh_database, fresh_queue
from tests.helpers.stack import ROOT, Program
from tests.helpers.waiting import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("pools")]

EVENTS, TASKS = 60, 10

FILL = f"""
from django_bi_integration.models import WebhookRegistration
from django_bi_integration.tasks import dispatch
from django_bi_integration.webhooks.receive import receive
from tests.chaos.models import Count
from tests.helpers.deliveries import interview_event
Count.objects.create(name="events")
to = WebhookRegistration.objects.create(name="x", vendor="big_interview")
for number in range({EVENTS}):
    receive(to, interview_event(str(number), interview=str(number)))
for number in range({TASKS}):
    dispatch.delay()
"""
LOOK = """
import json
from django_bi_integration.models import ReceivedEvent
from tests.chaos.models import Count, Seen
print(json.dumps({
    "statuses": list(ReceivedEvent.objects.values_list("status", flat=True)),
    "errors": sorted(set(ReceivedEvent.objects.values_list("last_error", flat=True))),
    "counted": Count.objects.get().value,
    "seen": Seen.objects.count(),
}))
"""


class Host:
    """The example project on a separate database and queue, without a web server."""

    def __init__(self, environment, folder):
        self.environment, self.folder = environment, folder

    def manage(self, *arguments):
        command = [sys.executable, "manage.py", *arguments]
        done = subprocess.run(command, cwd=ROOT, env=self.environment, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def look(self):
        return json.loads(self.manage("shell", "--no-imports", "-c", LOOK))

    def worker(self, pool):
        command = [sys.executable, "-m", "celery", "--app=example_project", "worker", f"--pool={pool}"]
        command += ["--concurrency=4", "--loglevel=INFO", f"--hostname={pool}-{os.getpid()}@%h"]
        return Program(pool, command, self.environment, self.folder / "log", lambda new: " ready." in new)


@pytest.fixture
def host(tmp_path):
    with ExitStack() as running:
        try:
            database, broker = (running.enter_context(provided(name)) for name in ("postgres", "redis"))
        except ServerMissing as missing:
            pytest.skip(str(missing))
        queue = running.enter_context(fresh_queue(broker))
        environment = {
            **os.environ,
            "CELERY_BROKER_URL": queue.url,
            "DATABASE_URL": running.enter_context(fresh_database(database)),
            "DJANGO_SECRET_KEY": queue.name,
            "DJANGO_SETTINGS_MODULE": "tests.helpers.stack_settings",
            "TEST_STACK_COROUTINES": "1",
            "TEST_STACK_QUEUE": queue.name,
        }
        made = Host(environment, tmp_path)
        made.manage("migrate", "--verbosity=0")
        made.manage("shell", "--no-imports", "-c", FILL)
        yield made


def dispatched_by(host, pool):
    """Run a worker until no event is pending. Return what LOOK prints about the database, and the worker's output."""
    worker = host.worker(pool)
    worker.start()
    try:

        def finished():
            found = host.look()
            return None if "pending" in found["statuses"] else found

        return wait_until(finished, timeout=120, every=0.5), worker.output()
    finally:
        worker.stop()


@pytest.mark.parametrize("pool", ["prefork", "solo", "threads"])
def test_async_receivers_run_in_pools_of_processes_and_threads(pool, host):
    found, output = dispatched_by(host, pool)
    assert found["statuses"] == ["dispatched"] * EVENTS
    assert (found["counted"], found["seen"]) == (EVENTS, 2 * EVENTS)
    assert "Traceback" not in output


@pytest.mark.parametrize("pool", ["gevent", "eventlet"])
def test_a_pool_of_greenlets_runs_sync_receivers_and_fails_async_ones_with_a_clear_error(pool, host):
    """They fail at the first attempt. The other receivers' effects happen once, and no task raises."""
    pytest.importorskip(pool, reason=f"{pool} is not installed")
    found, output = dispatched_by(host, pool)
    assert found["statuses"] == ["failed"] * EVENTS
    (error,) = found["errors"]
    assert error.startswith(f"UnsupportedPool: An async receiver cannot run in a process that {pool} has patched")
    assert "--pool=prefork" in error
    assert (found["counted"], found["seen"]) == (EVENTS, EVENTS)
    assert "Traceback" not in output
