"""The fake vendors behave as the documentation of the real ones: headers, success statuses, timeouts, retries."""

import errno
import json
import os
import socket
import subprocess
import sys
import threading
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from django_bi_integration.vendors import BIG_INTERVIEW, INNOVATIVE_EDUCATORS
from fake_vendors import campaign, events
from fake_vendors.__main__ import main
from fake_vendors.http import TIMED_OUT, post
from fake_vendors.vendors import big_interview, innovative_educators
from tests.helpers.servers import free_port
from tests.helpers.stack import ROOT
from tests.helpers.waiting import wait_until

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
#: Turns ten minutes into a tenth of a millisecond.
AT_ONCE = 6_000_000


class Endpoint(ThreadingHTTPServer):
    """Records each request and responds with the given statuses, then with the last one forever."""

    daemon_threads = True

    def __init__(self, *statuses):
        super().__init__(("127.0.0.1", 0), Recorder)
        self.statuses = list(statuses)
        self.requests = []
        self.url = f"http://127.0.0.1:{self.server_port}/hook/"

    def next_status(self, body):
        return self.statuses.pop(0) if len(self.statuses) > 1 else self.statuses[0]


class Recorder(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.requests.append((self.path, dict(self.headers), body, self.client_address[0]))
        self.send_response(self.server.next_status(body))
        self.send_header("Location", "/elsewhere")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *arguments):
        pass


@contextmanager
def endpoint(*statuses, of=Endpoint):
    """Run an endpoint within the block."""
    with of(*statuses) as server:
        threading.Thread(target=server.serve_forever, args=[0.01], daemon=True).start()
        yield server
        server.shutdown()


def interview():
    return events.interview_created(95607, "abc123", NOW, title="Top 10 Questions")


def completion():
    return events.course_completed("0042", "learner@example.edu", "Orientation", NOW)


@contextmanager
def raw_server(talk):
    """Yield the port of a server that passes its only connection to ``talk``, for what HTTP servers do not do."""

    def serve():
        connection, _ = server.accept()
        with connection:
            talk(connection)

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield server.getsockname()[1]
        thread.join(10)


@contextmanager
def recording_server():
    """Yield the port of a server that responds with 200, and the bytes that it received."""
    received = bytearray()

    def record(connection):
        while not received.endswith(b"}"):
            received.extend(connection.recv(65536))
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    with raw_server(record) as port:
        yield port, received


def test_big_interviews_request_matches_the_documentation_byte_for_byte():
    """Except for Host: the documentation shows an absolute URL there."""
    event = interview()
    with recording_server() as (port, received):
        big_interview(f"http://127.0.0.1:{port}/hook/?a=b", "935d85189822bf96c28c4fa79d3d8f31").send(event)
    head = f"""\
POST /hook/?a=b HTTP/1.1
Host: 127.0.0.1:{port}
Authorization: 935d85189822bf96c28c4fa79d3d8f31
Accept: */*; q=0.5, application/xml
Accept-Encoding: gzip, deflate
Cache-Control: no-cache
Connection: close
Content-Length: {len(event.body)}
Content-Type: application/json; charset=utf-8
User-Agent: BigInterview/1.0

"""
    assert bytes(received) == head.replace("\n", "\r\n").encode() + event.body


def test_innovative_educators_request_has_only_documented_headers():
    event = completion()
    with recording_server() as (port, received):
        innovative_educators(f"http://127.0.0.1:{port}").send(event)
    head = f"""\
POST / HTTP/1.1
Host: 127.0.0.1:{port}
Content-Type: application/json
Content-Length: {len(event.body)}

"""
    assert bytes(received) == head.replace("\n", "\r\n").encode() + event.body


def test_innovative_educators_sends_from_the_given_address():
    with endpoint(200) as server:
        (attempt,) = innovative_educators(server.url, source_address="127.0.0.2").send(completion())
    assert attempt.delivered
    assert server.requests[0][3] == "127.0.0.2"


@pytest.mark.parametrize(("status", "delivered"), [(200, True), (201, False), (204, False), (302, False), (500, False)])
def test_only_200_is_a_success_for_big_interview(status, delivered):
    with endpoint(status) as server:
        attempts = big_interview(server.url, "k", time_scale=AT_ONCE).send(interview())
    assert attempts[-1].delivered is delivered
    assert len(attempts) == len(server.requests) == (1 if delivered else 6)


@pytest.mark.parametrize(
    ("status", "delivered"),
    [(200, True), (204, True), (302, True), (308, True), (309, False), (400, False), (503, False)],
)
def test_a_redirect_is_a_success_for_innovative_educators_and_is_not_followed(status, delivered):
    with endpoint(status) as server:
        attempts = innovative_educators(server.url, time_scale=AT_ONCE).send(completion())
    assert attempts[-1].delivered is delivered
    assert len(attempts) == len(server.requests) == (1 if delivered else 11)


def test_the_waits_between_retries_are_as_documented():
    assert big_interview("", "").waits == (600, 600, 600, 600, 600)
    assert innovative_educators("").waits == (20, 40, 80, 160, 320, 640, 1280, 2560, 3600, 3600)


def test_a_retry_that_succeeds_ends_the_retries():
    with endpoint(503, 503, 200) as server:
        attempts = big_interview(server.url, "k", time_scale=AT_ONCE).send(interview())
    assert [attempt.status for attempt in attempts] == [503, 503, 200]
    assert [attempt.number for attempt in attempts] == [1, 2, 3]


def stopped():
    """Return an event that is set, so that the vendor does not retry."""
    stop = threading.Event()
    stop.set()
    return stop


def test_a_wait_can_be_interrupted():
    """The vendor would wait for ten minutes."""
    stop, sent = threading.Event(), []
    with endpoint(503) as server:
        vendor = big_interview(server.url, "k")
        thread = threading.Thread(target=lambda: sent.extend(vendor.send(interview(), stop)))
        thread.start()
        wait_until(lambda: server.requests)
        stop.set()
        thread.join(10)
    assert [attempt.status for attempt in sent] == [503]


def test_a_connection_error_is_reported_as_text():
    port = free_port()
    (attempt,) = big_interview(f"http://127.0.0.1:{port}/", "k").send(interview(), stopped())
    assert (attempt.status, attempt.delivered) == (None, False)
    assert os.strerror(errno.ECONNREFUSED) in attempt.error


@pytest.mark.parametrize(
    ("scheme", "beginning"),
    [
        pytest.param("http", b"HTTP/1.1 200 OK\r\nX: ", id="headers"),
        pytest.param("http", b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n", id="body"),
        pytest.param("http", b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n", id="body-until-close"),
        pytest.param("http", b"HTTP/1.0 200 OK\r\n\r\n", id="body-of-http-1.0"),
        pytest.param("https", b"\x16\x03\x03\x40\x00", id="tls-handshake"),
    ],
)
def test_a_slow_response_times_out(scheme, beginning):
    """The timeout covers the whole exchange, not each read."""
    disconnected, timed_out = threading.Event(), threading.Event()

    def drip(connection):
        connection.recv(65536)
        try:
            connection.sendall(beginning)
            while not timed_out.wait(0.01):
                connection.sendall(b".")
        except OSError:
            disconnected.set()

    with raw_server(drip) as port:
        timer = threading.Timer(10, timed_out.set)
        timer.start()
        assert post(f"{scheme}://127.0.0.1:{port}/", b"{}", {}, timeout=0.2) == TIMED_OUT
        timer.cancel()
    assert disconnected.is_set()


def test_an_attempt_that_times_out_is_not_delivered():
    ended = threading.Event()
    with raw_server(lambda connection: ended.wait(10)) as port:
        vendor = replace(big_interview(f"http://127.0.0.1:{port}/", "k"), timeout=0.1)
        (attempt,) = vendor.send(interview(), stopped())
        ended.set()
    assert (attempt.status, attempt.error, attempt.delivered) == (None, TIMED_OUT, False)


def test_the_timeouts_are_as_documented():
    assert (big_interview("", "").timeout, innovative_educators("").timeout) == (30, 15)


class FirstFails(Endpoint):
    """Fails the first attempt of each event."""

    def next_status(self, body):
        return 200 if sum(seen == body for _, _, seen, _ in self.requests) > 1 else 503


def test_a_campaign_retries_each_event_on_a_separate_schedule():
    with endpoint(200, of=FirstFails) as server:
        vendor = big_interview(server.url, "k", time_scale=AT_ONCE)
        log = campaign.run([(vendor, interview()) for _ in range(100)])
    assert len(log.acknowledged) == 100
    assert log.given_up == set()
    assert {len(attempts) for attempts in log.attempts.values()} == {2}
    assert log.summary() == "100 of 100 delivered; responses: 503: 100, 200: 100"


def test_a_campaign_reports_the_events_that_were_not_delivered():
    with endpoint(500) as server:
        log = campaign.run([(big_interview(server.url, "k", time_scale=AT_ONCE), event := interview())])
    assert log.given_up == {event.event_id}


def test_an_event_that_waits_for_a_retry_uses_no_thread():
    """The first event would wait for ten seconds, and there is only one thread."""
    stop, first, second, sent = threading.Event(), interview(), interview(), []

    def note(attempt):
        sent.append((attempt.event_id, attempt.status))
        if len(sent) == 2:
            stop.set()

    with endpoint(503, 200) as server:
        vendor = big_interview(server.url, "k", time_scale=60)
        campaign.run([(vendor, first), (vendor, second)], threads=1, stop=stop, on_attempt=note)
    assert sent == [(first.event_id, 503), (second.event_id, 200)]


def test_a_campaign_that_is_stopped_still_logs_the_attempts_in_progress():
    stop, first, second = threading.Event(), interview(), interview()
    arrived = threading.Barrier(2, timeout=60)

    class Together(Endpoint):
        """Responds when both events have arrived and the campaign is stopped."""

        def next_status(self, body):
            arrived.wait()
            stop.set()
            return 200

    with endpoint(200, of=Together) as server:
        vendor = big_interview(server.url, "k")
        log = campaign.run([(vendor, first), (vendor, second), (vendor, interview())], threads=2, stop=stop)
    assert log.acknowledged == set(log.attempts) == {first.event_id, second.event_id}


def shape(value):
    """Return the names and types of a JSON value."""
    if isinstance(value, dict):
        return {name: shape(inner) for name, inner in value.items()}
    return type(value).__name__


@pytest.mark.parametrize(
    ("event", "name"),
    [
        (interview(), "interview.created"),
        (events.interview_updated(1, "p", NOW, title="T", completed=True), "interview.updated"),
        (events.interview_deleted(1, "p"), "interview.deleted"),
    ],
)
def test_interview_events_have_the_documented_shape(event, name):
    assert shape(json.loads(event.body)) == shape(BIG_INTERVIEW.sample(name, "1", "me"))
    assert BIG_INTERVIEW.read(json.loads(event.body)).event_type == event.name == name


def test_completions_have_the_documented_fields():
    document, sample = json.loads(completion().body), INNOVATIVE_EDUCATORS.sample("courseComplete", "1", "me")
    assert list(document) == list(sample)
    assert list(document["userDetail"]) == list(sample["userDetail"])


def test_event_ids_are_unique():
    assert len({event().event_id for event in [interview, completion] * 100}) == 200


def test_an_event_id_can_be_given():
    """For example, to send an event again with another body."""
    event = events.interview_deleted(1, "p", event_id="123456789")
    assert (event.event_id, json.loads(event.body)["webhook"]["id"]) == ("123456789", "123456789")


def test_the_command_line_reports_each_attempt_and_a_summary(capsys):
    with endpoint(503, 200) as server:
        arguments = ["big-interview", "--url", server.url, "--key", "k", "--time-scale", str(AT_ONCE)]
        assert main([*arguments, "--count", "2", "--threads", "1"]) == 0
    *attempts, summary = capsys.readouterr().out.splitlines()
    assert [attempt.split()[1:4] for attempt in attempts] == [
        ["attempt", "1", "503"],
        ["attempt", "1", "200"],
        ["attempt", "2", "200"],
    ]
    assert summary == "2 of 2 delivered; responses: 503: 1, 200: 2"


@pytest.mark.parametrize("name", ["interview.created", "interview.updated", "interview.deleted"])
def test_the_command_line_sends_the_given_event(name):
    with endpoint(200) as server:
        assert main(["big-interview", "--url", server.url, "--key", "k", "--event", name]) == 0
    assert json.loads(server.requests[0][2])["webhook"]["event_name"] == name


def test_an_interrupted_command_line_still_prints_the_summary(capsys, monkeypatch):
    def interrupted(deliveries, *, threads, on_attempt):
        ((vendor, event),) = deliveries
        on_attempt(vendor.attempt(event))
        raise KeyboardInterrupt

    monkeypatch.setattr(campaign, "run", interrupted)
    with endpoint(503) as server:
        assert main(["big-interview", "--url", server.url, "--key", "k"]) == 130
    assert capsys.readouterr().out.splitlines()[-1] == "Interrupted. Until then: 0 of 1 delivered; responses: 503: 1"


def test_the_exit_code_is_1_if_an_event_was_not_delivered(capsys):
    with endpoint(401) as server:
        arguments = ["innovative-educators", "--url", server.url, "--time-scale", str(AT_ONCE)]
        assert main(arguments) == 1
    assert "0 of 1 delivered" in capsys.readouterr().out


COMPLETE = ["big-interview", "--url", "http://127.0.0.1/", "--key", "k"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "required: COMMAND"),
        (["big-interview", "--url", "http://x"], "--key"),
        (["innovative-educators", "--url", "nowhere"], "not an absolute URL"),
        (["innovative-educators", "--url", "http://"], "not an absolute URL"),
        (["innovative-educators", "--url", "http://x:port/"], "not an absolute URL"),
        ([*COMPLETE, "--key", "a\nb"], "a header cannot contain this key"),
        ([*COMPLETE, "--event", "interview.lost"], "invalid choice"),
        ([*COMPLETE, "--count", "0"], "not a whole number from 1"),
        ([*COMPLETE, "--threads", "x"], "not a whole number from 1"),
        ([*COMPLETE, "--time-scale", "0"], "not a number above 0"),
        ([*COMPLETE, "--time-scale", "fast"], "not a number above 0"),
    ],
)
def test_the_command_line_reports_a_wrong_argument(arguments, message, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(arguments)
    assert message in capsys.readouterr().err


def test_the_help_has_examples(capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["--help"])
    assert "--source-address 127.0.0.2" in capsys.readouterr().out


def test_the_fake_vendors_need_only_the_standard_library():
    """So that other projects can copy the folder."""
    script = (
        "import sys, fake_vendors.__main__; "
        "print({name.partition('.')[0] for name in sys.modules} - set(sys.stdlib_module_names) - {'__main__'})"
    )
    result = subprocess.run([sys.executable, "-S", "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "{'fake_vendors'}"
