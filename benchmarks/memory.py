"""Memory: how much a process grows while it stores and dispatches events."""

import os
from itertools import islice

import psutil

from benchmarks import events
from benchmarks.deployment import Deployment
from benchmarks.registrations import registration
from benchmarks.report import Table
from django_bi_integration.dispatch.worker import dispatch_pending
from django_bi_integration.webhooks.receive import receive

WARM_UP = 10_000
PORTION = 5_000


def measure(deployment: Deployment, *, number: int) -> Table:
    """Measure the growth of a process that stores and dispatches ``number`` events."""
    process = psutil.Process(os.getpid())
    through(WARM_UP)
    before = process.memory_info().rss
    through(number)
    growth = process.memory_info().rss - before
    table = Table("Memory", ["events stored and dispatched by one process", "its growth"])
    table.add(f"{number:,}", f"{growth / 1e6:.1f} MB")
    return table


def through(number: int) -> None:
    """Store and dispatch ``number`` events."""
    to = registration()
    bodies = events.unique()
    for start in range(0, number, PORTION):
        for body in islice(bodies, min(PORTION, number - start)):
            receive(to, body)
        dispatch_pending()
