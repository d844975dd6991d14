"""The fixtures that start programs: a worker, a deployment, a browser."""

import threading
import urllib.request

import pytest
from celery import shared_task

from tests.helpers.waiting import wait_until
from tests.host.models import Effect


@shared_task
def note(text):
    """Write a row with the name of the worker's thread."""
    Effect.objects.create(receiver=threading.current_thread().name, event_id=text)


@pytest.mark.database
def test_the_worker_thread_runs_tasks_and_the_test_sees_their_rows(celery_worker_thread):
    note.delay("hello")
    wait_until(Effect.objects.exists)
    assert Effect.objects.values_list("receiver", "event_id").get() == ("celery worker", "hello")


def test_the_deployment_serves_pages_and_runs_commands(live_stack):
    """gunicorn responds, and manage.py uses the same database."""
    with urllib.request.urlopen(f"{live_stack.url}/admin/login/") as page:
        assert b"csrfmiddlewaretoken" in page.read()
    assert "[X] 0001_initial" in live_stack.manage("showmigrations", "django_bi_integration")


def test_a_killed_worker_of_the_deployment_can_be_started_again(live_stack):
    live_stack.worker.kill()
    live_stack.worker.start()
    assert live_stack.worker.output().count(" ready.") == 2


def test_the_browser_shows_the_admin(page, live_server):
    page.goto(f"{live_server.url}/admin/")
    assert "Log in" in page.title()
