"""Growth: the same work with few stored events and with many, and the admin's pages with many."""

import os
import random
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import islice
from statistics import median
from typing import Any

import psycopg
from django.contrib.auth import get_user_model
from django.db import connection
from django.test import Client
from django.urls import reverse

from benchmarks import dispatch, events, load
from benchmarks.celery import app
from benchmarks.deployment import Deployment
from benchmarks.registrations import KEY, registration
from benchmarks.report import Table, ratio
from django_bi_integration.dispatch.worker import dispatch_pending
from django_bi_integration.models import ReceivedEvent, WebhookRegistration
from django_bi_integration.vendors import BIG_INTERVIEW
from django_bi_integration.webhooks.receive import receive
from tests.helpers.waiting import wait_until

FEW = 10_000
REGISTRATIONS = 10_000
CHUNK = 100_000
#: The copies' numbers are far from those of the events that are sent.
FIRST_COPY = 1_000_000_000


@dataclass
class Contestant:
    """A deployment with a separate database, and its rates."""

    name: str
    database: str
    intake: list[float] = field(default_factory=list)
    dispatch: list[float] = field(default_factory=list)

    def measure(self, deployment: Deployment, backlog: int) -> None:
        """Deliver events, then have two processes dispatch them."""
        environment = {"DATABASE_URL": self.database}
        # Without a broker, so that workers only get the notifications below.
        with deployment.web("benchmarks.wsgi", CELERY_BROKER_URL="redis://127.0.0.1:1/0", **environment) as served:
            url = served.url + registration().get_absolute_url()
            self._deliver(url, backlog // 4)  # connections are opened, modules loaded
            newest = self._ask("SELECT max(id) FROM events")
            self.intake.append(self._deliver(url, backlog).rate)
        for _ in range(2):
            app.send_task(dispatch.TASK)
        with deployment.worker(**environment):
            wait_until(lambda: not self._ask("SELECT count(*) FROM events WHERE status = 'pending'"), 600, every=0.2)
        span = "SELECT extract(epoch FROM max(dispatched_at) - min(dispatched_at)) FROM events WHERE id > %s"
        self.dispatch.append(backlog / float(self._ask(span, newest)))

    def _deliver(self, url: str, number: int) -> load.Result:
        result = load.post(url, islice(events.unique(), number), key=KEY)
        if result.statuses != {200: number}:
            raise RuntimeError(f"{self.name} answered {dict(result.statuses)}")
        return result

    def _ask(self, sql: str, *arguments: Any) -> Any:
        sql = sql.replace("events", "django_bi_integration_receivedevent")
        with psycopg.connect(self.database, autocommit=True) as database:
            return database.execute(sql, arguments).fetchone()[0]  # type: ignore[index]


def measure(deployment: Deployment, *, rows: int, rounds: int, backlog: int) -> Table:
    """Measure in every round the rates with 10,000 stored events, with ``rows``, and with 10,000 registrations."""
    table = Table(f"Growth to {rows:,} events", ["what", "figure"])
    dispatch.clear()
    fill(FEW)
    with ExitStack() as copies:
        few = Contestant(f"{FEW:,} events", copies.enter_context(deployment.copy_of_database()))
        make_registrations()
        others = Contestant(f"{REGISTRATIONS:,} registrations", copies.enter_context(deployment.copy_of_database()))
        fill(rows)
        many = Contestant(f"{rows:,} events", os.environ["DATABASE_URL"])
        for _ in range(rounds):
            for contestant in random.sample((few, others, many), 3):
                contestant.measure(deployment, backlog)
    for contestant in (many, others):
        for what in ("intake", "dispatch"):
            against = ratio(getattr(contestant, what), getattr(few, what))
            table.add(f"{contestant.name}: {what} against {few.name}", against)
    table.add("bytes per event, with indexes and its object's state", f"{size() / ReceivedEvent.objects.count():.0f}")
    for label, milliseconds in admin_pages():
        table.add(f"admin: {label}", f"{milliseconds:.0f} ms")
    return table


def fill(rows: int) -> None:
    """Copy dispatched events until there are ``rows``, each with a different identity and object."""
    if not ReceivedEvent.objects.exists():
        receive(registration(), next(events.unique()))
        dispatch_pending()
    present = ReceivedEvent.objects.count()
    with without_indexes(*TABLES):
        for start in range(present, rows, CHUNK):
            numbers = FIRST_COPY + start, FIRST_COPY + min(start + CHUNK, rows) - 1
            for table, changes in TABLES.items():
                copy(table, changes, *numbers)
    with connection.cursor() as cursor:
        cursor.execute("VACUUM ANALYZE")
        cursor.execute("CHECKPOINT")


#: The columns that differ from copy to copy. Digests are random like real ones; ids and times increase.
EVENT = {
    "vendor_event_id": "'copy-' || n",
    "event_digest": "md5('event' || n)::uuid",
    "object_key": "md5('object' || n)::uuid",
    "subject_id": "'student-' || n / 5",
    "object_id": "n::text",
    "received_at": "received_at - interval '30 days' + n * interval '1 millisecond'",
}
STATE = {
    "key": "md5('object' || n)::uuid",
    "subject_id": "'student-' || n / 5",
    "object_id": "n::text",
    "newest_event_id": "NULL",
}


TABLES = {"django_bi_integration_receivedevent": EVENT, "django_bi_integration_objectstate": STATE}


@contextmanager
def without_indexes(*tables: str) -> Iterator[None]:
    """Drop the indexes and create them again after the block: inserting random digests would take an hour."""
    constraints = """
        SELECT conname, conrelid::regclass, pg_get_constraintdef(oid) FROM pg_constraint
        WHERE conrelid::regclass::text = ANY(%s) AND contype IN ('f', 'u')
    """
    # The primary keys stay: that of events is referenced, and increases.
    indexes = """
        SELECT indexname, indexdef FROM pg_indexes WHERE tablename = ANY(%s)
        AND indexname NOT IN (SELECT conname FROM pg_constraint WHERE contype IN ('p', 'u'))
    """
    with connection.cursor() as cursor:
        cursor.execute(constraints, [list(tables)])
        for_constraints = cursor.fetchall()
        cursor.execute(indexes, [list(tables)])
        for_indexes = cursor.fetchall()
        for name, table, _ in for_constraints:
            cursor.execute(f'ALTER TABLE {table} DROP CONSTRAINT "{name}"')
        for name, _ in for_indexes:
            cursor.execute(f'DROP INDEX "{name}"')
        yield
        for _, definition in for_indexes:
            cursor.execute(definition)
        for name, table, definition in for_constraints:
            cursor.execute(f'ALTER TABLE {table} ADD CONSTRAINT "{name}" {definition}')


def copy(table: str, changes: dict[str, str], first: int, last: int) -> None:
    """Copy one row of the table for each number."""
    with connection.cursor() as cursor:
        names = [column.name for column in connection.introspection.get_table_description(cursor, table)]
        names = [name for name in names if name != "id"]
        values = ", ".join(changes.get(name, f'"{name}"') for name in names)
        columns = ", ".join(f'"{name}"' for name in names)
        cursor.execute(
            f"INSERT INTO {table} ({columns}) SELECT {values} FROM (SELECT * FROM {table} LIMIT 1) AS original,"
            f" generate_series({first}, {last}) AS n"
        )


def make_registrations() -> None:
    """Create 10,000 registrations, more than any institution has."""
    WebhookRegistration.objects.bulk_create(
        WebhookRegistration(id=uuid.uuid4(), name=f"Registration {number}", vendor=BIG_INTERVIEW.slug)
        for number in range(REGISTRATIONS)
    )


def size() -> int:
    """Return the bytes on disk of events and states, with their indexes."""
    with connection.cursor() as cursor:
        tables = ("django_bi_integration_receivedevent", "django_bi_integration_objectstate")
        cursor.execute("SELECT pg_total_relation_size(%s) + pg_total_relation_size(%s)", tables)
        return int(cursor.fetchone()[0])


def admin_pages() -> list[tuple[str, float]]:
    """Return the median of five times for each page, in milliseconds."""

    user, _ = get_user_model().objects.get_or_create(username="benchmark", is_staff=True, is_superuser=True)
    client = Client(headers={"host": "127.0.0.1"})
    client.force_login(user)
    url = reverse("admin:django_bi_integration_receivedevent_changelist")
    pages: dict[str, dict[str, Any]] = {
        "list of events": {},
        "its last page": {"p": "100"},
        "search for an event id": {"q": f"copy-{FIRST_COPY + 77}"},
        "search for a subject": {"q": f"student-{FIRST_COPY // 5 + 77}"},
        "search without a match": {"q": "nobody"},
        "failed ones": {"status__exact": "failed"},
        "pending ones": {"status__exact": "pending"},
        "dispatched ones": {"status__exact": "dispatched"},
    }
    return [(label, timed(lambda query=query: client.get(url, query))) for label, query in pages.items()]


def timed(get: Callable[[], Any]) -> float:
    """Return the median of five calls, in milliseconds."""
    times = []
    for _ in range(5):
        started = time.perf_counter()
        response = get()
        times.append((time.perf_counter() - started) * 1000)
        if response.status_code != 200:
            raise RuntimeError(f"answered {response.status_code}")
    return median(times)
