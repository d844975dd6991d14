"""Celery: the tasks call the verbs, nothing else. Their arguments carry no data: what waits is in the database."""

import time
from typing import Any

from celery import Task, shared_task
from celery.worker.control import inspect_command

from django_bi_integration.dispatch import worker as dispatching
from django_bi_integration.dispatch.notify import TASK, notify_worker

#: The remote control command that asks a worker for its clock.
CLOCK = "django_bi_integration.clock"
#: Seconds after which a receiver that hangs is interrupted, and after which its worker process is killed.
SOFT_LIMIT, HARD_LIMIT = 240, 300
#: The part of the soft limit after which a task starts no further receiver and leaves the rest to another one.
STINT = 1 / 4
#: Shared by the tasks of this process. Where several run at once, a race costs one more look.
horizon = dispatching.Horizon()


@shared_task(bind=True, name=TASK, ignore_result=True, soft_time_limit=SOFT_LIMIT, time_limit=HARD_LIMIT)
def dispatch(task: "Task[[], None]") -> None:
    """Dispatch what waits.

    A soft limit interrupts once in a task: one that went on after it would be at the mercy of the next receiver
    that hangs. So a task ends well before, whatever limit the host project has set for it.
    """
    stint = min(task.soft_time_limit or SOFT_LIMIT, task.time_limit or HARD_LIMIT) * STINT
    started = time.monotonic()
    dispatching.dispatch_pending(seconds=stint, horizon=horizon)
    if time.monotonic() - started >= stint:
        notify_worker()


@inspect_command(name=CLOCK)
def clock(state: Any) -> dict[str, float]:
    """Answer with the time by this worker's clock, in seconds since 1970."""
    return {"time": time.time()}
