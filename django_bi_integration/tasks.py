"""The Celery task, which only calls ``dispatch_pending``. It takes no arguments: the database knows the due events."""

import time
from typing import Any

from celery import Task, shared_task
from celery.worker.control import inspect_command

from django_bi_integration.dispatch.horizon import Horizon
from django_bi_integration.dispatch.notify import TASK, notify_worker
from django_bi_integration.dispatch.worker import dispatch_pending

#: The remote control command that asks a worker for its clock.
CLOCK = "django_bi_integration.clock"
#: Seconds after which a receiver that hangs is interrupted, and after which its worker process is killed.
SOFT_LIMIT, HARD_LIMIT = 240, 300
#: The part of the soft limit after which a task starts no further receiver and leaves the rest to another task.
TIME_BUDGET = 1 / 4
#: Shared by the tasks of this process. If several run at once, a race costs one more search.
horizon = Horizon()


@shared_task(bind=True, name=TASK, ignore_result=True, soft_time_limit=SOFT_LIMIT, time_limit=HARD_LIMIT)
def dispatch(task: "Task[[], None]") -> None:
    """Dispatch all events that are due.

    A soft limit interrupts a task only once, so a task that went on after it could be killed with the next receiver
    that hangs. Therefore a task ends well before it, whatever limit the host project has set.
    """
    budget = min(task.soft_time_limit or SOFT_LIMIT, task.time_limit or HARD_LIMIT) * TIME_BUDGET
    started = time.monotonic()
    dispatch_pending(seconds=budget, horizon=horizon)
    if time.monotonic() - started >= budget:
        notify_worker()


@inspect_command(name=CLOCK)
def clock(state: Any) -> dict[str, float]:
    """Return the time by this worker's clock, in seconds since 1970."""
    return {"time": time.time()}
