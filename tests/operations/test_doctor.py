"""bi_doctor finds each problem and reports it with a remedy."""

import errno
import io
import json
import os
import socket
import time
from contextlib import contextmanager, suppress
from datetime import timedelta
from socketserver import ThreadingMixIn
from threading import Event, Thread
from types import SimpleNamespace
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import kombu
import pytest
import requests
import time_machine
from celery import Celery
from django.core import signing
from django.core.exceptions import ImproperlyConfigured
from django.core.handlers.wsgi import WSGIHandler
from django.core.management import CommandError, call_command
from django.db import InterfaceError, OperationalError, connection
from django.db.migrations.recorder import MigrationRecorder
from django.test import Client, override_settings
from django.utils import timezone

from django_bi_integration.dispatch.notify import Notifier, notifier
from django_bi_integration.management.commands.bi_doctor import Command
from django_bi_integration.models import BigInterviewAccount, ReceivedEvent, Rejection
from django_bi_integration.operations import doctor, public_url, workers
from django_bi_integration.schedule import beat_schedule
from django_bi_integration.webhooks.self_report import make_token, read_report
from tests.helpers.deliveries import big_interview, deliver, registration
from tests.helpers.http_servers import answering

pytestmark = [pytest.mark.django_db, pytest.mark.database]


@pytest.fixture(autouse=True)
def short_wait_for_workers(request, monkeypatch):
    """Wait for workers only if the test runs one. In a thread of a busy process, it may reply late."""
    has_worker = "celery_worker_thread" in request.fixturenames
    monkeypatch.setattr(workers, "WORKER_TIMEOUT", 4 if has_worker else 0.01)
    monkeypatch.setattr(workers, "BROKER_TIMEOUT", 60)


def run(*arguments):
    """Run bi_doctor, and return its exit code and output."""
    out = io.StringIO()
    try:
        call_command("bi_doctor", *arguments, stdout=out)
    except CommandError as error:
        if error.returncode != 1:
            raise
        return 1, out.getvalue()
    return 0, out.getvalue()


def findings(subject, *arguments):
    """Run bi_doctor, and return the level, message and remedy of each finding about the subject."""
    _, out = run("--json", *arguments)
    return [
        (found["level"], found["message"], found["remedy"])
        for found in json.loads(out)["findings"]
        if found["subject"] == subject
    ]


def test_a_working_project_has_only_ok_findings(celery_worker_thread, monkeypatch):
    if connection.vendor == "postgresql":
        monkeypatch.setitem(connection.settings_dict, "OPTIONS", {"server_side_binding": True})
    big_interview()
    code, out = run()
    assert code == 0
    assert [line.split(":")[0] for line in out.splitlines()[:-1]] == [
        "OK    system checks",
        "OK    broker",
        "OK    workers",
        "OK    database",
        "OK    registrations",
        "OK    queue",
    ]
    assert out.splitlines()[-1] == "6 ok, 0 to look at, 0 failed."


def test_a_failure_is_reported_with_its_remedy_and_exits_with_1(settings):
    settings.MIDDLEWARE = ["tests.operations.test_blocking_middleware.to_login"]
    code, out = run()
    assert code == 1
    assert "FAIL  system checks: POST https://testserver/bi/webhooks/" in out
    assert "      → A vendor cannot log in." in out
    assert json.loads(run("--json")[1])["working"] is False


def test_an_error_of_a_system_check_does_not_hide_other_findings(settings):
    settings.BI_INTEGRATION = {"TRUSTED_PROXIES": ["proxy.example.edu"]}
    out = io.StringIO()
    with pytest.raises(CommandError, match="1 of the findings"):
        # call_command skips the system checks, but manage.py runs them first.
        Command().execute(url=None, json=False, stdout=out, force_color=False, no_color=True, skip_checks=False)
    assert "(django_bi_integration.E004)" in out.getvalue()
    assert "OK    database" in out.getvalue()


def test_findings_of_checks_that_read_the_database_are_reported():
    registration(networks=["0.0.0.0/0"])
    assert "(django_bi_integration.E015)" in findings("system checks")[1][1]


def test_a_silenced_check_is_not_reported(settings):
    settings.MIDDLEWARE = ["tests.operations.test_blocking_middleware.to_login"]
    settings.SILENCED_SYSTEM_CHECKS = ["django_bi_integration.E012"]
    assert [level for level, *_ in findings("system checks")] == ["ok"]


@pytest.mark.parametrize(
    "url",
    [
        *("", "careers.example.edu", "ftp://example.edu", "https://", "https://a@b", "https://a b", "https://a\n"),
        *("https://example.edu/bi/", "https://example.edu?a=b", "https://example.edu#a"),
        *("https://[::1", "https://example.edu:99999", "https://example.edu:port"),
    ],
)
def test_a_url_that_is_not_exactly_scheme_and_host_is_a_usage_error(url):
    with pytest.raises(CommandError, match="is not a scheme and a host") as raised:
        run("--url", url)
    assert raised.value.returncode == 2


@pytest.mark.django_db(transaction=True)
def test_the_probe_of_the_public_url_is_not_counted_as_a_rejection(live_server):
    assert findings("public URL", "--url", live_server.url) == [
        ("ok", f"the webhook answers at {live_server.url}, with and without the trailing slash", "")
    ]
    assert not Rejection.objects.exists()
    # Any other unknown id is counted.
    deliver(registration(), path="/bi/webhooks/00000000-0000-4000-8000-000000000000/")
    assert Rejection.objects.exists()


def server(status, headers=(), body=b""):
    """Run a server that gives every POST the same response, and yield its URL."""
    return answering(lambda path, *_: (status, [(name, value.format(path=path)) for name, value in headers], body))


@pytest.mark.parametrize(
    ("answer", "status", "remedy"),
    [
        ((301, [("Location", "https://example.edu{path}")]), "301 Moved Permanently to https", "counts a redirect"),
        ((308, [("Location", "{path}")]), "308 Permanent Redirect to /bi", "Set SECURE_PROXY_SSL_HEADER"),
        ((200, [], b"<h1>Welcome</h1>"), "200 OK", "Look at the logs"),
        ((404, [("Allow", "GET, HEAD")], b'{"detail": "Not found."}'), "404 Not Found", "Another site serves"),
        ((404, [("Allow", "POST")], b"{}"), "404 Not Found", "Another site serves"),
        ((200, [("Allow", "POST")], b'{"detail": "Not found."}'), "200 OK", "Look at the logs"),
        ((400,), "400 Bad Request", "ALLOWED_HOSTS"),
        ((401,), "401 Unauthorized", "A login is required before the webhook"),
        ((403,), "403 Forbidden", "An access rule"),
        ((405,), "405 Method Not Allowed", "does not accept POST"),
        ((502,), "502 Bad Gateway", "Look at the logs"),
        ((302, [("Location", "http://[::1")]), "302 Found to http://[::1", "counts a redirect"),
        ((302, [("Location", "/\x1b[2J")]), "302 Found to /?[2J.", "counts a redirect"),
        ((404, [("Allow", "POST")], b"[" * 100_000), "404 Not Found", "Another site serves"),
    ],
    ids=lambda value: str(value[0]) if isinstance(value, tuple) else "",
)
def test_a_public_url_that_does_not_reach_the_webhook_is_a_failure(answer, status, remedy):
    with server(*answer) as url:
        ((level, message, hint),) = findings("public URL", "--url", url)
    assert level == "fail"
    assert f"does not reach the webhook: the response is {status}" in message
    assert remedy in hint


@pytest.mark.django_db(transaction=True)
def test_a_public_url_without_tls_is_a_failure(live_server):
    ((level, message, hint),) = findings("public URL", "--url", live_server.url.replace("http:", "https:"))
    assert level == "fail"
    assert message.startswith("No TLS connection to https://")
    assert "certificate" in hint


def test_a_public_url_that_does_not_answer_is_a_failure(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as silent, monkeypatch.context() as impatient:
        impatient.setattr(public_url, "VENDOR_TIMEOUT", 0.1)
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        assert "did not answer within 0.1 seconds" in findings("public URL", "--url", url)[0][1]
    assert findings("public URL", "--url", url)[0][1].startswith("Nothing answers at")


@pytest.mark.parametrize(
    "head", [b"HTTP/1.1 404 Not Found\r\n", b"HTTP/1.1 404 Not Found\r\n\r\n"], ids=["head", "body"]
)
def test_a_public_url_that_responds_byte_by_byte_times_out(monkeypatch, head):
    monkeypatch.setattr(public_url, "VENDOR_TIMEOUT", 0.3)
    enough = Event()

    def drip(listening):
        line, _ = listening.accept()
        with line, suppress(OSError):
            line.sendall(head)
            while not enough.wait(0.05):
                line.sendall(b"x")

    with socket.create_server(("127.0.0.1", 0)) as listening:
        Thread(target=drip, args=(listening,), daemon=True).start()
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        asked = time.monotonic()
        message = findings("public URL", "--url", url)[0][1]
        enough.set()
    assert "did not answer within 0.3 seconds" in message
    assert time.monotonic() - asked < 10


def test_an_endless_response_of_a_public_url_is_not_read_completely():
    def flow(listening):
        line, _ = listening.accept()
        with line, suppress(OSError):
            line.sendall(b"HTTP/1.1 404 Not Found\r\nAllow: POST\r\n\r\n")
            while True:
                line.sendall(b" " * 65_536)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        Thread(target=flow, args=(listening,), daemon=True).start()
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        assert "the response is 404 Not Found" in findings("public URL", "--url", url)[0][1]


def celery_with_broker(url):
    """Return a Celery app with this broker and the package's schedule."""
    app = Celery("broken", broker=url, set_as_current=False)
    app.conf.beat_schedule = beat_schedule()
    return app


def test_a_broker_that_rejects_connections_is_a_failure(monkeypatch):
    monkeypatch.setattr(notifier, "app", celery_with_broker("redis://127.0.0.1:1/0"))
    ((level, message, _),) = findings("broker")
    assert level == "fail"
    assert os.strerror(errno.ECONNREFUSED) in message


def test_a_broker_that_does_not_answer_times_out(monkeypatch):
    monkeypatch.setattr(workers, "BROKER_TIMEOUT", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setattr(notifier, "app", celery_with_broker(f"redis://127.0.0.1:{silent.getsockname()[1]}/0"))
        ((level, message, _),) = findings("broker")
    assert level == "fail"
    assert "no response within 0.2 seconds" in message


def test_a_missing_worker_is_a_warning():
    ((level, message, _),) = findings("workers")
    assert (level, message) == ("warn", "no Celery worker replies")


def test_a_missing_celery_app_is_reported_by_the_system_check(monkeypatch):
    monkeypatch.setattr(notifier, "app", Celery("default", set_as_current=False))
    assert findings("broker") == []
    assert "(django_bi_integration.W001)" in findings("system checks")[0][1]


def test_missing_migrations_are_a_failure():
    MigrationRecorder(connection).record_unapplied("django_bi_integration", "0002_single_sign_on")
    assert findings("database") == [
        (
            "fail",
            "migrations are missing: 0002_single_sign_on",
            "Run `manage.py migrate django_bi_integration`.",
        )
    ]
    assert findings("registrations") == []


@pytest.mark.database
@pytest.mark.parametrize(
    ("changes", "advises"),
    [
        ({}, True),
        ({"OPTIONS": {"server_side_binding": True}}, False),
        ({"DISABLE_SERVER_SIDE_CURSORS": True}, False),  # as behind a transaction pooler
    ],
)
def test_postgresql_without_prepared_statements_gets_advice(changes, advises, monkeypatch):
    for name, value in changes.items():
        monkeypatch.setitem(connection.settings_dict, name, value)
    advice = [remedy for level, _, remedy in findings("database") if level == "ok" and remedy]
    assert [("server_side_binding" in remedy) for remedy in advice] == (
        [True] if advises and connection.vendor == "postgresql" else []
    )


@pytest.mark.parametrize("error", [OperationalError, InterfaceError, ImproperlyConfigured])
def test_a_database_that_cannot_be_read_is_a_failure(error):
    def fail(*arguments):
        raise error("no way")

    with connection.execute_wrapper(fail):
        assert findings("database") == [
            ("fail", "it cannot be read: no way", "Check DATABASES and the database server.")
        ]


def test_registrations_need_credentials_and_at_least_one_must_be_active():
    assert findings("registrations")[0][:2] == ("warn", "none is active, so no vendor can deliver")
    big_interview()
    registration(key="").delete()
    assert findings("registrations") == [("ok", "1 active, with credentials", "")]
    registration(key="")
    assert [level for level, *_ in findings("registrations")] == ["fail", "ok"]


def test_rejections_of_the_last_day_are_reported():
    deliver(big_interview(), key="x")
    ((level, message, _),) = findings("rejections")
    assert (level, message) == ("warn", "1 rejected in the last 24 hours: key is wrong")
    Rejection.objects.update(registration=None)  # as for requests to URLs that do not exist
    assert findings("rejections") == []


def test_older_rejections_are_not_reported():
    deliver(big_interview(), key="x")
    Rejection.objects.update(last_at=timezone.now() - timedelta(days=2))
    assert findings("rejections") == []


@pytest.mark.parametrize(
    ("address", "remedy"), [("10.0.0.5", "(10.0.0.5): does TRUSTED_PROXIES"), ("8.8.8.8", "missing in the allowlist")]
)
def test_the_remedy_for_rejections_depends_on_whether_the_address_is_private(address, remedy):
    deliver(registration(networks=["54.243.7.71"]), REMOTE_ADDR=address)
    assert remedy in findings("rejections")[0][2]


def test_events_that_wait_too_long_or_failed_are_reported():
    to = big_interview()
    deliver(to)
    assert findings("queue") == [("ok", "no event waits for longer than 5 minutes", "")]
    ReceivedEvent.objects.update(next_attempt_at=timezone.now() - timedelta(minutes=7))
    ((level, message, _),) = findings("queue")
    assert level == "fail"
    assert message.replace("\xa0", " ") == "1 events wait to be dispatched, the oldest for 7 minutes"
    ReceivedEvent.objects.update(next_attempt_at=None, status=ReceivedEvent.Status.FAILED)
    assert [finding[:2] for finding in findings("queue")][1] == ("warn", "1 events have failed")


def test_an_api_key_that_cannot_be_decrypted_is_a_failure(settings):
    account = BigInterviewAccount(subdomain="xyz")
    account.set_api_key("k" * 32)
    account.save()
    assert findings("accounts") == [("ok", "1 API keys can be decrypted", "")]
    settings.SECRET_KEY = "another" * 8
    ((level, message, _),) = findings("accounts")
    assert (level, message) == ("fail", "API keys cannot be decrypted: xyz")


@pytest.mark.parametrize(("seconds", "words"), [(90, "90 seconds behind"), (-90, "90 seconds ahead of")])
def test_a_wrong_clock_of_the_database_is_a_warning(seconds, words):
    """SQLite has no server, so there is nothing to compare."""
    assert findings("clocks") == []
    with time_machine.travel(timezone.now() + timedelta(seconds=seconds), tick=True):
        found = findings("clocks")
    if connection.vendor == "sqlite":
        assert found == []
        return
    ((level, message, remedy),) = found
    assert level == "warn"
    assert message in (f"the clock of the database is {words} this machine's", message.replace("90", "89"))
    assert "NTP" in remedy


@pytest.mark.parametrize(
    ("seconds", "level", "words"),
    [(4000, "fail", "seconds ahead of"), (900, "warn", "seconds ahead of"), (-900, "warn", "seconds behind")],
)
def test_a_wrong_clock_of_a_worker_is_a_warning_or_a_failure(celery_worker_thread, monkeypatch, seconds, level, words):
    """A worker whose clock is an hour ahead discards every sweep."""
    wrong = SimpleNamespace(time=lambda: time.time() + seconds, monotonic=time.monotonic)
    monkeypatch.setattr("django_bi_integration.tasks.time", wrong)
    ((found, message, remedy),) = findings("clocks")
    assert found == level
    assert f"{words} this machine's" in message
    assert "NTP" in remedy


@pytest.mark.parametrize(("reported", "expected"), [(99, -1), (100, 0), (105, 0), (110, 0), (130, 20)])
def test_only_the_certain_part_of_a_clock_difference_counts(reported, expected):
    """The request was sent at 100 and the reply came at 110. The worker read its clock at some time in between."""
    assert workers.difference(reported, sent_at=100, replied_at=110) == expected


@pytest.mark.parametrize(
    ("routing_key", "queue"), [("high", "of high priority"), ("low", "of low priority")], ids=["high", "low"]
)
def test_a_route_by_exchange_leads_to_the_queue_that_is_bound(celery_worker_thread, monkeypatch, routing_key, queue):
    """The worker consumes neither queue; it consumes only the queue with the same name as the exchange."""
    exchange = kombu.Exchange("celery")
    queues = [kombu.Queue(f"of {key} priority", exchange, routing_key=key) for key in ("high", "low")]
    route = {"exchange": "celery", "routing_key": routing_key}
    app = Celery("university", broker="memory://localhost/", set_as_current=False)
    app.conf.update(task_queues=queues, task_routes={"django_bi_integration.*": route})
    monkeypatch.setattr(notifier, "app", app)
    ((level, message, _),) = findings("workers")
    assert level == "fail"
    assert f"no worker of this project consumes the queue “{queue}”" in message


def test_a_route_that_leads_to_no_queue_is_reported(monkeypatch):
    """With such a route, no notification can be sent."""
    app = Celery("university", broker="memory://", set_as_current=False)
    app.conf.update(task_create_missing_queues=False, task_routes={"django_bi_integration.*": "webhooks"})
    monkeypatch.setattr(notifier, "app", app)
    ((level, message, remedy),) = findings("workers")
    assert level == "fail"
    assert "'webhooks'" in message
    assert "CELERY_TASK_QUEUES" in remedy


def test_an_event_from_the_future_is_a_warning_about_the_clocks():
    deliver(big_interview())
    assert findings("clocks") == []
    ReceivedEvent.objects.update(received_at=timezone.now() + timedelta(minutes=5))
    assert findings("clocks")[0][0] == "warn"


class TrustingServer:
    """The project under a server that replaces the connection's address by the value of a header."""

    def __init__(self, header, peer=None):
        self.header, self.peer = header, peer
        self.project = WSGIHandler()

    def __call__(self, environ, start_response):
        environ["REMOTE_ADDR"] = environ.get(self.header) or self.peer or environ["REMOTE_ADDR"]
        return self.project(environ, start_response)


@contextmanager
def serving(application):
    """Run the application, and yield its URL. Like uWSGI, the server treats X_Forwarded_For as X-Forwarded-For."""

    class Quiet(WSGIRequestHandler):
        def log_message(self, *args):
            pass

    class Threading(ThreadingMixIn, WSGIServer):
        daemon_threads = True

    with make_server("127.0.0.1", 0, application, Threading, Quiet) as httpd:
        Thread(target=httpd.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{httpd.server_port}"
        httpd.shutdown()


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("header", ["X-Forwarded-For", "X-Real-IP", "CF-Connecting-IP"])
def test_a_server_that_lets_clients_choose_their_address_is_a_failure(header):
    with serving(TrustingServer("HTTP_" + header.upper().replace("-", "_"))) as url:
        level, message, remedy = client_address(url)
    assert level == "fail"
    assert message.startswith(f"anyone can choose the address that allowlists see, with the header {header}")
    assert "replaces the connection's address" in remedy


@pytest.mark.django_db(transaction=True)
def test_a_server_that_keeps_the_connections_address_passes():
    with serving(WSGIHandler()) as url:
        level, message, _ = client_address(url)
    assert (level, message.partition(",")[0]) == ("ok", "this request is seen to come from 127.0.0.1")


def behind_proxy(url, line):
    """Run a proxy in front of a URL, and yield the proxy's URL.

    ``line`` gets the client's X-Forwarded-For, and returns the one to send, or None.
    """

    def forward(path, headers, body):
        headers["X-Forwarded-For"] = line(headers.get("X-Forwarded-For"))
        sent = {name: value for name, value in headers.items() if value is not None}
        answer = requests.post(url + path, body, headers=sent, timeout=30)
        return answer.status_code, [("Allow", answer.headers["Allow"])], answer.content

    return answering(forward)


def client_address(url):
    """Return the level, message and remedy of the finding about the address; stop before the slow checks after it."""
    found = next((one for one in doctor.examine(url) if one.subject == "client address"), None)
    assert found, "no finding about the client address"
    return found.level, found.message, found.remedy


def overwrite(theirs):
    return "192.0.2.9"


def pass_on(theirs):
    return theirs


def append(theirs):
    return f"{theirs}, 192.0.2.9" if theirs else "192.0.2.9"


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    ("line", "trusted", "level", "message", "remedy"),
    [
        (overwrite, [], "warn", "but is seen to come from 127.0.0.1", "TRUSTED_PROXIES to ['127.0.0.1']"),
        (append, ["10.0.0.5"], "warn", "from an unknown address", "TRUSTED_PROXIES to ['127.0.0.1']"),
        (pass_on, ["127.0.0.1"], "fail", "with the header X-Forwarded-For", "let it append the client's address"),
        (append, ["127.0.0.1"], "fail", "with the header X_Forwarded_For", "header with underscores"),
    ],
    ids=["not named", "named wrongly", "the proxy passes the header on", "the server merges underscores"],
)  # fmt: skip
def test_a_wrong_client_address_behind_a_proxy_has_a_remedy(settings, line, trusted, level, message, remedy):
    settings.BI_INTEGRATION = {"TRUSTED_PROXIES": trusted}
    with serving(WSGIHandler()) as server_url, behind_proxy(server_url, line) as url:
        found, text, hint = client_address(url)
    assert (found, message in text, remedy in hint) == (level, True, True), (found, text, hint)


@pytest.mark.django_db(transaction=True)
def test_a_web_process_with_another_key_reports_nothing(settings):
    class WithAnotherKey(WSGIHandler):
        def __call__(self, *arguments):
            with override_settings(SECRET_KEY="another" * 8):
                return super().__call__(*arguments)

    with serving(WithAnotherKey()) as url:
        assert findings("client address", "--url", url) == []
        ((level, message, remedy),) = findings("web process", "--url", url)
    assert (level, message) == ("warn", "it does not report which address it sees")
    assert "SECRET_KEY" in remedy


def probe(**headers):
    """POST to the probe's URL, and return the response."""
    path = "/bi/webhooks/00000000-0000-0000-0000-000000000000/"
    return Client().post(path, b"{}", content_type="application/json", headers=headers)


def test_a_forged_probe_token_gets_the_same_response_as_none():
    usual = probe()
    signed = signing.TimestampSigner().sign("for another purpose")
    for token in ("", "x", "a:b:c", "\xff", "x" * 100_000, signed):
        answer = probe(**{"X-BI-Integration-Probe": token})
        assert (answer.status_code, answer.content, dict(answer.items())) == (404, usual.content, dict(usual.items()))
    assert usual.json() == {"detail": "Not found."}


def test_a_probe_token_expires_and_its_response_is_not_cached():
    token = make_token()
    answer = probe(**{"X-BI-Integration-Probe": token})
    assert read_report(answer.json()["report"], token)["address"] == "127.0.0.1"
    assert read_report(answer.json()["report"], make_token()) is None, "a report for another token was accepted"
    assert answer["Cache-Control"] == "no-store"
    with time_machine.travel(timezone.now() + timedelta(minutes=6)):
        assert "report" not in probe(**{"X-BI-Integration-Probe": token}).json()


@pytest.mark.django_db(transaction=True)
def test_a_web_process_that_can_notify_workers_is_ok():
    with serving(WSGIHandler()) as url:
        assert findings("notifications", "--url", url) == [("ok", "the web process notifies workers", "")]


@pytest.mark.django_db(transaction=True)
def test_a_web_process_that_cannot_reach_the_broker_is_a_failure(monkeypatch):
    broken = Notifier()
    broken.use(celery_with_broker("redis://127.0.0.1:1/0"))
    monkeypatch.setattr("django_bi_integration.webhooks.self_report.notifier", broken)
    with serving(WSGIHandler()) as url:
        ((level, message, _),) = findings("notifications", "--url", url)
    assert (level, message) == ("fail", "the web process cannot reach the broker")


@pytest.mark.django_db(transaction=True)
def test_without_a_celery_app_there_is_no_finding_about_notifications(monkeypatch):
    monkeypatch.setattr(notifier, "app", Celery("default", set_as_current=False))
    with serving(WSGIHandler()) as url:
        assert findings("notifications", "--url", url) == []


def test_an_api_key_of_another_subdomain_has_a_specific_remedy(db):
    """The encryption key is right, so the remedy must not name it."""
    account = BigInterviewAccount(subdomain="old")
    account.set_api_key("935d85189822bf96c28c4fa79d3d8f31")
    account.save()
    BigInterviewAccount.objects.update(subdomain="new")
    (found,) = doctor.accounts()
    assert (found.level, found.message) == (doctor.Level.FAIL, "API keys were entered for another subdomain: new")
    assert "ENCRYPTION_KEYS" not in found.remedy
