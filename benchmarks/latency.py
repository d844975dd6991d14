"""Latency: from a vendor's POST to the start of the receiver, on an idle system."""

import random
import time
from statistics import median

from benchmarks import dispatch, events, load
from benchmarks.deployment import Deployment
from benchmarks.peers.models import Effect
from benchmarks.registrations import KEY, registration
from benchmarks.report import Table
from tests.helpers.waiting import wait_until


def measure(deployment: Deployment, *, deliveries: int) -> Table:
    """Send one delivery after the other, each after the previous one has taken effect."""

    waits = []
    dispatch.clear()
    with deployment.web("benchmarks.wsgi") as served, deployment.worker():
        url = served.url + registration().get_absolute_url()
        bodies = events.unique()
        before = Effect.objects.count()
        for number in range(1, deliveries + 3):
            posted = time.time()
            load.post(url, iter([next(bodies)]), key=KEY, connections=1)
            wait_until(lambda wanted=before + number: Effect.objects.count() == wanted, timeout=60)
            waits.append(Effect.objects.latest("pk").started_at.timestamp() - posted)
            # Wait longer than the interval between two notifications, and not in a fixed rhythm.
            time.sleep(random.uniform(0.2, 0.3))
    waits = sorted(waits[2:])  # the first ones warm up the processes
    table = Table("From the POST to the receiver, idle, Redis", ["median", "nine of ten"])
    table.add(f"{median(waits) * 1000:.0f} ms", f"{waits[int(0.9 * len(waits))] * 1000:.0f} ms")
    return table
