"""A flood: accepted deliveries during a flood of rejected requests from different addresses."""

from concurrent.futures import ProcessPoolExecutor
from itertools import islice
from multiprocessing import get_context
from random import getrandbits

import django

from benchmarks import events, load
from benchmarks.deployment import Deployment
from benchmarks.registrations import KEY, registration
from benchmarks.report import Table
from django_bi_integration.models import Rejection

CONNECTIONS = 8


def measure(deployment: Deployment, *, requests: int, seconds: float) -> Table:
    """Measure the rate of each load by itself, and of both together until ``requests`` are rejected."""
    with deployment.web("benchmarks.wsgi", BENCHMARK_PROXIES="127.0.0.1") as served:
        url = served.url + registration().get_absolute_url()
        accept(url, 1)
        accepted = accept(url, seconds)
        rejected = reject(url, round(requests / 10))
        with ProcessPoolExecutor(1, get_context("spawn"), initializer=django.setup) as other:
            flood = other.submit(reject, url, requests)
            together = load.Result()
            while not flood.done():
                part = accept(url, 1)
                together.statuses += part.statuses
                together.seconds += part.seconds
            flooding = flood.result()
    if set(together.statuses) != {200} or set(flooding.statuses) != {401} or flooding.statuses[401] < requests:
        raise RuntimeError(f"accepted: {together.statuses}, rejected: {flooding.statuses}")
    share = flooding.rate / rejected.rate
    table = Table(f"A flood of {requests:,} rejected requests", ["what", "figure"])
    table.add("cost of a rejected request, against an accepted one", f"{accepted.rate / rejected.rate:.2f}")
    table.add("the flood's share of the machine", f"{share:.2f}")
    table.add("accepted, against their rate without the flood", f"{together.rate / accepted.rate:.2f}")
    table.add("the same, against what the flood's share leaves", f"{together.rate / (accepted.rate * (1 - share)):.2f}")
    table.add("rows that it left", f"{Rejection.objects.count():,}")
    return table


def accept(url: str, seconds: float) -> load.Result:
    """Return a vendor's deliveries."""
    return load.post(url, events.unique(), key=KEY, seconds=seconds, connections=CONNECTIONS)


def reject(url: str, number: int) -> load.Result:
    """Return deliveries with a wrong key, each from another address."""
    bodies = islice(events.unique(), number)
    return load.post(url, bodies, key="guess", connections=CONNECTIONS, headers=from_anywhere)


def from_anywhere(body: bytes) -> str:
    """Return the forwarding header of a random client."""
    bits = getrandbits(32)
    address = ".".join(str(bits >> shift & 255) for shift in (24, 16, 8, 0))
    return f"X-Forwarded-For: {address}\r\n"
