"""Deliveries, forged headers and a receiver that raises, under each installed web server."""

import json
import sqlite3
import subprocess
import sys
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, nullcontext, suppress
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from itertools import takewhile

import pytest

from django_bi_integration.operations.doctor import examine
from tests.helpers import servers_table
from tests.helpers.deliveries import COMPLETED, CREATED, KEY
from tests.helpers.http_servers import answering
from tests.helpers.stack import ROOT, Program
from tests.helpers.web_servers import MISSING, PROXY, SERVERS, WebServer

pytestmark = pytest.mark.slow

VENDOR, STRANGER = "127.0.0.2", "127.0.0.3"
KINDS = ("default", "behind", "wrong")
SECRET = "web servers"

SET_UP = f"""
import io, json
from django.core.management import call_command
call_command("migrate", verbosity=0)
paths = []
for options in ({{"vendor": "innovative_educators", "allow": ["{VENDOR}"]}}, {{"vendor": "big_interview", "key": "{KEY}"}}):
    out = io.StringIO()
    call_command("bi_register", name="Test", stdout=out, **options)
    paths.append(json.loads(out.getvalue())["path"])
print(json.dumps(paths))
"""  # noqa: E501


@dataclass
class Site:
    """The project on a separate database."""

    environment: dict[str, str]
    database: str
    by_address: str
    by_key: str


@dataclass
class Running:
    """One server, started once for each of KINDS: with its defaults, behind a proxy, and with unsafe options."""

    server: WebServer
    site: Site
    programs: dict[str, Program]
    ports: dict[str, int]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    database = tmp_path_factory.mktemp("web") / "db.sqlite3"
    environment = {
        "CELERY_BROKER_URL": "memory://localhost/",
        "DATABASE_URL": f"sqlite:///{database}",
        "DJANGO_SECRET_KEY": SECRET,
        "DJANGO_SETTINGS_MODULE": "tests.helpers.web_server_settings",
    }
    command = [sys.executable, "manage.py", "shell", "--no-imports", "-c", SET_UP]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    return Site(environment, str(database), *json.loads(done.stdout))


# All tests of a server run in one pytest-xdist process, so that it is started only once.
GROUPS = [pytest.param(server, marks=pytest.mark.xdist_group(server.name), id=server.name) for server in SERVERS]


@pytest.fixture(scope="module", params=GROUPS)
def running(request, site, tmp_path_factory):
    server = request.param
    if server.version is None:
        pytest.skip(MISSING.format(server.distribution))
    folder = tmp_path_factory.mktemp("server")
    started = {kind: server.program(kind, folder, site.environment) for kind in KINDS}
    with ExitStack() as programs, ThreadPoolExecutor(len(KINDS)) as together:
        for program, _ in started.values():
            programs.callback(program.stop)
        list(together.map(lambda made: made[0].start(), started.values()))
        yield Running(
            server,
            site,
            {kind: program for kind, (program, _) in started.items()},
            {kind: port for kind, (_, port) in started.items()},
        )


def connect(running, kind, client):
    return HTTPConnection("127.0.0.1", running.ports[kind], timeout=60, source_address=(client, 0))


def send(connection, path, *headers, body, chunked=False):
    """Post on the connection, and return the status of the response."""
    connection.putrequest("POST", path)
    for name, value in headers:
        connection.putheader(name, value)
    if chunked:
        connection.putheader("Transfer-Encoding", "chunked")
    else:
        connection.putheader("Content-Length", str(len(body)))
    with suppress(BrokenPipeError, ConnectionResetError):  # the response may come before all of the body is sent
        connection.endheaders([body] if chunked else body, encode_chunked=chunked)
    answer = connection.getresponse()
    answer.read()
    return answer.status


def post(running, kind, client, *headers, body=COMPLETED, path=None, chunked=False):
    connection = connect(running, kind, client)
    try:
        return send(connection, path or running.site.by_address, *headers, body=body, chunked=chunked)
    finally:
        connection.close()


def fresh(sample):
    """Return the vendor's sample with a new event id, and that id."""
    document, event_id = json.loads(sample), uuid.uuid4().hex
    document.get("webhook", document)["id"] = event_id
    return json.dumps(document).encode(), event_id


def rows(running, event_id):
    with sqlite3.connect(running.site.database) as database:
        query = "SELECT count(*) FROM django_bi_integration_receivedevent WHERE vendor_event_id = ?"
        return database.execute(query, [event_id]).fetchone()[0]


FORGED = ["X-Forwarded-For", "X_Forwarded_For", "Forwarded", "X-Real-IP"]


def believed(running, kind):
    """Return the forged headers with which a stranger is accepted as the vendor."""
    through_proxy = kind == "behind" or (kind == "wrong" and running.server.is_wrong_behind_proxy)
    drops = kind == "behind" and running.server.needs_dropped_underscores
    arriving = [name for name in FORGED if not (drops and "_" in name)]
    return [name for name in arriving if 200 in forge(running, kind, name, through_proxy=through_proxy)]


def forge(running, kind, name, *, through_proxy):
    value = f"for={VENDOR}" if name == "Forwarded" else VENDOR
    if not through_proxy:
        return [post(running, kind, STRANGER, (name, value))]
    # The proxy appends the client's address, and passes all other headers on.
    if name == "X-Forwarded-For":
        return [post(running, kind, PROXY, (name, f"{value}, {STRANGER}"))]
    own = ("X-Forwarded-For", STRANGER)
    return [post(running, kind, PROXY, *headers) for headers in ([own, (name, value)], [(name, value), own])]


@pytest.mark.parametrize("slash", [True, False], ids=["with the last slash", "without it"])
def test_a_genuine_delivery_is_stored(running, slash):
    for path, sample, headers in (
        (running.site.by_address, COMPLETED, []),
        (running.site.by_key, CREATED, [("Authorization", KEY)]),
    ):
        body, event_id = fresh(sample)
        path = path if slash else path.rstrip("/")
        assert post(running, "default", VENDOR, *headers, body=body, path=path) == 200
        assert rows(running, event_id) == 1


def test_a_wrong_key_and_a_foreign_address_are_rejected(running):
    body, event_id = fresh(CREATED)
    path = running.site.by_key
    assert post(running, "default", VENDOR, ("Authorization", "x" * 32), body=body, path=path) == 401
    assert post(running, "default", VENDOR, body=body, path=path) == 401
    assert post(running, "default", STRANGER, body=body) == 403
    assert rows(running, event_id) == 0


def test_only_the_vendor_is_accepted_through_a_proxy(running):
    """With the options that the documentation's table recommends."""
    assert post(running, "behind", PROXY, ("X-Forwarded-For", VENDOR)) == 200
    assert post(running, "behind", PROXY, ("X-Forwarded-For", STRANGER)) == 403
    assert post(running, "behind", VENDOR) == 403


def test_a_body_over_the_limit_is_rejected(running):
    assert post(running, "default", VENDOR, body=b"{" + b" " * 300_000) == 413


def test_forged_headers_count_as_the_documentation_says(running, request):
    """The measurements match the documentation: a forged header counts only with the options that it warns about."""
    measured = {
        "version": running.server.version,
        **{kind: believed(running, kind) for kind in KINDS},
        "chunked": post(running, "default", VENDOR, chunked=True),
    }
    results = servers_table.stored()
    if request.config.getoption("--store-servers"):
        results[running.server.name] = measured
        ordered = {server.name: results[server.name] for server in SERVERS if server.name in results}
        servers_table.RESULTS.write_text(json.dumps(ordered, indent=2) + "\n")
        if len(ordered) == len(SERVERS):
            servers_table.write()
    else:
        assert measured | {"version": ""} == results[running.server.name] | {"version": ""}


def test_a_rejection_leaves_the_connection_usable_or_closes_it(running):
    """The unread rest of a rejected body is never taken for the next request."""
    connection = connect(running, "default", VENDOR)
    assert send(connection, running.site.by_key, body=CREATED) == 401
    body, event_id = fresh(COMPLETED)
    try:
        status = send(connection, running.site.by_address, body=body)
    except (ConnectionError, HTTPException):  # the server closed the connection, so a client tries again
        status = post(running, "default", VENDOR, body=body)
    assert (status, rows(running, event_id)) == (200, 1)


def proxy(port):
    """Run a proxy that appends to X-Forwarded-For and passes every other header on. The context is its URL."""

    def forward(path, headers, body):
        theirs = headers.get("X-Forwarded-For")
        headers["X-Forwarded-For"] = f"{theirs}, {STRANGER}" if theirs else STRANGER
        connection = HTTPConnection("127.0.0.1", port, timeout=60, source_address=(PROXY, 0))
        connection.request("POST", path, body, {**headers, "Connection": "close"})
        answer = connection.getresponse()
        return answer.status, [("Allow", answer.headers["Allow"])], answer.read()

    return answering(forward)


def test_bi_doctor_finds_the_options_that_make_a_forged_header_count(running, settings):
    settings.SECRET_KEY = SECRET
    port = running.ports["wrong"]
    direct = nullcontext(f"http://127.0.0.1:{port}")
    with proxy(port) if running.server.is_wrong_behind_proxy else direct as url:
        found = list(takewhile(lambda one: one.subject != "notifications", examine(url)))
    assert (found[-1].level, found[-1].subject) == ("fail", "client address")
    assert servers_table.stored()[running.server.name]["wrong"][0] in found[-1].message


def test_an_async_receiver_that_raises_harms_only_its_event(running):
    """A view dispatches the event, so under ASGI the receiver runs while the server's event loop is running."""
    body, event_id = fresh(COMPLETED)
    assert post(running, "default", VENDOR, body=body) == 200
    connection = connect(running, "default", VENDOR)
    connection.request("GET", "/dispatch/")
    assert connection.getresponse().read() == b"done"
    with sqlite3.connect(running.site.database) as database:
        query = "SELECT receiver_results FROM django_bi_integration_receivedevent WHERE vendor_event_id = ?"
        results = json.loads(database.execute(query, [event_id]).fetchone()[0])
    assert results["async receiver that raises"]["status"] == "retry"
    body, event_id = fresh(COMPLETED)
    assert post(running, "default", VENDOR, body=body) == 200
    assert running.programs["default"].process.poll() is None
