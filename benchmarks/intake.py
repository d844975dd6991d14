"""Intake: deliveries a second, compared with other receivers in interleaved rounds."""

import random
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import version
from statistics import median

from django.db import connection

from benchmarks import events, load
from benchmarks.deployment import Deployment, Served
from benchmarks.peers import stripe
from benchmarks.peers.models import Event, Registration
from benchmarks.registrations import KEY, registration
from benchmarks.report import Table, ratio
from django_bi_integration.models import ReceivedEvent

Bodies = Callable[[], Iterator[bytes]]


@dataclass
class Contestant:
    """One receiver under one load, and its measurements in each round."""

    name: str
    served: Served
    path: str
    stored: Callable[[], int]
    bodies: Bodies = events.unique
    copies: int = 1
    headers: load.Headers = load.no_more
    rates: list[float] = field(default_factory=list)
    slowest: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)

    def warm_up(self, seconds: float) -> None:
        """Warm up: open connections and load modules."""
        self._post(seconds)

    def measure(self, seconds: float) -> None:
        """Run one round. Raise AssertionError if the stored events are not those that got a 200."""
        stored, cpu = self.stored(), self.served.cpu_seconds()
        result = self._post(seconds)
        answered = result.statuses.total()
        assert result.statuses == {200: answered}, f"{self.name} answered {dict(result.statuses)}"
        new = self.stored() - stored
        started = 1 if self.copies == 1 else events.BLOCK  # of the last block, not every copy may have been sent
        assert new * self.copies >= answered > (new - started) * self.copies, (
            f"{self.name}: {answered} answered, {new} stored"
        )
        self.rates.append(result.rate)
        self.slowest.append(result.quantile(0.99))
        self.cpu.append((self.served.cpu_seconds() - cpu) / answered * 1000)

    def _post(self, seconds: float) -> load.Result:
        url = self.served.url + self.path
        return load.post(url, self.bodies(), key=KEY, seconds=seconds, headers=self.headers)


def contestants(deployment: Deployment, stack: ExitStack) -> dict[str, Contestant]:
    """Start every receiver."""

    peer = Registration.objects.create(name="Benchmark", key=KEY)
    make_bare_table()
    django = stack.enter_context(deployment.web("benchmarks.wsgi"))
    without_broker = stack.enter_context(deployment.web("benchmarks.wsgi", CELERY_BROKER_URL="redis://127.0.0.1:1/0"))
    prepared = stack.enter_context(deployment.web("benchmarks.wsgi", BENCHMARK_DRIVER_PREPARES="1"))
    bare = stack.enter_context(deployment.web("benchmarks.peers.bare_wsgi"))
    ours = registration()
    found = [
        Contestant("bare WSGI, one insert", bare, f"/{ours.pk}/", partial(count, "bare_event")),
        Contestant("plain Django view, one insert", django, f"/plain/{peer.pk}/", Event.objects.count),
        Contestant("this package", django, ours.get_absolute_url(), ReceivedEvent.objects.count),
        Contestant(
            "this package, its broker stopped", without_broker, ours.get_absolute_url(), ReceivedEvent.objects.count
        ),
        Contestant(
            "this package, each event six times", django, ours.get_absolute_url(), ReceivedEvent.objects.count,
            lambda: events.repeated(6), copies=6,
        ),
        Contestant("hand-written function view", django, f"/function/{peer.pk}/", Event.objects.count),
        Contestant("hand-written DRF view", django, f"/drf/{peer.pk}/", Event.objects.count),
        Contestant(
            "this package, with the driver's options", prepared, ours.get_absolute_url(), ReceivedEvent.objects.count
        ),
        Contestant(
            "hand-written function view, with those options", prepared, f"/function/{peer.pk}/", Event.objects.count
        ),
    ]  # fmt: skip
    if stripe.IS_INSTALLED:
        found.append(dj_stripe(deployment, stack))
    return {contestant.name: contestant for contestant in found}


def dj_stripe(deployment: Deployment, stack: ExitStack) -> Contestant:
    """Start a separate web server for the receiver."""
    deployment.manage("migrate", "--verbosity=0", **stripe.ENVIRONMENT)
    endpoint = deployment.manage("shell", "--no-imports", "-c", stripe.MAKE_ENDPOINT, **stripe.ENVIRONMENT).strip()
    served = stack.enter_context(deployment.web("benchmarks.wsgi", **stripe.ENVIRONMENT))
    return Contestant(
        f"dj-stripe {version('dj-stripe')}, storing only", served, f"/stripe/webhook/{endpoint}/",
        partial(count, "djstripe_webhookeventtrigger"), stripe.bodies, headers=stripe.signature,
    )  # fmt: skip


def measure(deployment: Deployment, *, rounds: int, seconds: float) -> Table:
    """Measure every receiver in every round, in a different order each time."""
    with ExitStack() as stack:
        all_of_them = contestants(deployment, stack)
        for contestant in all_of_them.values():
            contestant.warm_up(min(1, seconds))
        for _ in range(rounds):
            order = list(all_of_them.values())
            random.shuffle(order)
            for contestant in order:
                contestant.measure(seconds)
    ours, hand_written = all_of_them["this package"], all_of_them["hand-written function view"]
    table = Table(
        "Intake",
        ["receiver", "× the hand-written function view", "p99 against it", "× this package", "CPU of Python a request"],
    )
    for contestant in all_of_them.values():
        table.add(
            contestant.name,
            ratio(contestant.rates, hand_written.rates),
            ratio(contestant.slowest, hand_written.slowest),
            ratio(contestant.rates, ours.rates),
            f"{median(contestant.cpu):.2f} ms",
        )
    return table


def make_bare_table() -> None:
    """Create the table of the bare WSGI receiver, outside Django."""
    with connection.cursor() as cursor:
        cursor.execute(
            "CREATE TABLE bare_event (id bigserial PRIMARY KEY, registration_id uuid NOT NULL, event_id text NOT NULL,"
            " body bytea NOT NULL, UNIQUE (registration_id, event_id))"
        )


def count(table: str) -> int:
    """Count the rows of a table without a model."""
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT count(*) FROM {table}")
        return int(cursor.fetchone()[0])
