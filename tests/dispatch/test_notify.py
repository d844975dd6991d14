"""Notifications: published from a thread, so that no request waits, and harmless if they are lost."""

import logging
import socket
import threading
import time
from itertools import pairwise
from types import SimpleNamespace

import pytest
from celery import Celery
from django.db import transaction

from django_bi_integration.dispatch.notify import TASK, Notifier, notifier
from django_bi_integration.schedule import beat_schedule
from django_bi_integration.signals import event_received
from django_bi_integration.tasks import dispatch
from tests.helpers.deliveries import Recorder, big_interview, deliver, stored, subscribed
from tests.helpers.waiting import wait_until

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def silent_broker():
    """Return the port of a broker that accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_a_delivery_notifies_the_worker(celery_worker_thread):
    """A real worker then dispatches the event to its receiver."""
    received = Recorder()
    with subscribed(event_received, received):
        deliver(big_interview())
        wait_until(lambda: stored().status == "dispatched")
    assert received.events == ["123456789"]


def test_a_duplicate_notifies_the_worker_too(celery_worker_thread):
    """The first delivery's notification may have been lost."""
    to = big_interview()
    with transaction.atomic():  # as if its process had crashed between the commit and the notification
        deliver(to)
        transaction.get_connection().run_on_commit.clear()
    assert stored().status == "pending"
    deliver(to)
    wait_until(lambda: stored().status == "dispatched")


def test_the_sweep_finds_an_event_whose_notification_was_lost(celery_worker_thread, monkeypatch):
    """Invariant 4: beat sends the same task."""
    monkeypatch.setattr(notifier, "request", lambda: None)
    deliver(big_interview())
    (entry,) = beat_schedule().values()
    assert entry["schedule"] == 10
    notifier.app.send_task(entry["task"], **entry["options"])
    wait_until(lambda: stored().status == "dispatched")


def test_a_sweeps_message_does_not_expire_within_an_hour():
    """Beat sets the time by its clock, and a worker compares it with another clock, which may be wrong."""
    for seconds in (1, 10, 7200):
        (entry,) = beat_schedule(seconds=seconds).values()
        assert entry["options"]["expires"] >= max(3600, seconds)


@pytest.mark.parametrize(
    "setting",
    [{"task_annotations": {TASK: {"queue": "webhooks"}}}, {"task_routes": {"django_bi_integration.*": "webhooks"}}],
    ids=["annotation", "route"],
)
def test_a_notification_goes_to_the_same_queue_as_a_sweep(setting):
    """Whether a route or an annotation of the task names the queue."""
    app = Celery("university", broker="memory://", set_as_current=False)
    app.conf.update(setting)
    own = Notifier()
    own.use(app)
    with app.connection_for_write() as connection:
        queue = connection.SimpleQueue("webhooks")
        queue.clear()
        own.request()
        assert own.wait(30)
        app.tasks[TASK].apply_async()  # as beat does
        assert queue.qsize() == 2
        queue.clear()


@pytest.fixture
def eager(monkeypatch):
    """Have Celery run tasks in the process that sends them."""
    own = Notifier()
    own.use(notifier.app)
    own.app.conf.task_always_eager = True
    monkeypatch.setattr("django_bi_integration.dispatch.notify.notifier", own)
    yield
    own.app.conf.task_always_eager = False


def test_in_eager_mode_the_web_process_dispatches_the_event(eager):
    deliver(big_interview())
    assert stored().status == "dispatched"


def test_a_task_whose_time_budget_is_used_up_notifies_a_worker_again(monkeypatch):
    asked = []
    monkeypatch.setattr("django_bi_integration.tasks.notify_worker", lambda: asked.append(True))
    deliver(big_interview())
    dispatch()
    assert (asked, stored().status) == ([], "dispatched")
    monkeypatch.setattr("django_bi_integration.tasks.TIME_BUDGET", 0)
    dispatch()
    assert asked == [True]


@pytest.mark.parametrize("limit", ["soft_time_limit", "time_limit"])
def test_the_time_budget_is_a_quarter_of_the_host_projects_time_limit(limit, monkeypatch):
    """So that neither the soft nor the hard limit interrupts the task."""
    given = []
    monkeypatch.setattr("django_bi_integration.tasks.dispatch_pending", lambda seconds, horizon: given.append(seconds))
    monkeypatch.setattr(dispatch, limit, 20)
    dispatch()
    assert given == [5]


def test_a_silent_broker_delays_no_request(silent_broker):
    """Invariant 4: if the request itself published, such a broker would delay it for minutes."""
    own = Notifier()
    own.use(Celery("silent", broker=f"redis://127.0.0.1:{silent_broker}/0", set_as_current=False))
    before = time.monotonic()
    own.request()
    own.request()
    elapsed = time.monotonic() - before
    assert not own.wait(0.3), "a broker that never answers cannot have accepted the notification"
    assert elapsed < 5, "the request waited for an answer that never came"
    daemons = {thread.name: thread.daemon for thread in threading.enumerate()}
    assert daemons["django_bi_integration notifier"], "a process could not exit meanwhile"


@pytest.fixture
def frozen_between_requests(monkeypatch):
    """Pretend to run on a platform that stops the process after each response."""
    monkeypatch.setenv("AWS_LAMBDA_FUNCTION_NAME", "university")


def test_a_process_that_is_frozen_between_requests_notifies_before_it_responds(frozen_between_requests):
    own = Notifier()
    own.use(Celery("fast", broker="memory://localhost/", set_as_current=False))
    sent = []
    own.app.send_task = lambda name, *arguments, **options: (time.sleep(0.05), sent.append(name))
    for number in (1, 2, 3):
        own.request()
        assert sent == ["django_bi_integration.dispatch"] * number


@pytest.mark.parametrize(
    ("version", "options", "waits"),
    [
        (b"2.0.26", {}, True),
        (b"2.0.9", {b"processes": b"2"}, True),
        (b"2.0.26", {b"enable-threads": True}, False),
        (b"2.0.26", {b"threads": b"2"}, False),
        (b"2.0.27", {}, False),
        (b"2.1", {}, False),
        (b"2.0.26.1", {"enable-threads": True}, False),
    ],
)
def test_under_a_uwsgi_whose_threads_stop_a_request_waits_for_its_notification(monkeypatch, version, options, waits):
    """uWSGI's Python module reports the version and the options, as bytes or text."""
    own = Notifier()
    own.use(Celery("fast", broker="memory://localhost/", set_as_current=False))
    sent = []
    own.app.send_task = lambda *arguments, **more: (time.sleep(0.2), sent.append(threading.current_thread()))
    monkeypatch.setattr("django_bi_integration.dispatch.notify.uwsgi", SimpleNamespace(version=version, opt=options))
    own.request()
    assert bool(sent) == waits
    assert own.wait(10)


def test_a_silent_broker_delays_only_the_first_request_of_a_frozen_process(frozen_between_requests, silent_broker):
    """Invariant 4: it waits for about a second, and the requests after it do not wait at all."""
    own = Notifier()
    own.use(Celery("silent", broker=f"redis://127.0.0.1:{silent_broker}/0", set_as_current=False))
    waits = []
    for _ in range(20):
        before = time.monotonic()
        own.request()
        waits.append(time.monotonic() - before)
    assert waits[0] < 5
    assert sum(waits[1:]) < 0.5
    daemons = {thread.name: thread.daemon for thread in threading.enumerate()}
    assert daemons["django_bi_integration notifier"], "a process could not exit meanwhile"


def test_a_frozen_process_tries_an_unavailable_broker_only_once_in_each_interval(frozen_between_requests):
    own = Notifier()
    own.use(Celery("down", broker="memory://localhost/", set_as_current=False))
    attempts = []

    def reject(*arguments, **options):
        attempts.append(True)
        raise ConnectionRefusedError

    own.app.send_task = reject
    for _ in range(20):
        own.request()
    assert len(attempts) == 1
    own.LONGEST_INTERVAL = 0
    own.request()
    assert len(attempts) == 2


def test_a_delivery_is_a_200_even_if_no_thread_can_start(monkeypatch):
    """Invariant 1: the event is stored. A later delivery sends the notification."""
    own = Notifier()
    own.use(notifier.app)
    monkeypatch.setattr("django_bi_integration.dispatch.notify.notifier", own)
    start = threading.Thread.start

    def reject(thread):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", reject)
    to = big_interview()
    assert deliver(to).status_code == 200
    monkeypatch.setattr(threading.Thread, "start", start)
    assert deliver(to).status_code == 200
    assert own.wait(10)


def test_no_notification_is_published_by_celerys_default_app(monkeypatch):
    """If a project has no app, Celery creates this one, on a local broker that may belong to another project."""
    own = Notifier()
    own.use(Celery("default", broker="memory://localhost/", set_as_current=False))
    monkeypatch.setattr(own.app, "send_task", lambda *arguments, **options: pytest.fail("published"))
    own.request()
    assert own.wait(0)


def test_a_brokers_outage_is_logged_once_and_its_end_once(caplog, unused_port):
    caplog.set_level(logging.INFO, "django_bi_integration")
    own = Notifier()
    own.use(Celery("down", broker=f"redis://127.0.0.1:{unused_port}/0", set_as_current=False))
    for _ in range(3):
        own.request()
        assert own.wait(10)
    own.use(Celery("up", broker="memory://localhost/", set_as_current=False))
    own.request()
    assert own.wait(10)
    texts = [record.getMessage() for record in caplog.records if record.name.endswith("notify")]
    assert len(texts) == 2
    assert texts[0].startswith("workers were not notified, the sweep will dispatch")
    assert texts[1] == "workers are notified again"


def test_the_pauses_between_attempts_on_an_unavailable_broker_double_up_to_their_limit():
    """Each attempt takes time from the requests that the process handles meanwhile."""
    own = Notifier()
    own.INTERVAL, own.LONGEST_INTERVAL = 0.01, 0.08
    own.use(Celery("unavailable", broker="memory://localhost/", set_as_current=False))
    attempts = []

    def reject(*arguments, **options):
        attempts.append(time.monotonic())
        if len(attempts) < 6:
            raise ConnectionRefusedError

    own.app.send_task = reject
    wait_until(lambda: own.request() or len(attempts) >= 7)
    pauses = [later - earlier for earlier, later in pairwise(attempts)]
    assert [pause >= least for pause, least in zip(pauses, [0.02, 0.04, 0.08, 0.08, 0.08], strict=False)] == [True] * 5
    assert own.wait(60)


@pytest.fixture
def unused_port():
    """Return a port on which no server listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]
