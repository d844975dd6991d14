"""Receive a delivery: parse it, read it, store it once, and ask for its dispatch."""

import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID

from django.db import DatabaseError, DataError, IntegrityError, OperationalError, connection, transaction
from django.db.models import F, QuerySet
from django.utils import timezone

from django_bi_integration import vendors
from django_bi_integration.dispatch.notify import notify_worker
from django_bi_integration.events import ParsedEvent
from django_bi_integration.json_body import read_object
from django_bi_integration.models import ReceivedEvent, WebhookRegistration
from django_bi_integration.models.event import digest
from django_bi_integration.models.registration import RegistrationChanged
from django_bi_integration.signals import event_conflicted
from django_bi_integration.sql import error_number
from django_bi_integration.text import clean
from django_bi_integration.transactions import retry_on_conflict, write_transaction
from django_bi_integration.webhooks.rejections import NotAnObject

logger = logging.getLogger(__name__)

#: Seconds that a repeat waits to be counted while a worker has its event: the vendor would not wait for receivers.
PATIENCE = 1.0
#: How far a vendor's time may be ahead of its receipt, as clocks and time zones differ. One that is further ahead, by
#: mistake or forged, would make every later event of its object stale.
FURTHEST_AHEAD = timedelta(days=1)
#: MariaDB's and MySQL's number for text that a column's character set lacks, an emoji in utf8mb3 for example.
INCORRECT_STRING = 1366


def receive(
    registration: WebhookRegistration,
    body: bytes,
    *,
    origin: ReceivedEvent.Origin = ReceivedEvent.Origin.WEBHOOK,
    recalled: bool = False,
) -> None:
    """Store the event in ``body`` durably and once, then ask for its dispatch.

    Raises NotAnObject where the body is no JSON object, RegistrationChanged where the registration was recalled and is
    not any more what it was, and ``django.db.Error`` where the event could not be stored.
    """
    document = parse(body)
    reading = vendors.VENDORS[registration.vendor].read(document)
    retry_on_conflict(lambda: store(incoming_event(registration, body, reading, origin), recalled=recalled))
    # A repeat asks as well: the wake-up for the first delivery may have been lost. What is stored is stored, even
    # where the machine has no thread left to ask with.
    transaction.on_commit(notify_worker, robust=True)


def parse(body: bytes) -> dict[str, Any]:
    """The JSON object in ``body``, whatever its content type claims; raises NotAnObject."""
    try:
        return read_object(body)
    except ValueError as error:
        raise NotAnObject from error


def store(arrival: "IncomingEvent", *, recalled: bool) -> None:
    """Insert the event, or count one more delivery of it where its row is there already."""

    def write(candidate: IncomingEvent) -> None:
        while not (ReceivedEvent.objects.insert(candidate, recalled=recalled) or _count_repeat(candidate, recalled)):
            pass  # its row was deleted in between

    despite_values(arrival, write)


def despite_values(arrival: "IncomingEvent", write: Callable[["IncomingEvent"], None]) -> None:
    """Write the event as read, or plainer if the database cannot hold a value."""
    for candidate in _ever_plainer(arrival):
        try:
            write(candidate)
            return
        except DatabaseError as error:
            if not _is_of_a_value(error):
                raise
            rejection = error
    raise rejection


def _is_of_a_value(error: DatabaseError) -> bool:
    return isinstance(error, IntegrityError | DataError) or error_number(error) == INCORRECT_STRING


@dataclass
class IncomingEvent:
    """What is stored of an event that arrives; the fields are columns of ReceivedEvent."""

    registration: WebhookRegistration
    registration_id: UUID
    vendor: str
    vendor_event_id: str
    event_digest: UUID
    event_type: str
    subject_id: str
    object_type: str
    object_id: str
    object_key: UUID | None
    occurred_at: datetime | None
    received_at: datetime
    origin: str
    body: bytes


def incoming_event(
    registration: WebhookRegistration,
    body: bytes,
    reading: ParsedEvent,
    origin: str,
    received_at: datetime | None = None,
) -> IncomingEvent:
    """What is stored of an event that was received at that time; now by default."""
    received_at = received_at or timezone.now()
    identity = ("id", reading.event_id) if reading.event_id else ("body", body.hex())
    return IncomingEvent(
        registration=registration,
        registration_id=registration.pk,
        vendor=registration.vendor,
        vendor_event_id=clean(reading.event_id or "", 255),
        event_digest=digest(*identity),
        event_type=clean(reading.event_type, 100),
        subject_id=clean(reading.subject_id, 255),
        object_type=clean(reading.object_type, 100),
        object_id=clean(reading.object_id, 255),
        object_key=digest(str(registration.pk), *reading.object_key) if reading.object_key else None,
        occurred_at=reading.occurred_at and min(reading.occurred_at, received_at + FURTHEST_AHEAD),
        received_at=received_at,
        origin=origin,
        body=body,
    )


def _ever_plainer(arrival: IncomingEvent) -> Iterator[IncomingEvent]:
    """The event as read, and with nothing but ASCII beside the bytes."""
    yield arrival
    for name in ("vendor_event_id", "event_type", "subject_id", "object_type", "object_id"):
        setattr(arrival, name, getattr(arrival, name).encode("ascii", "replace").decode())
    yield arrival


def _count_repeat(arrival: IncomingEvent, recalled: bool) -> bool:
    """Count a delivery of an event that is stored; return False if it is not.

    A worker may hold the row's lock for as long as the event's receivers take, or longer if the worker is stopped. Then
    the delivery is acknowledged without being counted. Raises RegistrationChanged if the registration was recalled and
    the delivery could not be counted at once, and OperationalError if its body, which differs, could not be kept.
    """
    # MariaDB would wait for the lock.
    if connection.vendor != "mysql" and ReceivedEvent.objects.count_repeat(arrival, recalled=recalled):
        return True
    if recalled:  # the database does not say why there was no row
        raise RegistrationChanged
    stored = ReceivedEvent.objects.filter(registration_id=arrival.registration_id, event_digest=arrival.event_digest)
    end = time.monotonic() + PATIENCE
    while not _count_unless_locked(stored, arrival):
        found = stored.values_list("pk", "body").first()
        if found is None:
            return False
        pk, body = found
        if time.monotonic() > end:
            if bytes(body) != arrival.body:
                raise OperationalError(f"event {pk} is locked, and the body of a further delivery differs")
            logger.info("event %s: a duplicate was not counted, a worker has the event", pk)
            break
        time.sleep(0.02)
    return True


def _count_unless_locked(stored: QuerySet[ReceivedEvent], arrival: IncomingEvent) -> bool:
    no_key = connection.features.has_select_for_no_key_update  # a reference to the row is no hindrance
    with write_transaction():
        free = stored.select_for_update(skip_locked=True, no_key=no_key).values_list("pk", "body").first()
        if free is None:
            return False
        pk, body = free
        changes: dict[str, Any] = {"deliveries": F("deliveries") + 1, "last_delivery_at": timezone.now()}
        if bytes(body) != arrival.body:
            changes |= {"conflicts": F("conflicts") + 1, "conflicting_body": arrival.body}
            transaction.on_commit(partial(_tell_of_conflict, pk), robust=True)
        ReceivedEvent.objects.filter(pk=pk).update(**changes)
    return True


def _tell_of_conflict(pk: int) -> None:
    logger.warning("event %s: another body was delivered under its id", pk)
    if event_conflicted.has_listeners(ReceivedEvent) and (event := ReceivedEvent.objects.filter(pk=pk).first()):
        event_conflicted.send_robust(ReceivedEvent, event=event)
