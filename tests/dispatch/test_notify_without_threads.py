"""Workers are notified at once, even by web processes whose threads stop between requests."""

import json
import os
import signal
import subprocess
import sys
from contextlib import closing, contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from itertools import takewhile
from threading import Lock

import pytest
import redis

from django_bi_integration.operations.doctor import examine
from tests.helpers.deliveries import CREATED, KEY
from tests.helpers.http_servers import answering
from tests.helpers.servers import ServerMissing, free_port, provided
from tests.helpers.shared_servers import fresh_queue
from tests.helpers.stack import ROOT, Program
from tests.helpers.waiting import wait_until
from tests.helpers.web_servers import MISSING, SERVERS, listens

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("without threads")]

SECRET = "without threads"
UWSGI = "--http-socket=127.0.0.1:{port} --module=example_project.wsgi --master --die-on-term --need-app"
GUNICORN = "--bind=127.0.0.1:{port} example_project.wsgi"


@pytest.fixture(scope="module")
def queue():
    try:
        with provided("redis") as server, fresh_queue(server) as queue:
            yield queue
    except ServerMissing as missing:
        pytest.skip(str(missing))


@dataclass
class Site:
    environment: dict[str, str]
    path: str
    queue: object

    def messages(self):
        """Return the number of notifications that wait for a worker."""
        with closing(redis.Redis.from_url(self.queue.url)) as client:
            return client.llen(self.queue.name)


@pytest.fixture(scope="module")
def shared(queue, tmp_path_factory):
    environment = {
        **os.environ,
        "CELERY_BROKER_URL": queue.url,
        "DATABASE_URL": f"sqlite:///{tmp_path_factory.mktemp('web') / 'db.sqlite3'}",
        "DJANGO_SECRET_KEY": SECRET,
        "DJANGO_SETTINGS_MODULE": "tests.helpers.stack_settings",
        "PYTHONPATH": str(ROOT),
        "TEST_STACK_QUEUE": queue.name,
    }

    def manage(*arguments):
        command = [sys.executable, "manage.py", *arguments]
        return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True).stdout

    manage("migrate", "--verbosity=0")
    made = manage("bi_register", "--vendor", "big_interview", "--name", "Test", "--key", KEY)
    return Site(environment, json.loads(made)["path"], queue)


@pytest.fixture
def site(shared):
    """Return the site with an empty queue."""
    with closing(redis.Redis.from_url(shared.queue.url)) as client:
        client.delete(shared.queue.name)
    return shared


@contextmanager
def running(program, arguments, site, tmp_path, **variables):
    """Run the server. The context is its port and its process."""
    port = free_port()
    command = [program, *arguments.format(port=port).split()]
    web = Program(program, command, {**site.environment, **variables}, tmp_path / "log", lambda _: listens(port))
    web.start()
    try:
        yield port, web.process
    finally:
        os.killpg(web.process.pid, signal.SIGCONT)
        web.stop()


def deliver(port, site, body=CREATED):
    connection = HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("POST", site.path, body, {"Authorization": KEY})
    return connection.getresponse().status


@pytest.mark.parametrize("options", ["", "--enable-threads"])
@pytest.mark.parametrize("program", ["newest", "older"])
def test_a_single_delivery_under_uwsgi_notifies_a_worker(program, options, site, tmp_path):
    """Without --enable-threads, uWSGI before 2.0.27 runs no thread between requests. TEST_OLD_UWSGI is its path."""
    if program == "newest":
        server = SERVERS[-1]
        path = f"{os.path.dirname(sys.executable)}/uwsgi" if server.version else None  # noqa: PTH120
        reason = MISSING.format(server.distribution)
    else:
        path, reason = os.environ.get("TEST_OLD_UWSGI"), "no uWSGI before 2.0.27 here (set TEST_OLD_UWSGI to its path)"
    if path is None:
        pytest.skip(reason)
    with running(path, f"{UWSGI} {options}", site, tmp_path) as (port, _):
        assert deliver(port, site) == 200
        wait_until(site.messages, timeout=5)


def gunicorn():
    return f"{os.path.dirname(sys.executable)}/gunicorn"  # noqa: PTH120


@pytest.mark.parametrize("platform", ["AWS_LAMBDA_FUNCTION_NAME", "K_SERVICE"])
def test_a_process_that_is_frozen_after_each_response_notifies_a_worker_before_it_responds(platform, site, tmp_path):
    with running(gunicorn(), GUNICORN, site, tmp_path, **{platform: "university"}) as (port, process):
        assert deliver(port, site) == 200
        os.killpg(process.pid, signal.SIGSTOP)
        assert site.messages() == 1


def thawing(port, process):
    """Run a proxy to a process that is stopped while it has no request. The context is the proxy's URL."""
    one_by_one = Lock()

    def forward(path, headers, body):
        with one_by_one:
            os.killpg(process.pid, signal.SIGCONT)
            connection = HTTPConnection("127.0.0.1", port, timeout=60)
            connection.request("POST", path, body, {**headers, "Connection": "close"})
            answer = connection.getresponse()
            content = answer.read()
            os.killpg(process.pid, signal.SIGSTOP)
        return answer.status, [("Allow", answer.headers["Allow"])], content

    return answering(forward)


@pytest.mark.parametrize(
    ("variables", "frozen", "found"),
    [
        ({}, True, ("warn", "the web process sent none within 2 seconds")),
        ({"K_SERVICE": "x"}, True, ("ok", "the web process notifies workers before it answers")),
        ({}, False, ("ok", "the web process notifies workers")),
    ],
    ids=["frozen", "frozen on a known platform", "running"],
)
def test_bi_doctor_reports_whether_the_web_process_notifies_workers(variables, frozen, found, site, tmp_path, settings):
    settings.SECRET_KEY = SECRET
    with running(gunicorn(), GUNICORN, site, tmp_path, **variables) as (port, process), thawing(port, process) as url:
        findings = takewhile(
            lambda one: one.subject != "broker", examine(url if frozen else f"http://127.0.0.1:{port}")
        )
        answers = [(one.level, one.message.partition(",")[0]) for one in findings if one.subject == "notifications"]
    assert answers == [found]
