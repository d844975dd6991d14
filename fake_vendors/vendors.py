"""How each vendor delivers: its headers, what it takes for success, and when it tries again."""

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from fake_vendors.events import Event
from fake_vendors.http import post


@dataclass(frozen=True)
class Attempt:
    """One delivery of one event, which took ``seconds``; ``number`` counts from 1.

    ``status`` is None where no answer came in time, and ``error`` says why.
    """

    event_id: str
    number: int
    started_at: datetime
    seconds: float
    status: int | None
    error: str
    delivered: bool


@dataclass(frozen=True)
class Vendor:
    """Delivers events to ``url``.

    ``waits`` are the seconds before each further attempt; they are divided by ``time_scale``, and so is nothing
    else. ``patience`` is how many seconds an answer may take.
    """

    url: str
    headers: Mapping[str, str]
    successes: range
    patience: float
    waits: tuple[float, ...]
    source_address: str | None = None
    time_scale: float = 1.0

    def attempt(self, event: Event, number: int = 1) -> Attempt:
        """Deliver once."""
        started_at, started = datetime.now(UTC), time.perf_counter()
        answer = post(self.url, event.body, self.headers, patience=self.patience, source_address=self.source_address)
        status = answer if isinstance(answer, int) else None
        return Attempt(
            event_id=event.event_id,
            number=number,
            started_at=started_at,
            seconds=time.perf_counter() - started,
            status=status,
            error="" if status else str(answer),
            delivered=status in self.successes,
        )

    def wait_after(self, attempt: Attempt) -> float | None:
        """Real seconds until the next attempt; None where there is none, after success or the last one."""
        if attempt.delivered or attempt.number > len(self.waits):
            return None
        return self.waits[attempt.number - 1] / self.time_scale

    def send(self, event: Event, stop: threading.Event | None = None) -> list[Attempt]:
        """Deliver as often as it takes, or as the vendor would before it gives up, or until ``stop`` is set."""
        stop = stop or threading.Event()
        attempts = [self.attempt(event)]
        while (wait := self.wait_after(attempts[-1])) is not None and not stop.wait(wait):
            attempts.append(self.attempt(event, attempts[-1].number + 1))
        return attempts


def big_interview(url: str, key: str, *, time_scale: float = 1.0) -> Vendor:
    """Big Interview ("Handling webhooks", "Retries"): exactly 200 within 30 s, else again every ten minutes, six
    attempts in all."""
    return Vendor(
        url=url,
        headers={
            "Authorization": key,
            "Accept": "*/*; q=0.5, application/xml",
            "Accept-Encoding": "gzip, deflate",
            "Cache-Control": "no-cache",
            "Connection": "close",
            "Content-Length": "",  # Its place in the documented order; each body has its own.
            "Content-Type": "application/json; charset=utf-8",
            "User-Agent": "BigInterview/1.0",
        },
        successes=range(200, 201),
        patience=30,
        waits=(600,) * 5,
        time_scale=time_scale,
    )


def innovative_educators(url: str, *, source_address: str | None = None, time_scale: float = 1.0) -> Vendor:
    """Innovative Educators ("Integration Details"): 200 to 308 within 15 s, so that a redirect counts as delivered;
    else ten retries, from 20 s doubling up to 3600 s. Its headers are not published beyond JSON."""
    return Vendor(
        url=url,
        headers={"Content-Type": "application/json"},
        successes=range(200, 309),
        patience=15,
        waits=tuple(min(20 * 2**number, 3600) for number in range(10)),
        source_address=source_address,
        time_scale=time_scale,
    )
