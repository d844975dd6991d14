"""A snapshot held open: how long events wait from receipt to effect while no dead row can be removed."""

import time
from datetime import datetime, timedelta
from itertools import islice
from statistics import median

from django.utils import timezone

from benchmarks import dispatch, events, load
from benchmarks.deployment import Deployment
from benchmarks.registrations import KEY, registration
from benchmarks.report import Table
from django_bi_integration.models import ReceivedEvent
from tests.helpers.snapshot import snapshot
from tests.helpers.waiting import wait_until

#: Events a second, more than any institution receives.
RATE = 150
MINUTE = timedelta(minutes=1)


def measure(deployment: Deployment, *, minutes: float) -> Table:
    """Measure one minute without the snapshot, then ``minutes`` with it, at a constant rate of deliveries.

    With less than one minute, measure one period of that length each.
    """
    dispatch.clear()
    period = min(MINUTE, timedelta(minutes=minutes))
    with deployment.web("benchmarks.wsgi") as served, deployment.worker(processes=2), deployment.beat():
        url = served.url + registration().get_absolute_url()
        deliver(url, seconds=10)  # processes warm up
        start = timezone.now()
        deliver(url, seconds=period.total_seconds())
        with snapshot():
            deliver(url, seconds=60 * minutes)
            wait_until(lambda: not ReceivedEvent.objects.filter(status="pending").exists(), timeout=600, every=0.5)
    table = Table(
        f"A snapshot held open for {minutes:g} minutes at {RATE} events a second",
        ["minute", "events", "median from receipt to effect", "95 of 100", "median against the clean minute"],
    )
    clean = waits(start, period)
    for minute in range(1 + max(1, int(minutes))):
        found = waits(start + minute * period, period)
        table.add(
            str(minute or "clean"),
            str(len(found)),
            f"{median(found):.0f} ms",
            f"{found[int(0.95 * len(found))]:.0f} ms",
            f"{median(found) / median(clean):.2f}",
        )
    return table


def deliver(url: str, *, seconds: float) -> None:
    """Deliver events at the rate, every tenth of a second. After a delay, catch up."""
    bodies, started, sent = events.unique(), time.monotonic(), 0
    while (passed := time.monotonic() - started) < seconds:
        due = int(passed * RATE) - sent
        if due:
            load.post(url, islice(bodies, due), key=KEY, connections=4)
            sent += due
        time.sleep(max(0.0, 0.1 - (time.monotonic() - started - passed)))


def waits(start: datetime, period: timedelta) -> list[float]:
    """Return the milliseconds from receipt to effect of the events received in the period from ``start`` on, sorted."""
    received = ReceivedEvent.objects.filter(received_at__gte=start, received_at__lt=start + period)
    times = received.values_list("received_at", "dispatched_at")
    return sorted((dispatched - at).total_seconds() * 1000 for at, dispatched in times if dispatched)
