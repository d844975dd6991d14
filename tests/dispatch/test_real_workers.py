"""Workers in separate processes on Redis and RabbitMQ: their clocks, their queues and their projects."""

import json
import os
import subprocess
import sys
from contextlib import ExitStack
from types import SimpleNamespace

import kombu
import pytest

from tests.helpers.servers import ServerMissing, provided
from tests.helpers.shared_servers import fresh_queue
from tests.helpers.stack import ROOT, Program
from tests.helpers.waiting import wait_until

pytestmark = pytest.mark.slow

#: Seconds by which the worker's clock is ahead. The stack's settings have a sweep every second.
AHEAD = 900

STORE = """
from django_bi_integration.models import WebhookRegistration
from django_bi_integration.webhooks.receive import receive
to, _ = WebhookRegistration.objects.get_or_create(name="x", vendor="big_interview")
receive(to, b'{"webhook": {"id": "1", "event_name": "interview.updated"}}')
"""
STATUS = "from django_bi_integration.models import *; print(ReceivedEvent.objects.get(vendor_event_id='1').status)"


def celery(app, kind, *arguments):
    return [sys.executable, "-m", "celery", f"--app={app}", kind, "--loglevel=INFO", *arguments]


@pytest.fixture(scope="module", params=["redis", "rabbitmq"])
def site(request, tmp_path_factory):
    """Run a worker whose clock is ahead, a beat whose clock is right, and another project's worker on its queue."""
    folder = tmp_path_factory.mktemp("workers")
    with ExitStack() as running:
        try:
            server = running.enter_context(provided(request.param))
        except ServerMissing as missing:
            pytest.skip(str(missing))
        queue = running.enter_context(fresh_queue(server))
        environment = {
            **os.environ,
            "CELERY_BROKER_URL": queue.url,
            "DATABASE_URL": f"sqlite:///{folder / 'db.sqlite3'}",
            "DJANGO_SECRET_KEY": "workers",
            "DJANGO_SETTINGS_MODULE": "tests.helpers.stack_settings",
            "TEST_STACK_QUEUE": queue.name,
        }

        def manage(*arguments, **variables):
            command = [sys.executable, "manage.py", *arguments]
            environ = {**environment, **variables}
            return subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=120)

        assert manage("migrate", "--verbosity=0").returncode == 0
        ours, theirs, other_queue = f"{queue.name}-ours@x", f"{queue.name}-theirs@x", f"{queue.name}_other"
        running.callback(remove_queue, queue.url, other_queue)
        without_django = {name: value for name, value in environment.items() if name != "DJANGO_SETTINGS_MODULE"}
        wrong = {**environment, "TEST_STACK_CLOCK_AHEAD": str(AHEAD)}
        commands = {
            "worker": (celery("example_project", "worker", f"--hostname={ours}", "--concurrency=1"), wrong),
            "beat": (celery("example_project", "beat", f"--schedule={folder / 'beat'}"), environment),
            "other project": (
                celery(
                    "tests.helpers.other_project",
                    "worker",
                    f"--hostname={theirs}",
                    "--concurrency=1",
                    f"-Q{other_queue}",
                ),
                without_django,
            ),
        }
        for name, (command, variables) in commands.items():
            ready = "beat: Starting" if name == "beat" else " ready."
            log = folder / f"{name}.log"
            program = Program(name, command, variables, log, lambda new, ready=ready: ready in new)
            running.callback(program.stop)
            program.start()
        yield SimpleNamespace(manage=manage, queue=queue, ours=ours, theirs=theirs, other_queue=other_queue)


def remove_queue(url, queue):
    with kombu.Connection(url) as connection:
        connection.default_channel.queue_delete(queue)
        connection.default_channel.exchange_delete(queue)


def examined(site, subject, about, **variables):
    """Return bi_doctor's findings about the subject whose message contains ``about``."""
    done = site.manage("bi_doctor", "--json", **variables)
    found = json.loads(done.stdout)["findings"]
    return [finding for finding in found if finding["subject"] == subject and about in finding["message"]]


def test_the_sweep_runs_on_a_worker_whose_clock_is_ahead(site):
    """The event's notification goes to another broker, so only the sweep can find the event."""
    done = site.manage("shell", "--no-imports", "-c", STORE, CELERY_BROKER_URL="memory://")
    assert done.returncode == 0, done.stderr
    wait_until(lambda: "dispatched" in site.manage("shell", "--no-imports", "-c", STATUS).stdout, every=0.5)


def test_the_doctor_names_a_worker_whose_clock_is_wrong(site):
    """The message says by how many seconds, and the remedy what to do."""
    (found,) = examined(site, "clocks", site.ours)
    seconds = int(found["message"].split(" seconds ahead")[0].split()[-1])
    assert AHEAD - 10 <= seconds <= AHEAD
    assert found["level"] == "warn"
    assert "NTP" in found["remedy"]


def test_the_doctor_names_the_queue_and_the_workers_that_consume_it(site):
    (found,) = examined(site, "workers", site.queue.name)
    assert found["level"] == "ok"
    assert found["message"] == f"these consume the queue “{site.queue.name}”: {site.ours}"


def test_the_doctor_fails_if_no_worker_consumes_the_queue(site):
    """Even though a worker responds, which consumes another queue."""
    (found,) = examined(site, "workers", "", TEST_STACK_ROUTED_TO="webhooks-of-nobody")
    assert found["level"] == "fail"
    assert "no worker of this project consumes the queue “webhooks-of-nobody”" in found["message"]
    assert f"{site.ours} ({site.queue.name})" in found["message"]
    assert "`-Q webhooks-of-nobody`" in found["remedy"]
    assert "CELERY_TASK_ROUTES" in found["remedy"]


def test_the_doctor_does_not_count_a_worker_of_another_project(site):
    """It consumes the queue, but does not have the task, and would discard the messages."""
    found = examined(site, "workers", "", TEST_STACK_ROUTED_TO=site.other_queue)
    assert [finding["level"] for finding in found] == ["fail", "fail"]
    assert f"{site.theirs} consume the queue “{site.other_queue}” without the task" in found[0]["message"]
    assert "CELERY_TASK_DEFAULT_QUEUE" in found[0]["remedy"]
    assert f"no worker of this project consumes the queue “{site.other_queue}”" in found[1]["message"]
