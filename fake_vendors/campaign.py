"""Send many events at once, each with separate retries, and log every attempt."""

import heapq
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from itertools import count

from fake_vendors.events import Event
from fake_vendors.vendors import Attempt, Vendor


@dataclass
class Log:
    """Every attempt, by event id."""

    attempts: dict[str, list[Attempt]] = field(default_factory=dict)

    def add(self, attempt: Attempt) -> None:
        self.attempts.setdefault(attempt.event_id, []).append(attempt)

    @property
    def acknowledged(self) -> set[str]:
        """The ids of the events that the vendor counts as delivered."""
        return {event_id for event_id, made in self.attempts.items() if any(attempt.delivered for attempt in made)}

    @property
    def given_up(self) -> set[str]:
        """The ids of the events that were sent and never acknowledged."""
        return set(self.attempts) - self.acknowledged

    def statuses(self) -> dict[int | None, int]:
        """Count the responses by status; None counts the attempts without a response."""
        counts: dict[int | None, int] = {}
        for made in self.attempts.values():
            for attempt in made:
                counts[attempt.status] = counts.get(attempt.status, 0) + 1
        return counts

    def summary(self) -> str:
        """Return one line: how many events were delivered, and how often each status was returned."""
        responses = ", ".join(f"{status or 'none'}: {number}" for status, number in self.statuses().items())
        return f"{len(self.acknowledged)} of {len(self.attempts)} delivered; responses: {responses or '-'}"


def run(
    deliveries: Iterable[tuple[Vendor, Event]],
    *,
    threads: int = 8,
    stop: threading.Event | None = None,
    on_attempt: Callable[[Attempt], None] = lambda attempt: None,
) -> Log:
    """Send all events in the given order, up to ``threads`` at a time. An event that waits for a retry uses no thread.

    ``on_attempt`` is called after each attempt, always in the calling thread. Once ``stop`` is set, nothing more is
    sent; attempts in progress finish within the vendor's timeout.
    """
    with ThreadPoolExecutor(threads) as pool:
        campaign = _Campaign(pool, threads, stop or threading.Event(), on_attempt)
        for vendor, event in deliveries:
            campaign.schedule(0.0, vendor, event, number=1)
        return campaign.run()


class _Campaign:
    def __init__(
        self, pool: ThreadPoolExecutor, threads: int, stop: threading.Event, on_attempt: Callable[[Attempt], None]
    ) -> None:
        self.pool, self.threads, self.stop, self.on_attempt = pool, threads, stop, on_attempt
        self.log = Log()
        self.order = count()
        self.due: list[tuple[float, int, Vendor, Event, int]] = []
        self.in_progress: dict[Future[Attempt], tuple[Vendor, Event]] = {}

    def schedule(self, at: float, vendor: Vendor, event: Event, number: int) -> None:
        heapq.heappush(self.due, (at, next(self.order), vendor, event, number))

    def run(self) -> Log:
        while self.due or self.in_progress:
            if self.stop.is_set():
                self.due.clear()  # Attempts in progress stay: the log must have all that an endpoint may have received.
            self._start_attempts()
            pause = max(0.0, self.due[0][0] - time.monotonic()) if self.due else None
            if self.in_progress:
                is_full = len(self.in_progress) >= self.threads
                self._collect_attempts(timeout=None if is_full else pause)
            else:
                self.stop.wait(pause)
        return self.log

    def _start_attempts(self) -> None:
        while self.due and len(self.in_progress) < self.threads and self.due[0][0] <= time.monotonic():
            _, _, vendor, event, number = heapq.heappop(self.due)
            self.in_progress[self.pool.submit(vendor.attempt, event, number)] = vendor, event

    def _collect_attempts(self, timeout: float | None) -> None:
        for future in wait(self.in_progress, timeout=timeout, return_when=FIRST_COMPLETED).done:
            (vendor, event), attempt = self.in_progress.pop(future), future.result()
            self.log.add(attempt)
            self.on_attempt(attempt)
            if (seconds := vendor.wait_after(attempt)) is not None:
                self.schedule(time.monotonic() + seconds, vendor, event, attempt.number + 1)
