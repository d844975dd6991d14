"""Dispatch: how many events of a backlog a second take effect, compared with one Celery task for each event."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice
from statistics import median

from django.core.management.color import no_style
from django.db import connection
from django.db.models import Max, Min

from benchmarks import events
from benchmarks.celery import app
from benchmarks.deployment import Deployment
from benchmarks.peers.models import Effect, Event, Registration
from benchmarks.peers.tasks import process
from benchmarks.registrations import registration
from benchmarks.report import Table, ratio
from django_bi_integration.dispatch.notify import TASK
from django_bi_integration.models import ObjectState, ReceivedEvent
from django_bi_integration.webhooks.receive import receive
from tests.helpers.waiting import wait_until


@dataclass
class Contestant:
    """One way to process events, and its rates in events a second."""

    name: str
    fill: Callable[[int], None]
    span: Callable[[], tuple[datetime, datetime, int]]
    rates: list[float] = field(default_factory=list)


def measure(deployment: Deployment, *, rounds: int, backlog: int) -> Table:
    """Let each contestant process a backlog in each round, with two worker processes."""

    contestants = [
        Contestant("this package", fill_ours, span_ours),
        Contestant("a task for each event", fill_peer, span_peer),
    ]
    for _ in range(rounds):
        for contestant in contestants:
            clear()
            contestant.fill(backlog)
            with deployment.worker(processes=2):
                wait_until(lambda c=contestant: c.span()[2] == backlog, timeout=600, every=0.2)
            first, last, _done = contestant.span()
            effects = Effect.objects.values("event_id").distinct().count(), Effect.objects.count()
            if effects != (backlog, backlog):
                raise RuntimeError(f"{contestant.name}: {effects} effects of {backlog} events")
            contestant.rates.append(backlog / (last - first).total_seconds())
    table = Table("Dispatch", ["receiver of one insert, two processes", "× a Celery task for each event", "events/s"])
    for contestant in contestants:
        times = ratio(contestant.rates, contestants[-1].rates)
        table.add(contestant.name, times, f"{median(contestant.rates):.0f}")
    return table


def clear() -> None:
    """Empty the tables and the queue."""
    app.control.purge()
    with connection.cursor() as cursor:  # deleted rows would slow the next contestant until they are vacuumed
        tables = [model._meta.db_table for model in (Effect, Event, ObjectState, ReceivedEvent)]
        for statement in connection.ops.sql_flush(no_style(), tables):
            cursor.execute(statement)


def fill_ours(number: int) -> None:
    """Store events, and send two notifications, as two web processes would."""

    to = registration()
    for body in islice(events.unique(), number):
        receive(to, body)
    for _ in range(2):
        app.send_task(TASK)


def span_ours() -> tuple[datetime, datetime, int]:
    """Return when the first and the last event were dispatched, and how many were."""
    done = ReceivedEvent.objects.filter(status="dispatched")
    found = done.aggregate(first=Min("dispatched_at"), last=Max("dispatched_at"))
    return found["first"], found["last"], done.count()


def fill_peer(number: int) -> None:
    """Store events, and send a task for each."""

    registration, _ = Registration.objects.get_or_create(name="Dispatch")
    for body in islice(events.unique(), number):
        webhook = json.loads(body)["webhook"]
        event = Event.objects.create(
            registration=registration, event_id=webhook["id"], event_type=webhook["event_name"], payload=webhook
        )
        process.delay(event.pk)


def span_peer() -> tuple[datetime, datetime, int]:
    """Return when the first and the last event were processed, and how many were."""

    done = Event.objects.filter(processed_at__isnull=False)
    found = done.aggregate(first=Min("processed_at"), last=Max("processed_at"))
    return found["first"], found["last"], done.count()
