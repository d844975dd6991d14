"""Transactions that write, and another try for those that the database ended because of a conflict."""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from random import uniform
from typing import TypeVar

from django.db import Error as DatabaseFailure
from django.db import connection, transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from django_bi_integration.models import ReceivedEvent
from django_bi_integration.sql import error_code

Result = TypeVar("Result")

#: The codes of deadlocks and serialization failures: PostgreSQL's SQLSTATE, MariaDB's and MySQL's error numbers.
CONFLICTS = {"40001", "40P01", 1020, 1213}
#: How often a transaction is run at most, if it conflicts with others each time.
MAX_RUNS = 8
#: The longest wait before the second run, in seconds; it doubles before each further run.
LONGEST_FIRST_WAIT = 0.01


def is_conflict(error: BaseException) -> bool:
    """Return True if the database ended a transaction in favour of another, so that a new try may succeed."""
    return isinstance(error, DatabaseFailure) and error_code(error) in CONFLICTS


def retry_on_conflict(call: Callable[[], Result], *, until: float = math.inf) -> Result:
    """Run ``call``, which is one transaction, and run it again if the database ended it in favour of another.

    A short random wait keeps the two transactions from meeting again. Raise what the last run raises: after
    ``MAX_RUNS`` runs, after ``until`` by the monotonic clock, in a transaction of the caller, and for any error but a
    conflict.
    """
    longest_wait = LONGEST_FIRST_WAIT
    for _ in range(MAX_RUNS - 1):
        try:
            return call()
        except DatabaseFailure as error:
            if not is_conflict(error) or is_in_callers_transaction() or time.monotonic() >= until:
                raise
        time.sleep(uniform(0, longest_wait))  # noqa: S311 - no secret
        longest_wait *= 2
    return call()


@contextmanager
def write_transaction() -> Iterator[None]:
    """Open a transaction that will write.

    SQLite has no row locks, so the whole database is locked at once: locking it later, after a read, would fail instead
    of wait.
    """
    is_outermost = not connection.in_atomic_block and connection.get_autocommit()
    try:
        with transaction.atomic():
            if not connection.features.has_select_for_update:
                ReceivedEvent.objects.filter(pk=0).update(attempts=0)
            yield
    finally:
        if is_outermost and is_in_callers_transaction():
            reconnect(connection)


def is_in_callers_transaction() -> bool:
    """Return True if the connection is in a transaction of the caller. Call this outside of our own transactions.

    Only the caller can run that transaction again, and its connection is not ours to close.
    """
    return connection.in_atomic_block or (connection.connection is not None and not connection.autocommit)


def reconnect(database: BaseDatabaseWrapper) -> None:
    """Leave a transaction that did not end when its block ended.

    An interruption at the end of an atomic block makes Django count one block too many, after which nothing would be
    committed on this connection.
    """
    database.close()
    with suppress(DatabaseFailure):  # the database is unavailable, which the original error reports
        database.connect()
