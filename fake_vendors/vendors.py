"""How each vendor delivers: its headers, which statuses mean success, and when it retries."""

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

    ``status`` is None if there was no response in time; ``error`` is the reason.
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

    ``waits`` are the seconds before each retry, and only these are divided by ``time_scale``. ``timeout`` is how many
    seconds the vendor waits for a response.
    """

    url: str
    headers: Mapping[str, str]
    successes: range
    timeout: float
    waits: tuple[float, ...]
    source_address: str | None = None
    time_scale: float = 1.0

    def attempt(self, event: Event, number: int = 1) -> Attempt:
        """Deliver the event once."""
        started_at, started = datetime.now(UTC), time.perf_counter()
        outcome = post(self.url, event.body, self.headers, timeout=self.timeout, source_address=self.source_address)
        status = outcome if isinstance(outcome, int) else None
        return Attempt(
            event_id=event.event_id,
            number=number,
            started_at=started_at,
            seconds=time.perf_counter() - started,
            status=status,
            error="" if status else str(outcome),
            delivered=status in self.successes,
        )

    def wait_after(self, attempt: Attempt) -> float | None:
        """Return the seconds until the next attempt, or None after success and after the last attempt."""
        if attempt.delivered or attempt.number > len(self.waits):
            return None
        return self.waits[attempt.number - 1] / self.time_scale

    def send(self, event: Event, stop: threading.Event | None = None) -> list[Attempt]:
        """Deliver the event, with retries, until it succeeds, the vendor would give up, or ``stop`` is set."""
        stop = stop or threading.Event()
        attempts = [self.attempt(event)]
        while (wait := self.wait_after(attempts[-1])) is not None and not stop.wait(wait):
            attempts.append(self.attempt(event, attempts[-1].number + 1))
        return attempts


def big_interview(url: str, key: str, *, time_scale: float = 1.0) -> Vendor:
    """Return Big Interview ("Handling webhooks", "Retries").

    Only 200 within 30 s is a success. There are six attempts, ten minutes apart.
    """
    return Vendor(
        url=url,
        headers={
            "Authorization": key,
            "Accept": "*/*; q=0.5, application/xml",
            "Accept-Encoding": "gzip, deflate",
            "Cache-Control": "no-cache",
            "Connection": "close",
            "Content-Length": "",  # its position in the documented order; post() sets the value
            "Content-Type": "application/json; charset=utf-8",
            "User-Agent": "BigInterview/1.0",
        },
        successes=range(200, 201),
        timeout=30,
        waits=(600,) * 5,
        time_scale=time_scale,
    )


def innovative_educators(url: str, *, source_address: str | None = None, time_scale: float = 1.0) -> Vendor:
    """Return Innovative Educators ("Integration Details").

    200 to 308 within 15 s is a success, so a redirect counts as delivered. There are ten retries, after 20 s and then
    twice as long each time, up to 3600 s. Of its headers, only the content type is documented.
    """
    return Vendor(
        url=url,
        headers={"Content-Type": "application/json"},
        successes=range(200, 309),
        timeout=15,
        waits=tuple(min(20 * 2**number, 3600) for number in range(10)),
        source_address=source_address,
        time_scale=time_scale,
    )
