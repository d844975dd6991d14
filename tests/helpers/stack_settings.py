"""The example project's settings with short times, the app tests.chaos, and a separate queue.

Two test runs may share one RabbitMQ, so each uses a separate queue.
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
    # The clock of this process and its children is wrong, as on a badly configured machine.
    time_machine.travel(datetime.now(UTC) + timedelta(seconds=float(ahead)), tick=True).start()
