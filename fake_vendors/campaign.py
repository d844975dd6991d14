"""Many events at once: each delivered and retried on its own schedule, all of it kept in a log."""

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
    """Every attempt that was made, by event id."""

    attempts: dict[str, list[Attempt]] = field(default_factory=dict)

    def add(self, attempt: Attempt) -> None:
        """Keep one more attempt."""
        self.attempts.setdefault(attempt.event_id, []).append(attempt)

    @property
    def acknowledged(self) -> set[str]:
        """The events that the vendor takes for delivered."""
        return {event_id for event_id, made in self.attempts.items() if any(attempt.delivered for attempt in made)}

    @property
    def given_up(self) -> set[str]:
        """The events that were sent and never acknowledged."""
        return set(self.attempts) - self.acknowledged

    def statuses(self) -> dict[int | None, int]:
        """How often each status was answered; None stands for no answer."""
        counted: dict[int | None, int] = {}
        for made in self.attempts.values():
            for attempt in made:
                counted[attempt.status] = counted.get(attempt.status, 0) + 1
        return counted

    def summary(self) -> str:
        """One line: how many events were delivered, and what was answered how often."""
        answers = ", ".join(f"{status or 'none'}: {times}" for status, times in self.statuses().items())
        return f"{len(self.acknowledged)} of {len(self.attempts)} delivered; answers: {answers or '-'}"


def run(
    deliveries: Iterable[tuple[Vendor, Event]],
    *,
    threads: int = 8,
    stop: threading.Event | None = None,
    on_attempt: Callable[[Attempt], None] = lambda attempt: None,
) -> Log:
    """Send all, ``threads`` at a time and in the order given; a retry holds up nobody while it waits.

    ``on_attempt`` is called after each attempt, always in the calling thread. Once ``stop`` is set nothing more is
    sent; the attempts under way end by themselves, within the vendor's patience.
    """
    stop = stop or threading.Event()
    log = Log()
    order = count()
    due = [(0.0, next(order), vendor, event, 1) for vendor, event in deliveries]
    under_way: dict[Future[Attempt], tuple[Vendor, Event]] = {}
    with ThreadPoolExecutor(threads) as pool:
        while due or under_way:
            if stop.is_set():
                due.clear()  # Not what is under way: the log must know whatever an endpoint may have seen.
            while due and len(under_way) < threads and due[0][0] <= time.monotonic():
                _, _, vendor, event, number = heapq.heappop(due)
                under_way[pool.submit(vendor.attempt, event, number)] = vendor, event
            pause = max(0.0, due[0][0] - time.monotonic()) if due else None
            if not under_way:
                stop.wait(pause)
                continue
            full = len(under_way) >= threads
            for future in wait(under_way, timeout=None if full else pause, return_when=FIRST_COMPLETED).done:
                (vendor, event), attempt = under_way.pop(future), future.result()
                log.add(attempt)
                on_attempt(attempt)
                if (seconds := vendor.wait_after(attempt)) is not None:
                    again = time.monotonic() + seconds
                    heapq.heappush(due, (again, next(order), vendor, event, attempt.number + 1))
    return log
