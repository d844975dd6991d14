"""Store an event durably and once: insert its row, or count the delivery of an event that is stored already."""

import logging
import time
from collections.abc import Callable
from contextlib import nullcontext
from functools import cache, partial
from typing import Any

from django.db import DatabaseError, DataError, IntegrityError, OperationalError, connection, transaction
from django.db.models import F, QuerySet
from django.utils import timezone

from django_bi_integration.models import ReceivedEvent, WebhookRegistration
from django_bi_integration.signals import event_conflicted
from django_bi_integration.sql import Statement, column, columns, error_code, fields_of, parameter, table
from django_bi_integration.transactions import retry_on_conflict, write_transaction
from django_bi_integration.webhooks.registration_cache import RegistrationChanged

logger = logging.getLogger(__name__)

#: The unique key of an event's row.
IDENTITY = ("event_digest", "registration")
#: The columns of a new row; the database has a default for the others.
NEW = (
    *IDENTITY, "vendor", "vendor_event_id", "event_type", "subject_id", "object_type", "object_id", "object_key",
    "occurred_at", "received_at", "last_delivery_at", "next_attempt_at", "origin", "body",
)  # fmt: skip
#: Seconds that a duplicate waits to be counted while a worker has the event: the vendor would not wait for receivers.
MAX_WAIT = 1.0
#: MariaDB's and MySQL's codes for a violated unique key, and for text that a column's character set lacks (an emoji in
#: utf8mb3, for example).
DUPLICATE_KEY, INCORRECT_STRING = 1062, 1366


def store_once(event: ReceivedEvent, expected_row: str | None = None) -> None:
    """Insert the event, or count one more delivery of it if it is stored already.

    ``expected_row`` is the registration's row as it was cached. The statements that write compare it, so that a cached
    registration decides nothing by itself. Without it, they do not look at the registration.

    Raise RegistrationChanged if the row differs, and ``django.db.Error`` if the event could not be stored.
    """
    retry_on_conflict(lambda: write_what_fits(event, partial(_insert_or_count, event, expected_row)))


def write_what_fits(event: ReceivedEvent, write: Callable[[], object]) -> None:
    """Call ``write``; if the database cannot hold one of the event's values, again with ASCII beside the body.

    The body has every character, and is stored as bytes.
    """
    try:
        write()
    except DatabaseError as error:
        if not isinstance(error, IntegrityError | DataError) and error_code(error) != INCORRECT_STRING:
            raise
        for name in ("vendor_event_id", "event_type", "subject_id", "object_type", "object_id"):
            setattr(event, name, getattr(event, name).encode("ascii", "replace").decode())
        write()


def _insert_or_count(event: ReceivedEvent, expected_row: str | None) -> None:
    while not (_insert(event, expected_row) or _count_duplicate(event, expected_row)):
        pass  # its row was deleted in between


def _insert(event: ReceivedEvent, expected_row: str | None) -> bool:
    """Insert the event's row. Return False if the event is stored already, or the registration has changed."""
    # An error must not break a transaction of the caller's.
    around = transaction.atomic() if connection.in_atomic_block else nullcontext()
    try:
        with around:
            return _insert_statement(connection.vendor).execute(event, expected_row=expected_row) == 1
    except IntegrityError as error:
        if expected_row is not None:  # the registration was deleted at this moment
            raise RegistrationChanged from error
        if error_code(error) == DUPLICATE_KEY:
            return False
        raise


def _count_duplicate(event: ReceivedEvent, expected_row: str | None) -> bool:
    """Count a delivery of an event that is stored; return False if it is not.

    A worker may hold the row's lock for as long as the event's receivers take, or longer if the worker is stopped. Then
    the delivery is acknowledged without being counted. Raise RegistrationChanged if there is an ``expected_row`` and
    the delivery could not be counted at once, and OperationalError if its body, which differs, could not be kept.
    """
    # MariaDB would wait for the lock.
    if connection.vendor != "mysql" and _count_statement(connection.vendor).execute(event, expected_row=expected_row):
        return True
    if expected_row is not None:  # the database does not say why no row matched
        raise RegistrationChanged
    stored = ReceivedEvent.objects.filter(registration_id=event.registration_id, event_digest=event.event_digest)
    end = time.monotonic() + MAX_WAIT
    while not _count_unless_locked(stored, bytes(event.body)):
        found = stored.values_list("pk", "body").first()
        if found is None:
            return False
        pk, body = found
        if time.monotonic() > end:
            if bytes(body) != event.body:
                raise OperationalError(f"event {pk} is locked, and the body of a further delivery differs")
            logger.info("event %s: a duplicate was not counted because a worker has locked the event", pk)
            break
        time.sleep(0.02)
    return True


def _count_unless_locked(stored: QuerySet[ReceivedEvent], delivered: bytes) -> bool:
    no_key = connection.features.has_select_for_no_key_update  # a foreign key to the row does not block it
    with write_transaction():
        free = stored.select_for_update(skip_locked=True, no_key=no_key).values_list("pk", "body").first()
        if free is None:
            return False
        pk, body = free
        changes: dict[str, Any] = {"deliveries": F("deliveries") + 1, "last_delivery_at": timezone.now()}
        if bytes(body) != delivered:
            changes |= {"conflicts": F("conflicts") + 1, "conflicting_body": delivered}
            transaction.on_commit(partial(_report_conflict, pk), robust=True)
        ReceivedEvent.objects.filter(pk=pk).update(**changes)
    return True


def _report_conflict(pk: int) -> None:
    logger.warning("event %s: another body was delivered under its id", pk)
    if event_conflicted.has_listeners(ReceivedEvent) and (event := ReceivedEvent.objects.filter(pk=pk).first()):
        event_conflicted.send_robust(ReceivedEvent, event=event)


@cache
def _insert_statement(database: str) -> Statement:
    new = fields_of(ReceivedEvent, *NEW)
    values = f"VALUES ({', '.join(map(parameter, new))})"
    if database == "postgresql":
        # By itself, ON CONFLICT would wait for a worker that has changed the row. A registration that changed yields no
        # row instead of an error, because PostgreSQL's log would quote the body of a delivery that is rejected then.
        is_stored = f"EXISTS (SELECT FROM {table(ReceivedEvent)} WHERE {_equal(*IDENTITY)})"
        values = f"SELECT {', '.join(map(parameter, new))} WHERE NOT {is_stored} AND {_registration_is_unchanged()}"
    sql = f"INSERT INTO {table(ReceivedEvent)} ({columns(new)}) {values}"
    if database != "mysql":  # MariaDB and MySQL lack ON CONFLICT: there, an error reports the duplicate
        sql += f" ON CONFLICT ({columns(fields_of(ReceivedEvent, *IDENTITY))}) DO NOTHING"
    return Statement(sql, new)


@cache
def _count_statement(database: str) -> Statement:
    """Count a delivery with the same body, unless a worker has claimed or locked the event."""
    found = f"{_equal(*IDENTITY, 'body')} AND claim IS NULL"
    if database == "postgresql":
        # A worker that is stopped between its lock and its commit must not hold up the vendor.
        found += f" AND {_registration_is_unchanged()} FOR NO KEY UPDATE SKIP LOCKED"
        found = f"id = (SELECT id FROM {table(ReceivedEvent)} WHERE {found})"
    new = fields_of(ReceivedEvent, *IDENTITY, "body", "last_delivery_at")
    counted = f"deliveries = deliveries + 1, last_delivery_at = {parameter(new[-1])}"
    return Statement(f"UPDATE {table(ReceivedEvent)} SET {counted} WHERE {found}", new)


def _equal(*names: str) -> str:
    return " AND ".join(f"{column(field)} = {parameter(field)}" for field in fields_of(ReceivedEvent, *names))


def _registration_is_unchanged() -> str:
    """SQL that is true if no row was cached, or if the registration's row still is what was cached."""
    registration = table(WebhookRegistration)
    (key,) = fields_of(ReceivedEvent, "registration")
    same_row = f"id = {parameter(key)} AND {registration}::text = %(expected_row)s"
    return f"(%(expected_row)s::text IS NULL OR EXISTS (SELECT FROM {registration} WHERE {same_row}))"
