"""Can the broker be reached, do this project's workers consume its messages, and are their clocks right?"""

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from celery import Celery
from celery.app.control import Inspect
from celery.exceptions import QueueNotFound

from django_bi_integration.dispatch.notify import TASK, notifier
from django_bi_integration.operations.findings import Finding, Level, within
from django_bi_integration.schedule import EXPIRES
from django_bi_integration.tasks import CLOCK

#: Seconds that all communication with the broker may take, and that workers have for each reply.
BROKER_TIMEOUT = 5.0
WORKER_TIMEOUT = 1.0
#: Seconds that two machines' clocks may differ by. NTP keeps them within a fraction of one.
CLOCK_TOLERANCE = 5.0
NTP = "Let NTP set the clocks of all machines."


@dataclass(frozen=True)
class Worker:
    """A Celery worker that replied, of this project or of another one on the same broker.

    ``ahead`` is the least number of seconds by which its clock differs from this machine's, negative if it is behind.
    """

    name: str
    has_task: bool
    queues: frozenset[str]
    ahead: float = 0.0


def workers() -> Iterator[Finding]:
    """Examine the broker and every worker on it."""
    if not notifier.has_app:
        return  # a system check reports it
    app = notifier.celery
    try:
        queues = _queues(app)
    except QueueNotFound as error:
        remedy = "Name the queue in CELERY_TASK_QUEUES, or change CELERY_TASK_ROUTES. Until then, nothing is sent."
        yield Finding(Level.FAIL, "workers", f"{TASK} is sent to a queue that is not defined: {error}", remedy)
        return
    try:
        found = within(BROKER_TIMEOUT, partial(_find_workers, app))
    except Exception as error:  # noqa: BLE001 - transports may raise anything
        problem = str(error) or f"no response within {BROKER_TIMEOUT:g} seconds"
        remedy = "Check CELERY_BROKER_URL, and that the broker runs. Events are stored nevertheless."
        yield Finding(Level.FAIL, "broker", f"it cannot be reached: {problem}", remedy)
        return
    yield Finding(Level.OK, "broker", "it can be reached")
    if any(worker.has_task or worker.queues & queues for worker in found):
        for queue in sorted(queues):
            yield from _consumers(queue, found)
    else:
        others = f"; those of other projects do: {_names(found)}" if found else ""
        remedy = "Start `celery worker` and one `celery beat`, unless cron runs `manage.py bi_dispatch`."
        yield Finding(Level.WARN, "workers", f"no Celery worker replies{others}", remedy)
    yield from _clocks(found)


def _consumers(queue: str, found: list[Worker]) -> Iterator[Finding]:
    consumers = [worker for worker in found if queue in worker.queues]
    if strangers := [worker for worker in consumers if not worker.has_task]:
        yield Finding(
            Level.FAIL,
            "workers",
            f"{_names(strangers)} consume the queue “{queue}” without the task {TASK}: they discard its messages",
            "Start them from this project's Celery app, with django_bi_integration in INSTALLED_APPS. If they belong to"
            " another project, give each project a different queue (CELERY_TASK_DEFAULT_QUEUE) or broker URL.",
        )
    if ours := [worker for worker in consumers if worker.has_task]:
        yield Finding(Level.OK, "workers", f"these consume the queue “{queue}”: {_names(ours)}")
    else:
        others = ", ".join(f"{worker.name} ({', '.join(sorted(worker.queues))})" for worker in found if worker.has_task)
        yield Finding(
            Level.FAIL,
            "workers",
            f"no worker of this project consumes the queue “{queue}”, which {TASK} is sent to"
            + (f"; they consume others: {others}" if others else ""),
            f"Start a worker with `-Q {queue}`, or send the task to a queue that has one (CELERY_TASK_ROUTES).",
        )


def _clocks(found: list[Worker]) -> Iterator[Finding]:
    for worker in found:
        if abs(worker.ahead) > CLOCK_TOLERANCE:
            yield clock_finding(worker.name, worker.ahead, Level.FAIL if worker.ahead > EXPIRES else Level.WARN)


def clock_finding(whose: str, ahead: float, level: Level = Level.WARN) -> Finding:
    """Return a finding that a clock differs from this machine's by ``ahead`` seconds, with the effects."""
    direction = "ahead of" if ahead > 0 else "behind"
    message = f"the clock of {whose} is {abs(ahead):.0f} seconds {direction} this machine's"
    return Finding(
        level,
        "clocks",
        message,
        f"{NTP} An event waits for as long as a worker's clock is behind; a worker whose clock is"
        f" {EXPIRES / 3600:g} hour ahead discards every sweep.",
    )


def _names(found: Iterable[Worker]) -> str:
    return ", ".join(sorted(worker.name for worker in found))


def _queues(app: Celery) -> frozenset[str]:
    """Return the queues that notifications and sweeps are sent to, as Celery determines them."""
    task: Any = app.tasks[TASK]
    entries = (app.conf.beat_schedule or {}).values()
    sweeps = [entry.get("options") or {} for entry in entries if entry.get("task") == TASK]
    names: set[str] = set()
    for options in ({}, *sweeps):
        wanted = {name: options.get(name) or getattr(task, name, None) for name in ("queue", "exchange", "routing_key")}
        wanted = {name: value for name, value in wanted.items() if value is not None}
        route = app.amqp.router.route(wanted, TASK, (), {}, task)
        names |= (
            {route["queue"].name} if route.get("queue") else _bound(app, route["exchange"], route.get("routing_key"))
        )
    return frozenset(names)


def _bound(app: Celery, exchange: Any, routing_key: str | None) -> set[str]:
    """Return the queues, of those that this project defines, that an exchange routes a message to."""
    name = getattr(exchange, "name", exchange)
    queues = [queue for queue in app.amqp.queues.values() if queue.exchange.name == name]
    return {queue.name for queue in queues if queue.exchange.type != "direct" or queue.routing_key == routing_key}


def _find_workers(app: Celery) -> list[Worker]:
    with app.connection_for_write() as broker:
        broker.connect()  # once; a broadcast would try again and again
        everyone = Inspect(app=app, timeout=WORKER_TIMEOUT, connection=broker)
        tasks = everyone.registered() or {}
        if not tasks:
            return []
        known: dict[str, Any] = {"destination": [*tasks], "limit": len(tasks), "connection": broker}
        queues = Inspect(app=app, timeout=WORKER_TIMEOUT, **known).active_queues() or {}
        ours = [name for name, registered in tasks.items() if _has_task(registered)]
        ahead = _differences(app, broker, ours) if ours else {}
    return [Worker(name, name in ours, _consumed(answer), ahead.get(name, 0.0)) for name, answer in queues.items()]


def _has_task(registered: object) -> bool:
    """Return True if a worker has the task. A rate limit is listed behind the task's name."""
    return isinstance(registered, list) and any(str(task).partition(" ")[0] == TASK for task in registered)


def _consumed(queues: object) -> frozenset[str]:
    return frozenset(str(queue["name"]) for queue in queues) if isinstance(queues, list) else frozenset()


def _differences(app: Celery, broker: Any, names: list[str]) -> dict[str, float]:
    """Return the least number of seconds by which each worker's clock differs from this machine's."""
    sent_at = time.time()
    replies = app.control.broadcast(
        CLOCK, reply=True, destination=names, limit=len(names), timeout=WORKER_TIMEOUT, connection=broker
    )
    replied_at = time.time()
    clocks = {name: reply for answer in replies or [] for name, reply in answer.items()}
    return {
        name: difference(reply["time"], sent_at, replied_at)
        for name, reply in clocks.items()
        if isinstance(reply, dict) and isinstance(reply.get("time"), float)
    }


def difference(shown: float, sent_at: float, replied_at: float) -> float:
    """Return the least difference in seconds of a clock that showed ``shown`` between two times of this clock."""
    return max(shown - replied_at, 0.0) or min(shown - sent_at, 0.0)
