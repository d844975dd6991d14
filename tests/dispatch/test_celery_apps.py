"""Which Celery app notifies workers if a process has several. Each test starts a separate process."""

import json
import os
import subprocess
import sys

import pytest
from celery import Celery

from django_bi_integration.dispatch.notify import Notifier
from tests.operations.test_checks import ROOT, ids, messages

#: A host's project: two Celery apps, with a queue each on a broker in memory, which deliver an event and say what came
#: of it. ``{early}`` and ``{late}`` stand before and after Django is set up.
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
    """How many messages each app's queue has, and the ids of what the checks found."""
    code = PROJECT.format(early=early, late=late, setting=setting or {}, current=current)
    environment = {name: value for name, value in os.environ.items() if name != "DJANGO_SETTINGS_MODULE"}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    queues, found = json.loads(done.stdout.splitlines()[-1])
    return queues, [name.removeprefix("django_bi_integration.") for name in found]


def test_the_app_that_is_named_gets_the_notifications():
    """Also if another app is created after it, which is then Celery's current one."""
    early = f"{DISPATCHING}\n{REPORTING}"
    assert run(early, setting=NAMED) == ({"dispatching": 1, "reporting": 0}, [])


def test_several_apps_without_a_setting_are_a_warning():
    """Nothing says which one is meant."""
    assert run(f"{DISPATCHING}\n{REPORTING}") == ({"dispatching": 0, "reporting": 1}, ["W012"])
    assert run(DISPATCHING, REPORTING) == ({"dispatching": 1, "reporting": 0}, ["W012"])


def test_an_app_that_is_created_after_django_is_set_up_can_be_named():
    """Without the name, the package knows of no app."""
    assert run("", DISPATCHING, NAMED) == ({"dispatching": 1, "reporting": 0}, [])


def test_an_app_that_never_becomes_the_current_one_is_no_reason_to_warn():
    """Its author said so."""
    early = DISPATCHING.replace('app("dispatching")', 'Celery("dispatching", broker="memory://")')
    early += '\nmodule.dispatching.conf.task_default_queue = "dispatching"'
    assert run(f"{early}\n{REPORTING}", current=False) == ({"dispatching": 1, "reporting": 0}, [])


@pytest.mark.parametrize("path", ["university", "tests.no_such_module.app", "tests.operations.test_checks.ids"])
def test_a_name_that_leads_to_no_app_is_an_error_and_costs_no_delivery(settings, path):
    """The event is stored; the sweep dispatches it."""
    settings.BI_INTEGRATION = {"CELERY_APP": path}
    assert ids() == ["E018"]
    assert f"BI_INTEGRATION['CELERY_APP'] is '{path}'" in messages()[0]
    notifier = Notifier()
    notifier.use(Celery("another", broker="memory://", set_as_current=False))
    assert not notifier.has_app
    notifier.request()
    assert notifier.wait(0)
