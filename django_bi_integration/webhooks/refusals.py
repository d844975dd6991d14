"""Refusals: the errors that turn a delivery away, and the bounded count of them.

The body of a refusal says no more than its status does; the reason goes into the count, for the administrator.
"""

import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import ClassVar, NamedTuple
from uuid import UUID

from django.db import Error as DatabaseFailure
from django.db import IntegrityError, transaction
from django.utils import timezone
from rest_framework import status
from rest_framework.exceptions import APIException

from django_bi_integration.models import Refusal, WebhookRegistration

Reason = Refusal.Reason


class Refused(APIException):
    """A delivery that is turned away; ``reason`` is what the administrator reads."""

    reason: ClassVar[Refusal.Reason]


class UnknownURL(Refused):
    """There is no registration of this id."""

    status_code = status.HTTP_404_NOT_FOUND
    default_detail = "Not found."
    reason = Reason.UNKNOWN_URL


class NotAuthenticated(Refused):
    """The key is missing."""

    status_code = status.HTTP_401_UNAUTHORIZED
    default_detail = "Unauthorized."
    # HTTP asks for a challenge on every 401; the key is sent without any scheme.
    auth_header = "Key"
    reason = Reason.KEY_MISSING


class WrongKey(NotAuthenticated):
    """The key is another one."""

    reason = Reason.KEY_WRONG


class Forbidden(Refused):
    """The address is not on the allowlist."""

    status_code = status.HTTP_403_FORBIDDEN
    default_detail = "Forbidden."
    reason = Reason.ADDRESS


class Inactive(Forbidden):
    """The registration is switched off."""

    reason = Reason.INACTIVE


class NoProof(Forbidden):
    """The registration has neither a key nor an allowlist: nobody can prove anything to it."""

    reason = Reason.NO_PROOF


class WrongMethod(Refused):
    """Webhooks are POSTed."""

    status_code = status.HTTP_405_METHOD_NOT_ALLOWED
    default_detail = "Send a POST request."
    reason = Reason.METHOD


class NotAnObject(Refused):
    """The body is not a JSON object in UTF-8."""

    status_code = status.HTTP_400_BAD_REQUEST
    default_detail = "The body is not a JSON object in UTF-8."
    reason = Reason.FORM


class LengthRequired(Refused):
    """The body came in chunks, which WSGI shows as empty: its content is unknown."""

    status_code = status.HTTP_411_LENGTH_REQUIRED
    default_detail = "Send the body with a Content-Length."
    reason = Reason.LENGTH


class TooLarge(Refused):
    """The body is larger than the setting ``MAX_BODY_BYTES``."""

    status_code = status.HTTP_413_REQUEST_ENTITY_TOO_LARGE
    default_detail = "The body is too large."
    reason = Reason.SIZE


class Kind(NamedTuple):
    """What has a quota of its own: a flood of one kind takes no place of another."""

    registration_id: UUID | None
    reason: Refusal.Reason


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


class Tally:
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
        rows = Refusal.objects.filter(**kind._asdict())
        if excess := rows.order_by("-pk").values_list("pk", flat=True)[self.ROWS : self.ROWS + 1]:
            rows.filter(pk__lte=excess[0]).delete()


def _store(batch: list[tuple[Source, Count]]) -> None:
    rows = [
        Refusal(**source.kind._asdict(), address=source.address, peer=source.peer, **vars(counted))
        for source, counted in batch
    ]
    with transaction.atomic():
        Refusal.objects.bulk_create(rows)


def _without_deleted(batch: list[tuple[Source, Count]]) -> list[tuple[Source, Count]]:
    """Return the batch with what was counted for registrations that are gone counted for none."""
    present = {None, *WebhookRegistration.objects.values_list("pk", flat=True)}
    return [
        (source if source.kind.registration_id in present else _of_none(source), counted) for source, counted in batch
    ]


def _of_none(source: Source) -> Source:
    return source._replace(kind=source.kind._replace(registration_id=None))


tally = Tally()
