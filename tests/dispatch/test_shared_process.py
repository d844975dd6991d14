"""Receivers affect neither each other nor the rest of their process: a server, its event loop and its context."""

import asyncio
import decimal
import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
from contextvars import ContextVar
from functools import partial

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.core.management import call_command
from django.db import connection, connections, transaction
from django.http import HttpResponse
from django.test import AsyncClient, override_settings
from django.urls import path
from django.utils import timezone, translation

from django_bi_integration.dispatch.queue import claim
from django_bi_integration.dispatch.worker import dispatch_pending
from django_bi_integration.exceptions import GiveUp
from django_bi_integration.models import ReceivedEvent
from django_bi_integration.signals import event_received
from tests.helpers.deliveries import KEY, big_interview, deliver, interview_event, stored, subscribed
from tests.helpers.servers import free_port
from tests.helpers.stack import ROOT, Program, answers_http
from tests.host.models import Effect

# Receivers commit their effects, also from the threads in which servers run their views.
pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.database]

mood: ContextVar[str] = ContextVar("mood", default="calm")


async def writes_and_raises(event, **arguments):
    await Effect.objects.acreate(receiver="async", event_id=event.vendor_event_id)
    raise LookupError("no such student")


async def writes(event, **arguments):
    await Effect.objects.acreate(receiver="async", event_id=event.vendor_event_id)


def close_connections():
    """Close the connections of the thread in which asgiref runs a server's views."""
    connections.close_all()


LOOPS = [pytest.param(None, id="usual tasks")]
if sys.version_info >= (3, 12):
    LOOPS.append(pytest.param(asyncio.eager_task_factory, id="eager tasks"))


@pytest.mark.parametrize("factory", LOOPS)
def test_an_async_receiver_that_raises_cancels_no_other_task(factory):
    """If an event loop is running, asgiref runs the receiver on it, together with all other tasks of the server."""
    deliver(big_interview(), interview_event("1"))
    connection.close()
    others_go_on = []

    async def other(end):
        await end.wait()
        others_go_on.append(True)

    async def server():
        asyncio.get_running_loop().set_task_factory(factory)
        end = asyncio.Event()
        tasks = [asyncio.create_task(other(end)) for _ in range(3)]
        await asyncio.sleep(0)
        ended = await sync_to_async(dispatch_pending)()
        end.set()
        await asyncio.gather(*tasks)
        await sync_to_async(close_connections)()
        return ended

    with subscribed(event_received, writes_and_raises, dispatch_uid="bad"), subscribed(event_received, writes):
        assert asyncio.run(server()) == {"pending": 1}
    assert others_go_on == [True] * 3
    assert stored().receiver_results["bad"]["status"] == "retry"
    assert list(Effect.objects.values_list("event_id", flat=True)) == ["1"]


def dispatches(request):
    call_command("bi_dispatch", verbosity=0)
    return HttpResponse("dispatched")


urlpatterns = [path("dispatch/", dispatches)]


@pytest.mark.parametrize(
    ("receiver", "expected"), [(writes_and_raises, "pending"), (writes, "dispatched")], ids=["raises", "fine"]
)
@override_settings(ROOT_URLCONF="tests.dispatch.test_shared_process")
def test_a_view_that_dispatches_responds_whether_or_not_an_async_receiver_raises(receiver, expected):
    deliver_to = big_interview()
    with override_settings(ROOT_URLCONF="tests.urls"):
        deliver(deliver_to, interview_event("1"))

    async def visit():
        return await AsyncClient().get("/dispatch/")

    with subscribed(event_received, receiver):
        assert async_to_sync(visit)().content == b"dispatched"
    assert stored().status == expected


@override_settings(ROOT_URLCONF="tests.dispatch.test_shared_process")
def test_a_view_that_dispatches_a_failing_event_responds_500():
    """The command raises CommandError. SystemExit would end the event loop, and the server with it."""

    def hopeless(**arguments):
        raise GiveUp

    with override_settings(ROOT_URLCONF="tests.urls"):
        deliver(big_interview(), interview_event("1"))

    async def visit():
        return await AsyncClient(raise_request_exception=False).get("/dispatch/")

    with subscribed(event_received, hopeless):
        assert async_to_sync(visit)().status_code == 500
    assert stored().status == "failed"


#: The options of each ASGI server that give its port.
SERVERS = {"uvicorn": "--port={}", "hypercorn": "--bind=127.0.0.1:{}", "daphne": "--port={}"}


@pytest.mark.slow
@pytest.mark.parametrize("server", SERVERS)
def test_an_asgi_server_keeps_running_when_an_async_receiver_raises(server, tmp_path):
    """With eager tasks, the vendor gets a 200, the next visitor a response, and the receiver is retried."""
    pytest.importorskip(server, reason=f"{server} is not installed")
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    environment = {
        **os.environ,
        "CELERY_BROKER_URL": "memory://localhost/",
        "DATABASE_URL": f"sqlite:///{tmp_path / 'db.sqlite3'}",
        "DJANGO_ALLOWED_HOSTS": "127.0.0.1",
        "DJANGO_SECRET_KEY": "asgi-server",
        "DJANGO_SETTINGS_MODULE": "tests.helpers.stack_settings",
        "TEST_STACK_COROUTINES": "1",
        "TEST_STACK_EAGER": "1",
        "TEST_STACK_QUEUE": "unused",
    }
    command = [sys.executable, "-m", server, SERVERS[server].format(port), "example_project.asgi:application"]
    running = Program(server, command, environment, tmp_path / "log", lambda _: answers_http(url))
    manage = partial(_manage, environment)
    manage("migrate", "--verbosity=0")
    arguments = ["bi_register", "--vendor=big_interview", "--name=x", f"--key={KEY}"]
    webhook = url + json.loads(manage(*arguments))["path"]
    running.start()
    try:
        body = interview_event("1").replace(b'"title": "', b'"title": "raise in a coroutine", "old_title": "')
        request = urllib.request.Request(webhook, body, {"authorization": KEY, "content-type": "application/json"})
        with urllib.request.urlopen(request, timeout=30) as response:
            assert response.status == 200
        assert answers_http(url)
        assert running.process.poll() is None, running.output()
    finally:
        running.stop()
    look = "from django_bi_integration.models import ReceivedEvent as E; print(E.objects.get().receiver_results)"
    assert "'status': 'retry'" in manage("shell", "--no-imports", "-c", look)


def _manage(environment, *arguments):
    command = [sys.executable, "manage.py", *arguments]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def observed():
    """Return the process's state that an earlier receiver may have changed."""
    return (
        translation.get_language(),
        timezone.get_current_timezone_name(),
        mood.get(),
        decimal.getcontext().prec,
        len(connection.execute_wrappers),
        connection.force_debug_cursor,
    )


def noop(execute, *arguments):
    return execute(*arguments)


def change_everything():
    translation.activate("fr")
    timezone.activate("Asia/Tokyo")
    mood.set("angry")
    decimal.getcontext().prec = 3
    connection.execute_wrappers.append(noop)
    connection.force_debug_cursor = True


def careless(**arguments):
    change_everything()


def careless_and_bad(**arguments):
    change_everything()
    raise LookupError


async def careless_in_a_coroutine(**arguments):
    translation.activate("fr")
    timezone.activate("Asia/Tokyo")
    mood.set("angry")
    decimal.setcontext(decimal.Context(prec=3))
    await sync_to_async(change_everything)()


def careless_after_the_commit(**arguments):
    transaction.on_commit(change_everything)


@pytest.mark.parametrize("receiver", [careless, careless_and_bad, careless_in_a_coroutine, careless_after_the_commit])
@pytest.mark.parametrize("path", ["batch", "one by one"])
def test_what_a_receiver_changes_in_its_process_is_restored(receiver, path, batches):
    """Neither later receivers, nor those of the next event, nor other code in the process see the change."""
    to = big_interview()
    for number in "12":
        deliver(to, interview_event(number, interview=number))
    if path == "one by one":
        for event in claim():
            ReceivedEvent.objects.filter(pk=event.pk).update(
                next_attempt_at=timezone.now()
            )  # as if the worker had died
    before, seen = observed(), []

    def look(**arguments):
        seen.append(observed())

    async def look_from_a_coroutine(**arguments):
        seen.append(await sync_to_async(observed)())
        assert (translation.get_language(), mood.get()) == (before[0], before[2])

    with (
        subscribed(event_received, receiver),
        subscribed(event_received, look),
        subscribed(event_received, look_from_a_coroutine),
    ):
        dispatch_pending()
    assert seen == [before] * 4
    assert observed() == before


def test_an_on_commit_callback_runs_in_the_context_of_its_receiver():
    """An e-mail that a receiver sends after the commit is in the language that the receiver activated."""
    seen = []

    def mails_in(language):
        def receiver(**arguments):
            translation.activate(language)
            transaction.on_commit(lambda: seen.append(translation.get_language()))

        return receiver

    deliver(big_interview())
    with subscribed(event_received, mails_in("fr")), subscribed(event_received, mails_in("de")):
        dispatch_pending()
    assert seen == ["fr", "de"]


def test_what_a_receiver_changes_in_the_storage_of_an_older_asgiref_is_restored():
    """Before 3.9, asgiref keeps the values of its Local, like the active language, as a dict in a context variable."""
    storage = ContextVar("asgiref.local", default=None)
    storage.set({"language": "en"})
    seen = []

    def changes_it(**arguments):
        seen.append(dict(storage.get()))
        storage.get()["language"] = "de"

    deliver(big_interview())
    with (
        subscribed(event_received, changes_it, dispatch_uid="first"),
        subscribed(event_received, changes_it, dispatch_uid="second"),
    ):
        assert dispatch_pending() == {"dispatched": 1}
    assert seen == [{"language": "en"}] * 2
    assert storage.get() == {"language": "en"}


def test_what_a_receiver_changes_on_its_event_object_affects_neither_the_row_nor_other_receivers():
    seen = []

    def scribbles(event, **arguments):
        event.status = event.claim = event.subject_id = "changed"
        event.is_stale = True
        event.payload["webhook"] = "changed"

    def look(event, **arguments):
        seen.append((event.status, event.is_stale, event.subject_id, event.payload["webhook"]["id"]))

    deliver(big_interview(), interview_event("1"))
    with subscribed(event_received, scribbles), subscribed(event_received, look):
        assert dispatch_pending() == {"dispatched": 1}
    assert seen == [("pending", False, "abc123", "1")]
    assert (stored().is_stale, stored().subject_id) == (False, "abc123")


def test_a_caller_without_autocommit_keeps_its_transaction_when_a_batch_is_lost(batches):
    """Replacing the connection would silently roll back what the caller wrote."""
    to = big_interview()
    for number in "12":
        deliver(to, interview_event(number, interview=number))
    connection.close()

    def deletes_the_other(event, **arguments):
        ReceivedEvent.objects.exclude(pk=event.pk).delete()

    transaction.set_autocommit(False)
    try:
        Effect.objects.create(receiver="host", event_id="1")
        with subscribed(event_received, deletes_the_other):
            assert dispatch_pending() == {"dispatched": 1, "pending": 1}
        assert not transaction.get_autocommit()
        transaction.commit()
    finally:
        connection.close()
    assert batches == [2]
    assert Effect.objects.count() == ReceivedEvent.objects.count() == 1


@pytest.fixture
def other_database(tmp_path, monkeypatch):
    """Return the connection to a second database of the host project."""
    settings = {**connections.settings["default"], "ENGINE": "django.db.backends.sqlite3", "OPTIONS": {}}
    monkeypatch.setitem(connections.settings, "other", {**settings, "NAME": str(tmp_path / "other.sqlite3")})
    connections["other"].connect()  # Django's test classes keep ensure_connection() for databases that they know
    with connections["other"].cursor() as cursor:
        cursor.execute("CREATE TABLE kept (event_id text)")
    yield connections["other"]
    connections["other"].close()
    del connections["other"]


def leaves_a_block_open(event, **arguments):
    transaction.atomic(using="other").__enter__()


def turns_autocommit_off(event, **arguments):
    transaction.set_autocommit(False, using="other")


@pytest.mark.parametrize("careless", [leaves_a_block_open, turns_autocommit_off])
def test_a_transaction_left_open_on_another_database_ends_with_its_receiver(careless, other_database):
    """Otherwise nothing that this process writes there would ever be committed again."""

    def keep(event, **arguments):
        with connections["other"].cursor() as cursor:
            cursor.execute("INSERT INTO kept VALUES (%s)", [event.vendor_event_id])

    deliver(big_interview(), interview_event("1"))
    with (
        subscribed(event_received, careless, dispatch_uid="careless"),
        subscribed(event_received, keep, dispatch_uid="keep"),
    ):
        assert dispatch_pending() == {"pending": 1}
    results = stored().receiver_results
    assert results["careless"]["error"].startswith("TransactionManagementError: A transaction was left open on")
    assert results["keep"]["status"] == "done"
    other_database.close()  # what is not committed is lost with it
    other_database.connect()
    with other_database.cursor() as cursor:
        assert cursor.execute("SELECT event_id FROM kept").fetchall() == [("1",)]
