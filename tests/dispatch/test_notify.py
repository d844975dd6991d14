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
    """A broker that accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_a_delivery_wakes_the_worker(celery_worker_thread):
    """From the request to the receiver, through a real worker."""
    received = Recorder()
    with subscribed(event_received, received):
        deliver(big_interview())
        wait_until(lambda: stored().status == "dispatched")
    assert received.events == ["123456789"]


def test_a_repeat_wakes_the_worker_too(celery_worker_thread):
    """The first delivery's notification may have been lost."""
    to = big_interview()
    with transaction.atomic():  # as if its process had died between the commit and the notification
        deliver(to)
        transaction.get_connection().run_on_commit.clear()
    assert stored().status == "pending"
    deliver(to)
    wait_until(lambda: stored().status == "dispatched")


def test_the_sweep_finds_what_no_notify_worker_reached(celery_worker_thread, monkeypatch):
    """Invariant 4: what beat sends is the same task."""
    monkeypatch.setattr(notifier, "request", lambda: None)
    deliver(big_interview())
    (entry,) = beat_schedule().values()
    assert entry["schedule"] == 10
    notifier.app.send_task(entry["task"], **entry["options"])
    wait_until(lambda: stored().status == "dispatched")


def test_a_sweep_outlives_any_difference_between_two_clocks():
    """Beat sets the limit by its clock; a worker compares it with another clock."""
    for seconds in (1, 10, 7200):
        (entry,) = beat_schedule(seconds=seconds).values()
        assert entry["options"]["expires"] >= max(3600, seconds)


@pytest.mark.parametrize(
    "setting",
    [{"task_annotations": {TASK: {"queue": "webhooks"}}}, {"task_routes": {"django_bi_integration.*": "webhooks"}}],
    ids=["annotation", "route"],
)
def test_a_notification_goes_to_the_queue_that_a_sweep_goes_to(setting):
    """Whether a route or the task's own options say so."""
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
    own = Notifier()
    own.use(notifier.app)
    own.app.conf.task_always_eager = True
    monkeypatch.setattr("django_bi_integration.dispatch.notify.notifier", own)
    yield
    own.app.conf.task_always_eager = False


def test_in_eager_mode_the_delivery_dispatches_by_itself(eager):
    deliver(big_interview())
    assert stored().status == "dispatched"


def test_a_task_whose_time_is_over_asks_for_another(monkeypatch):
    asked = []
    monkeypatch.setattr("django_bi_integration.tasks.notify_worker", lambda: asked.append(True))
    deliver(big_interview())
    dispatch()
    assert (asked, stored().status) == ([], "dispatched")
    monkeypatch.setattr("django_bi_integration.tasks.TIME_BUDGET", 0)
    dispatch()
    assert asked == [True]


@pytest.mark.parametrize("limit", ["soft_time_limit", "time_limit"])
def test_a_task_ends_well_before_either_limit_of_the_hosts(limit, monkeypatch):
    given = []
    monkeypatch.setattr("django_bi_integration.tasks.dispatch_pending", lambda seconds, horizon: given.append(seconds))
    monkeypatch.setattr(dispatch, limit, 20)
    dispatch()
    assert given == [5]


def test_a_silent_broker_holds_nobody(silent_broker):
    """Invariant 4: against a publish in the request, which such a broker holds for minutes."""
    own = Notifier()
    own.use(Celery("silent", broker=f"redis://127.0.0.1:{silent_broker}/0", set_as_current=False))
    before = time.monotonic()
    own.request()
    own.request()
    elapsed = time.monotonic() - before
    assert not own.wait(0.3), "the broker cannot have taken it"
    assert elapsed < 5, "asking waited for an answer that never came"
    daemons = {thread.name: thread.daemon for thread in threading.enumerate()}
    assert daemons["django_bi_integration notifier"], "a process could not exit meanwhile"


@pytest.fixture
def frozen_between_requests(monkeypatch):
    """A platform that stops the process after each response."""
    monkeypatch.setenv("AWS_LAMBDA_FUNCTION_NAME", "university")


def test_a_process_that_is_frozen_between_requests_notifies_before_it_answers(frozen_between_requests):
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
    """As uWSGI's own module reports its version and its options, which are bytes or text."""
    own = Notifier()
    own.use(Celery("fast", broker="memory://localhost/", set_as_current=False))
    sent = []
    own.app.send_task = lambda *arguments, **more: (time.sleep(0.2), sent.append(threading.current_thread()))
    monkeypatch.setattr("django_bi_integration.dispatch.notify.uwsgi", SimpleNamespace(version=version, opt=options))
    own.request()
    assert bool(sent) == waits
    assert own.wait(10)


def test_a_silent_broker_holds_only_one_request_of_such_a_process(frozen_between_requests, silent_broker):
    """Invariant 4: no request waits longer than a second, and those after it do not wait at all."""
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


def test_a_broker_that_rejects_is_asked_once_in_a_while_by_such_a_process(frozen_between_requests):
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


def test_a_machine_without_a_thread_to_spare_loses_no_delivery(monkeypatch):
    """Invariant 1: what is stored is answered with 200; a later delivery asks again."""
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


def test_without_a_celery_app_nothing_is_published(monkeypatch):
    """Celery would make one up, on a broker of this machine that may be somebody else's."""
    own = Notifier()
    own.use(Celery("default", broker="memory://localhost/", set_as_current=False))
    monkeypatch.setattr(own.app, "send_task", lambda *arguments, **options: pytest.fail("published"))
    own.request()
    assert own.wait(0)


def test_an_outage_is_logged_once_and_its_end_too(caplog, unused_port):
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


def test_a_broker_that_is_away_is_asked_less_and_less():
    """Each attempt takes time from the deliveries that the process answers meanwhile."""
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
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]
