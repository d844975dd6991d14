"""The bounded count of rejected deliveries.

An administrator sees why and from where deliveries were rejected, and a flood of requests cannot fill the database.
"""

import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from django.db import Error as DatabaseFailure
from django.db import IntegrityError, transaction
from django.http import HttpRequest
from django.utils import timezone

from django_bi_integration.models import Rejection, WebhookRegistration
from django_bi_integration.text import end_of
from django_bi_integration.webhooks.client_address import client_address, forwarded_for, peer
from django_bi_integration.webhooks.rejections import Rejected


class Kind(NamedTuple):
    """A reason at one registration, or at none. Each kind has a separate quota, so a flood displaces no other kind."""

    registration_id: UUID | None
    reason: Rejection.Reason


class Source(NamedTuple):
    """Rejections that are counted together."""

    kind: Kind
    address: str
    peer: str


@dataclass
class Count:
    """The number of rejections from one source, their first and last time, and the last one's forwarding header."""

    first_at: datetime
    last_at: datetime
    forwarded_for: str = ""
    count: int = 0


class RejectionCounter:
    """Count rejections in this process, and write them in batches, at most one in ``INTERVAL`` seconds.

    A batch distinguishes at most ``SOURCES`` sources of each kind; further ones are counted together, without their
    address. Of all batches, the newest ``ROWS`` rows of each kind are kept. So the table holds at most ``ROWS`` times
    the number of reasons for each registration, and as many for requests to none. The forwarding header of a request is
    shown, but distinguishes no sources: a client that varies it adds no rows.

    Counts that wait for the next batch are lost if the process ends: they are not worth a write per request.
    """

    INTERVAL = 10.0  # seconds
    SOURCES = 100
    ROWS = 1_000

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: dict[Kind, dict[Source, Count]] = {}
        self._next_write = 0.0

    def count(self, rejection: Rejected, request: HttpRequest, registration_id: UUID) -> None:
        """Count the rejection of a request to the registration's URL."""
        kind = Kind(registration_id if rejection.concerns_registration else None, rejection.reason)
        address = client_address(request)
        source = Source(kind, address=str(address or ""), peer=end_of(peer(request), 64))
        with self._lock:
            self._add(source, end_of(forwarded_for(request), 200))
            if time.monotonic() < self._next_write:
                return
            self._next_write = time.monotonic() + self.INTERVAL
            waiting, self._waiting = self._waiting, {}
        self._write([pair for counts in waiting.values() for pair in counts.items()])

    def _add(self, source: Source, forwarded_for: str) -> None:
        now = timezone.now()
        counts = self._waiting.setdefault(source.kind, {})
        if source not in counts and len(counts) >= self.SOURCES:
            source, forwarded_for = source._replace(address="", peer=""), ""
        counted = counts.setdefault(source, Count(now, now))
        counted.count += 1
        counted.last_at = now
        counted.forwarded_for = forwarded_for

    def _write(self, batch: list[tuple[Source, Count]]) -> None:
        with suppress(DatabaseFailure):  # the database is unavailable; the requests are rejected all the same
            try:
                _store(batch)
            except IntegrityError:  # a registration was deleted since
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
    """Return the batch with the counts of deleted registrations moved to no registration."""
    present = {None, *WebhookRegistration.objects.values_list("pk", flat=True)}
    return [
        (source if source.kind.registration_id in present else _of_none(source), counted) for source, counted in batch
    ]


def _of_none(source: Source) -> Source:
    return source._replace(kind=source.kind._replace(registration_id=None))


rejection_counter = RejectionCounter()
