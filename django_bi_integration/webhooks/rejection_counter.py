"""The bounded count of rejected deliveries."""

import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from django.db import Error as DatabaseFailure
from django.db import IntegrityError, transaction
from django.utils import timezone

from django_bi_integration.models import Rejection, WebhookRegistration


class Kind(NamedTuple):
    """What has a quota of its own: a flood of one kind takes no place of another."""

    registration_id: UUID | None
    reason: Rejection.Reason


class Source(NamedTuple):
    """What is counted together."""

    kind: Kind
    address: str
    peer: str


@dataclass
class Count:
    """How often, since when, until when, and what the latest request said of its way."""

    first_at: datetime
    last_at: datetime
    forwarded_for: str = ""
    count: int = 0


class RejectionCounter:
    """Counts rejections in this process and writes them as a batch, at most one in ``INTERVAL`` seconds.

    Each kind, a reason at one registration or at none, has its quotas. A batch distinguishes at most ``SOURCES``
    sources of a kind; the addresses of further ones are left out. Of all batches, the newest ``ROWS`` rows of a kind
    are kept. So the table holds at most ``ROWS`` times the number of reasons for each registration, and as much for
    requests to none. What a request says of its way is shown and distinguishes no sources: varying it adds no rows.

    Counts that wait for the next batch are lost when the process ends: they are not worth a write per request.
    """

    INTERVAL = 10.0  # seconds
    SOURCES = 100
    ROWS = 1_000

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: dict[Kind, dict[Source, Count]] = {}
        self._next_write = 0.0

    def add(self, source: Source, forwarded_for: str) -> None:
        with self._lock:
            self._count(source, forwarded_for)
            if time.monotonic() < self._next_write:
                return
            self._next_write = time.monotonic() + self.INTERVAL
            waiting, self._waiting = self._waiting, {}
        self._write([pair for counts in waiting.values() for pair in counts.items()])

    def _count(self, source: Source, forwarded_for: str) -> None:
        now = timezone.now()
        counts = self._waiting.setdefault(source.kind, {})
        if source not in counts and len(counts) >= self.SOURCES:
            source, forwarded_for = source._replace(address="", peer=""), ""
        counted = counts.setdefault(source, Count(now, now))
        counted.count += 1
        counted.last_at = now
        counted.forwarded_for = forwarded_for

    def _write(self, batch: list[tuple[Source, Count]]) -> None:
        with suppress(DatabaseFailure):  # it is unavailable: the rejections stand all the same
            try:
                _store(batch)
            except IntegrityError:  # a registration was deleted meanwhile
                batch = _without_deleted(batch)
                _store(batch)
            for kind in {source.kind for source, _ in batch}:
                self._trim(kind)

    def _trim(self, kind: Kind) -> None:
        rows = Rejection.objects.filter(**kind._asdict())
        if excess := rows.order_by("-pk").values_list("pk", flat=True)[self.ROWS : self.ROWS + 1]:
            rows.filter(pk__lte=excess[0]).delete()


def _store(batch: list[tuple[Source, Count]]) -> None:
    rows = [
        Rejection(**source.kind._asdict(), address=source.address, peer=source.peer, **vars(counted))
        for source, counted in batch
    ]
    with transaction.atomic():
        Rejection.objects.bulk_create(rows)


def _without_deleted(batch: list[tuple[Source, Count]]) -> list[tuple[Source, Count]]:
    """Return the batch with what was counted for registrations that are gone counted for none."""
    present = {None, *WebhookRegistration.objects.values_list("pk", flat=True)}
    return [
        (source if source.kind.registration_id in present else _of_none(source), counted) for source, counted in batch
    ]


def _of_none(source: Source) -> Source:
    return source._replace(kind=source.kind._replace(registration_id=None))


rejection_counter = RejectionCounter()
