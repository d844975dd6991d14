"""Which Celery app notifies workers if a process has several. Most tests start a separate process."""

import json
import os
import subprocess
import sys

import pytest
from celery import Celery

from django_bi_integration.dispatch.notify import Notifier
from tests.operations.test_checks import ROOT, ids, messages

#: A host project with two Celery apps, each with a queue on a broker in memory. It receives one delivery, and prints
#: the number of messages in each queue and the ids of the check messages. ``{early}`` runs before Django is set up,
#: ``{late}`` after it.
PROJECT = """
import json, os, sys, types
from celery import Celery

def app(name):
    made = Celery(name, broker="memory://", set_as_current={current})
    made.conf.update(task_default_queue=name, beat_schedule={{}})
    return made

module = types.ModuleType("university")
sys.modules["university"] = module
{early}
import django
from django.conf import settings
from tests import settings as of_tests
values = {{name: getattr(of_tests, name) for name in dir(of_tests) if name.isupper()}}
values["INSTALLED_APPS"].remove("tests.host")
values["DATABASES"] = {{"default": {{"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}}}
values["BI_INTEGRATION"] = {setting}
settings.configure(**values)
django.setup()
{late}
from django.core.checks import run_checks
from django.core.management import call_command
call_command("migrate", verbosity=0)
found = [str(message.id) for message in run_checks(tags=["django_bi_integration"])]
from django_bi_integration.dispatch.notify import notifier
from tests.helpers.deliveries import big_interview, deliver
assert deliver(big_interview()).status_code == 200
assert notifier.wait(30)
queues = {{}}
for name in ("dispatching", "reporting"):
    with module.dispatching.connection_for_read() as connection:
        queues[name] = connection.SimpleQueue(name).qsize()
print(json.dumps([queues, found]))
"""
DISPATCHING = 'module.dispatching = app("dispatching")'
REPORTING = 'module.reporting = app("reporting")'
NAMED = {"CELERY_APP": "university.dispatching"}


def run(early, late="", setting=None, *, current=True):
    """Run PROJECT. Return the number of messages in each app's queue, and the ids of the check messages."""
    code = PROJECT.format(early=early, late=late, setting=setting or {}, current=current)
    environment = {name: value for name, value in os.environ.items() if name != "DJANGO_SETTINGS_MODULE"}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    queues, found = json.loads(done.stdout.splitlines()[-1])
    return queues, [name.removeprefix("django_bi_integration.") for name in found]


def test_the_app_that_the_setting_names_notifies_workers():
    """Even if another app is created after it and becomes Celery's current app."""
    early = f"{DISPATCHING}\n{REPORTING}"
    assert run(early, setting=NAMED) == ({"dispatching": 1, "reporting": 0}, [])


def test_several_apps_without_the_setting_are_a_warning():
    """The package cannot know which app has the workers."""
    assert run(f"{DISPATCHING}\n{REPORTING}") == ({"dispatching": 0, "reporting": 1}, ["W012"])
    assert run(DISPATCHING, REPORTING) == ({"dispatching": 1, "reporting": 0}, ["W012"])


def test_the_setting_can_name_an_app_that_is_created_after_django_is_set_up():
    assert run("", DISPATCHING, NAMED) == ({"dispatching": 1, "reporting": 0}, [])


def test_an_app_with_set_as_current_false_causes_no_warning():
    """It never becomes Celery's current app, so only one app is left that can be meant."""
    early = DISPATCHING.replace('app("dispatching")', 'Celery("dispatching", broker="memory://")')
    early += '\nmodule.dispatching.conf.task_default_queue = "dispatching"'
    assert run(f"{early}\n{REPORTING}", current=False) == ({"dispatching": 1, "reporting": 0}, [])


@pytest.mark.parametrize("path", ["university", "tests.no_such_module.app", "tests.operations.test_checks.ids"])
def test_a_setting_that_names_no_celery_app_is_a_check_error_and_disables_notifications(settings, path):
    """The sweep dispatches the events then."""
    settings.BI_INTEGRATION = {"CELERY_APP": path}
    assert ids() == ["E018"]
    assert f"BI_INTEGRATION['CELERY_APP'] is '{path}'" in messages()[0]
    notifier = Notifier()
    notifier.use(Celery("another", broker="memory://", set_as_current=False))
    assert not notifier.has_app
    notifier.request()
    assert notifier.wait(0)
