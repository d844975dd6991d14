"""Random requests: each gets a response, none of them is a 500, and stored bodies are unchanged.

The normal test run uses a few, the same ones each time. ``make test ARGS="-m slow tests/invariants/test_fuzz.py
--fuzz-minutes 10"`` generates new ones for ten minutes, and prints how to repeat a failure.
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
def repeat(request):
    """Return a function that runs a property with new examples until ``--fuzz-minutes`` are over."""

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


def check_stored_or_rejected(body, send, to):
    """Deliver a body; check that it is stored unchanged and dispatched, or rejected with 400, then roll back."""
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
    """Parse JSON with integers as floats, because PostgreSQL returns large fractions as integers."""
    return json.loads(text, parse_int=float)


@pytest.fixture(params=[(deliver, big_interview), (deliver_completion, innovative_educators)], ids=["key", "address"])
def vendor(request, db):
    """Return the function that delivers as the vendor does, and a registration."""
    send, make = request.param
    return send, make()


@pytest.mark.database
def test_a_random_body_is_stored_or_rejected(vendor):
    @settings(max_examples=100, derandomize=True, **UNDISTURBED)
    @given(body=bodies)
    def check(body):
        check_stored_or_rejected(body, *vendor)

    check()


@pytest.mark.slow
@pytest.mark.database
def test_many_random_bodies_are_stored_or_rejected(vendor, repeat):
    @given(body=bodies)
    def check(body):
        check_stored_or_rejected(body, *vendor)

    repeat(check)


# On a real server.


class Target:
    """A deployment to send requests to, with a check that it still works as before."""

    def __init__(self, stack):
        self.stack = stack
        made = stack.manage("bi_register", "--vendor", "big_interview", "--name", "x", "--key", KEY)
        self.url = stack.url + json.loads(made)["path"]
        for _ in range(50):
            exchange(self.url, post(self.url, body=b"[" * 250_000))
        self.before = self.processes()

    def processes(self):
        """Return the resident memory in KiB of each process of the web server, by process id."""
        listing = subprocess.run(
            ["ps", "-A", "-o", "pgid=,pid=,rss="], capture_output=True, text=True, check=True
        ).stdout
        rows = [line.split() for line in listing.splitlines()]
        return {pid: int(rss) for group, pid, rss in rows if int(group) == self.stack.web.process.pid}

    def assert_unharmed(self):
        """Check that the same processes answer, without a traceback, and with less than double the memory."""
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


# Only bytes that a header can have. No query string: with a charset that is no text encoding, Django itself fails.
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
def test_a_live_server_answers_every_random_request(target, repeat):
    path = target.url.removeprefix(target.stack.url)

    @given(body=bodies, lines=st.lists(lines, max_size=3), method=methods, version=versions, key=keys, end=path_ends)
    def check(body, lines, method, version, key, end):
        request = post(target.url, *lines, body=body, method=method, version=version, key=key, path=path + end)
        for status in statuses(exchange(target.url, request)):
            # gunicorn itself responds with 501 and 505 to unknown transfer codings and HTTP versions.
            assert status in {100, 200} or 400 <= status < 500 or status in {501, 505}

    repeat(check)
    target.assert_unharmed()


@pytest.mark.slow
@pytest.mark.xdist_group("fuzz")
def test_a_live_server_follows_its_openapi_description(target, request, tmp_path):
    """Schemathesis generates requests that follow an OpenAPI document, and requests that violate it."""
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
