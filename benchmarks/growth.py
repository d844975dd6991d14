"""Growth: the same work on few stored events and on many, and the admin's pages on many."""

import time
import uuid
from collections.abc import Callable
from statistics import median
from typing import Any

from django.contrib.auth import get_user_model
from django.db import connection
from django.db.models import Max, Min
from django.test import Client
from django.urls import reverse

from benchmarks import dispatch, events, load
from benchmarks.celery import app
from benchmarks.deployment import Deployment
from benchmarks.registrations import KEY, registration
from benchmarks.report import Table
from django_bi_integration.models import ReceivedEvent, WebhookRegistration
from django_bi_integration.vendors import BIG_INTERVIEW
from django_bi_integration.webhooks.dispatch import dispatch_pending
from django_bi_integration.webhooks.receive import receive
from tests.waiting import wait_until

FEW = 10_000
REGISTRATIONS = 10_000
CHUNK = 100_000
#: The copies' numbers are far from those of events that are sent.
FIRST_COPY = 1_000_000_000


def measure(deployment: Deployment, *, rows: int, rounds: int, seconds: float, backlog: int) -> Table:
    """Rates on 10,000 stored events, on ``rows`` of them, and with 10,000 registrations beside."""
    table = Table(f"Growth to {rows:,} events", ["what", "figure"])
    dispatch.clear()
    stages = [(f"{FEW:,} events", lambda: fill(FEW)), (f"{rows:,} events", lambda: fill(rows))]
    stages.append((f"{REGISTRATIONS:,} registrations beside", make_registrations))
    first: tuple[float, float] | None = None
    for label, prepare in stages:
        prepare()
        found = intake_rate(deployment, rounds, seconds), dispatch_rate(deployment, rounds, backlog)
        first = first or found
        table.add(f"{label}: intake", f"{found[0] / first[0]:.2f}")
        table.add(f"{label}: dispatch", f"{found[1] / first[1]:.2f}")
    table.add(
        "bytes an event, indexes and its object's state included", f"{size() / ReceivedEvent.objects.count():.0f}"
    )
    for label, milliseconds in admin_pages():
        table.add(f"admin: {label}", f"{milliseconds:.0f} ms")
    return table


def intake_rate(deployment: Deployment, rounds: int, seconds: float) -> float:
    """Deliveries a second; what they stored is dispatched afterwards."""
    with deployment.web("benchmarks.wsgi", CELERY_BROKER_URL="redis://127.0.0.1:1/0") as served:
        url = served.url + registration().get_absolute_url()
        load.post(url, events.unique(), key=KEY, seconds=1)
        rates = [load.post(url, events.unique(), key=KEY, seconds=seconds).rate for _ in range(rounds)]
    drain(deployment)
    return median(rates)


def dispatch_rate(deployment: Deployment, rounds: int, backlog: int) -> float:
    """Events a second through two worker processes."""
    rates = []
    for _ in range(rounds):
        newest = ReceivedEvent.objects.latest("pk").pk
        dispatch.fill_ours(backlog)
        drain(deployment)
        done = ReceivedEvent.objects.filter(pk__gt=newest)
        span = done.aggregate(took=Max("dispatched_at") - Min("dispatched_at"))
        rates.append(backlog / span["took"].total_seconds())
    return median(rates)


def drain(deployment: Deployment) -> None:
    """Have everything dispatched that waits."""

    for _ in range(2):
        app.send_task(dispatch.TASK)
    with deployment.worker():
        wait_until(lambda: not ReceivedEvent.objects.filter(status="pending").exists(), 600, every=0.2)


def fill(rows: int) -> None:
    """Copy dispatched events until there are so many, each with an identity and an object of its own."""
    if not ReceivedEvent.objects.exists():
        receive(registration(), next(events.unique()))

        dispatch_pending()
    present = ReceivedEvent.objects.count()
    for start in range(present, rows, CHUNK):
        numbers = FIRST_COPY + start, FIRST_COPY + min(start + CHUNK, rows) - 1
        copy("django_bi_integration_receivedevent", EVENT, *numbers)
        copy("django_bi_integration_objectstate", STATE, *numbers)
    with connection.cursor() as cursor:
        cursor.execute("VACUUM ANALYZE")


#: What differs from copy to copy. Digests are as random as real ones; ids and times go up.
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


def copy(table: str, changes: dict[str, str], first: int, last: int) -> None:
    """Copy one row of the table for each of these numbers."""
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
    """As many as no institution has."""
    WebhookRegistration.objects.bulk_create(
        WebhookRegistration(id=uuid.uuid4(), name=f"Registration {number}", vendor=BIG_INTERVIEW.slug)
        for number in range(REGISTRATIONS)
    )


def size() -> int:
    """Bytes on disk of events and states, with their indexes."""
    with connection.cursor() as cursor:
        tables = ("django_bi_integration_receivedevent", "django_bi_integration_objectstate")
        cursor.execute("SELECT pg_total_relation_size(%s) + pg_total_relation_size(%s)", tables)
        return int(cursor.fetchone()[0])


def admin_pages() -> list[tuple[str, float]]:
    """Milliseconds of each page, the median of five."""

    user, _ = get_user_model().objects.get_or_create(username="benchmark", is_staff=True, is_superuser=True)
    client = Client(headers={"host": "127.0.0.1"})
    client.force_login(user)
    url = reverse("admin:django_bi_integration_receivedevent_changelist")
    pages: dict[str, dict[str, Any]] = {
        "list of events": {},
        "its last page": {"p": "100"},
        "search for an event id": {"q": f"copy-{FIRST_COPY + 77}"},
        "search for a subject": {"q": f"student-{FIRST_COPY // 5 + 77}"},
        "search for what is not there": {"q": "nobody"},
        "failed ones": {"status__exact": "failed"},
        "pending ones": {"status__exact": "pending"},
        "dispatched ones": {"status__exact": "dispatched"},
    }
    return [(label, timed(lambda query=query: client.get(url, query))) for label, query in pages.items()]


def timed(get: Callable[[], Any]) -> float:
    """The median of five, in milliseconds."""
    times = []
    for _ in range(5):
        started = time.perf_counter()
        response = get()
        times.append((time.perf_counter() - started) * 1000)
        if response.status_code != 200:
            raise RuntimeError(f"answered {response.status_code}")
    return median(times)
