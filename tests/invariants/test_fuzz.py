"""Random requests: each is answered, none with an error of ours, and what is stored comes out as it went in.

A few of them run in the common suite, the same ones each time. ``make test ARGS="-m slow
tests/invariants/test_fuzz.py --fuzz-minutes 10"`` tries others until the minutes are over, and prints what fails so
that it can be repeated.
"""

import json
import shutil
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import pytest
from django.db import transaction
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from django_bi_integration.dispatch.worker import dispatch_pending
from django_bi_integration.models import ReceivedEvent
from django_bi_integration.signals import event_received
from tests.helpers.deliveries import (
    KEY,
    big_interview,
    deliver,
    deliver_completion,
    innovative_educators,
    stored,
    subscribed,
)
from tests.helpers.hostile import bodies, keep
from tests.helpers.raw_http import exchange, post, statuses
from tests.helpers.servers import ServerMissing, provided
from tests.helpers.stack import running_stack

OPENAPI = Path(__file__).with_name("webhook.openapi.yaml")
UNDISTURBED = {"deadline": None, "database": None, "suppress_health_check": list(HealthCheck)}
LOOK = """
import json
from django_bi_integration.models import ReceivedEvent
events = ReceivedEvent.objects.all()
print(json.dumps([events.count(), events.exclude(status="dispatched").count()]))
"""


@pytest.fixture
def go_on(request):
    """Runs a property again and again, with other examples each time, as long as the option says."""

    def run(property_):
        end = time.monotonic() + 60 * request.config.getoption("fuzz_minutes")
        property_ = settings(max_examples=200, print_blob=True, **UNDISTURBED)(property_)
        rounds = 0
        while time.monotonic() < end:
            property_()
            rounds += 1
        print(f"{rounds} times 200 examples")

    return run


# In this process, on each database.


def is_stored_or_rejected(body, send, to):
    with transaction.atomic(), subscribed(event_received, keep):
        response = send(to, body)
        if response.status_code == 200:
            assert bytes(stored().body) == body
            assert stored().payload is None or loosely(json.dumps(stored().payload)) == loosely(
                body.decode("utf-8-sig")
            )
            assert dispatch_pending() == {"dispatched": 1}
        else:
            assert response.status_code == 400
            assert not ReceivedEvent.objects.exists()
        transaction.set_rollback(True)


def loosely(text):
    """JSON with its whole numbers as floats: PostgreSQL gives large fractions back as whole numbers."""
    return json.loads(text, parse_int=float)


@pytest.fixture(params=[(deliver, big_interview), (deliver_completion, innovative_educators)], ids=["key", "address"])
def vendor(request, db):
    send, make = request.param
    return send, make()


@pytest.mark.database
def test_a_body_is_stored_or_rejected(vendor):
    @settings(max_examples=100, derandomize=True, **UNDISTURBED)
    @given(body=bodies)
    def check(body):
        is_stored_or_rejected(body, *vendor)

    check()


@pytest.mark.slow
@pytest.mark.database
def test_many_a_body_is_stored_or_rejected(vendor, go_on):
    @given(body=bodies)
    def check(body):
        is_stored_or_rejected(body, *vendor)

    go_on(check)


# On a real server.


class Target:
    """A deployment to shoot at, and whether it is still what it was."""

    def __init__(self, stack):
        self.stack = stack
        made = stack.manage("bi_register", "--vendor", "big_interview", "--name", "x", "--key", KEY)
        self.url = stack.url + json.loads(made)["path"]
        for _ in range(50):
            exchange(self.url, post(self.url, body=b"[" * 250_000))
        self.before = self.processes()

    def processes(self):
        """The kilobytes in memory of each of the web server's processes."""
        listing = subprocess.run(
            ["ps", "-A", "-o", "pgid=,pid=,rss="], capture_output=True, text=True, check=True
        ).stdout
        rows = [line.split() for line in listing.splitlines()]
        return {pid: int(rss) for group, pid, rss in rows if int(group) == self.stack.web.process.pid}

    def assert_unharmed(self):
        assert statuses(exchange(self.url, post(self.url))) == [200]
        after = self.processes()
        print(f"kilobytes before {self.before}, after {after}")
        assert after.keys() == self.before.keys()
        assert sum(after.values()) < 2 * sum(self.before.values())
        assert "Traceback" not in self.stack.web.output()
        events, waiting = json.loads(self.stack.manage("shell", "--no-imports", "-c", LOOK))
        print(f"{events} events stored, {waiting} of them not dispatched yet")
        assert events > 1


@pytest.fixture(scope="module")
def target(tmp_path_factory):
    with ExitStack() as servers:
        try:
            database, broker = (servers.enter_context(provided(name)) for name in ("postgres", "redis"))
        except ServerMissing as missing:
            pytest.skip(str(missing))
        yield Target(servers.enter_context(running_stack(database, broker, tmp_path_factory.mktemp("fuzz"))))


# Of bytes that a header can have; a query beside the name of a codec that is no text encoding breaks Django itself.
header_texts = st.text(st.characters(max_codepoint=255, exclude_characters="\r\n\0"), max_size=100)
header_names = st.sampled_from(
    [
        *(
            "Accept",
            "Accept-Language",
            "Authorization",
            "Content-Encoding",
            "Cookie",
            "Expect",
            "Forwarded",
            "If-Match",
        ),
        *("Origin", "Range", "Referer", "TE", "Upgrade", "User-Agent", "X-HTTP-Method-Override"),
        *("X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto"),
    ]
)
charsets = st.sampled_from(["utf-8", "utf-16", "latin-1", "rot13", "hex", "base64", "idna", "undefined", "none"])
lines = (
    st.builds("{}: {}".format, header_names, header_texts)
    | st.builds("Content-Type: {}; charset={}".format, header_texts.map(lambda text: text.replace(";", "")), charsets)
    | st.builds("Content-Length: {}".format, st.integers(-1, 300_000) | header_texts)
    | st.just("Transfer-Encoding: chunked")
)
methods = st.sampled_from(["POST"] * 8 + ["GET", "HEAD", "PUT", "OPTIONS", "TRACE", "BREW"])
versions = st.sampled_from(["HTTP/1.1"] * 8 + ["HTTP/1.0", "HTTP/2.0", "HTTP/0.9"])
keys = st.sampled_from([KEY] * 8) | st.none() | header_texts
path_ends = st.sampled_from(["", "", "", "", "/", "%2F", "%00", "%ff", "x", "#x", ";x", "/.."])


@pytest.mark.slow
@pytest.mark.xdist_group("fuzz")
def test_a_live_server_answers_every_request(target, go_on):
    path = target.url.removeprefix(target.stack.url)

    @given(body=bodies, lines=st.lists(lines, max_size=3), method=methods, version=versions, key=keys, end=path_ends)
    def check(body, lines, method, version, key, end):
        request = post(target.url, *lines, body=body, method=method, version=version, key=key, path=path + end)
        for status in statuses(exchange(target.url, request)):
            # gunicorn itself says 501 and 505 of what it does not speak.
            assert status in {100, 200} or 400 <= status < 500 or status in {501, 505}

    go_on(check)
    target.assert_unharmed()


@pytest.mark.slow
@pytest.mark.xdist_group("fuzz")
def test_a_live_server_keeps_to_its_description(target, request, tmp_path):
    """Schemathesis makes requests from an OpenAPI document, and others that contradict it."""
    program = shutil.which("schemathesis", path=Path(sys.executable).parent)
    if program is None:
        pytest.skip('schemathesis is not installed (make setup EXTRAS="test fuzz")')
    checks = [
        "not_a_server_error",
        "status_code_conformance",
        "content_type_conformance",
        "response_schema_conformance",
    ]
    run = subprocess.run(
        [
            *(program, "run", str(OPENAPI), f"--url={target.url.rstrip('/')}", f"--header=Authorization:{KEY}"),
            *(f"--checks={','.join(checks)}", f"--max-time={round(60 * request.config.getoption('fuzz_minutes'))}"),
            *("--phases=examples,coverage,fuzzing", "--request-timeout=15", "--max-redirects=0", "--no-color"),
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    print(run.stdout)
    assert run.returncode == 0, run.stdout + run.stderr
    target.assert_unharmed()
