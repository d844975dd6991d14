"""The example project's own settings, with short times, a host app that counts, and a queue of its own.

A RabbitMQ that two test runs share must not mix them up.
"""

import os
from datetime import UTC, datetime, timedelta

import time_machine

from django_bi_integration.schedule import beat_schedule
from example_project.settings import *  # noqa: F403
from example_project.settings import BI_INTEGRATION, INSTALLED_APPS

INSTALLED_APPS = [*INSTALLED_APPS, "tests.chaos"]
BI_INTEGRATION = {**BI_INTEGRATION, "LEASE_SECONDS": 4, "RETRY_FIRST_SECONDS": 1, "MAX_ATTEMPTS": 4}

CELERY_TASK_DEFAULT_QUEUE = os.environ["TEST_STACK_QUEUE"]
CELERY_BEAT_SCHEDULE = beat_schedule(seconds=1)
CELERY_TASK_ALWAYS_EAGER = bool(os.environ.get("TEST_STACK_EAGER"))
if limit := os.environ.get("TEST_STACK_SOFT_TIME_LIMIT"):
    CELERY_TASK_ANNOTATIONS = {"django_bi_integration.dispatch": {"soft_time_limit": float(limit)}}
if queue := os.environ.get("TEST_STACK_ROUTED_TO"):
    CELERY_TASK_ROUTES = {"django_bi_integration.*": {"queue": queue}}
if ahead := os.environ.get("TEST_STACK_CLOCK_AHEAD"):
    # This process, and those that it forks, are on a machine whose clock is set wrong.
    time_machine.travel(datetime.now(UTC) + timedelta(seconds=float(ahead)), tick=True).start()
