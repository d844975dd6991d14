"""How far back a worker looks for due events."""

import time
from datetime import datetime, timedelta

#: Seconds between two searches of a worker process for all due events.
FULL_SEARCH_INTERVAL = 10.0
#: A search for all due events takes a process at most one part in this many of its time.
FULL_SEARCH_SHARE = 20
#: How much earlier than anything found an event may be due that arrives later: clocks differ, and commits take time.
ARRIVES_LATE = timedelta(seconds=10)


class Horizon:
    """How far back one process looks for due events.

    While a backup or a report holds an old snapshot open, the database keeps an index entry of every event dispatched
    since, and a claim that began with the oldest would read all of them. So most claims begin close to what the last
    full search found, and a full search now and then finds everything else.
    """

    def __init__(self) -> None:
        self._since: datetime | None = None
        self._next_full_search = 0.0

    def since(self, now: datetime) -> datetime | None:
        """Return the earliest time at which the events to look for became due; None to look for all."""
        is_usable = self._since is not None and self._since <= now  # a clock may be set back
        return self._since if is_usable and time.monotonic() < self._next_full_search else None

    def searched_all(self, earliest: datetime, seconds: float) -> None:
        """Remember a full search: what it found is due from ``earliest`` on, and it took that many seconds."""
        self._since = earliest - ARRIVES_LATE
        self._next_full_search = time.monotonic() + max(FULL_SEARCH_INTERVAL, FULL_SEARCH_SHARE * seconds)
