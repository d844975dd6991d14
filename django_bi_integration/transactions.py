"""Conflicts: two transactions that lock each other out, of which the database ends one, to be tried again."""

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
from django_bi_integration.sql import error_number

Result = TypeVar("Result")

#: Deadlocks and failed serialisation: PostgreSQL's SQLSTATE, MariaDB's and MySQL's error numbers.
CONFLICTS = {"40001", "40P01", 1020, 1213}
TRIES = 8
#: The longest wait before the second try, in seconds; it doubles with each further try.
LONGEST_FIRST_WAIT = 0.01


def is_conflict(error: BaseException) -> bool:
    """Whether the database ended a transaction in favour of another, so that it may go well if tried again."""
    return isinstance(error, DatabaseFailure) and error_number(error) in CONFLICTS


@contextmanager
def write_transaction() -> Iterator[None]:
    """A transaction that will write. SQLite, which has no row locks, is made to lock as a whole at once:
    locking later, behind a read, would fail instead of wait."""
    is_outermost = not connection.in_atomic_block and connection.get_autocommit()
    try:
        with transaction.atomic():
            if not connection.features.has_select_for_update:
                ReceivedEvent.objects.filter(pk=0).update(attempts=0)
            yield
    finally:
        is_open = connection.connection is not None and not connection.autocommit
        if is_outermost and (connection.in_atomic_block or is_open):
            reconnect(connection)


def reconnect(database: BaseDatabaseWrapper) -> None:
    """Leave a transaction that its end has not ended: an interruption in the end of an atomic block has Django count
    one block too many, and nothing on this connection would ever be committed again, by whomever."""
    database.close()
    with suppress(DatabaseFailure):  # the database is away, and what raised says so
        database.connect()


def is_in_callers_transaction() -> bool:
    """Return True if the connection is in a transaction, which outside of our own ones is the caller's.

    Only the caller can run it again, and its connection is not ours to close.
    """
    return connection.in_atomic_block or (connection.connection is not None and not connection.autocommit)


def retry_on_conflict(call: Callable[[], Result], *, until: float = math.inf) -> Result:
    """Run ``call``, which is one transaction, and run it again if the database ended it in favour of another one.

    Between two tries there is a short random wait, so that the two transactions do not meet again. Raises what the
    last try raises: after ``TRIES``, after ``until`` by the monotonic clock, in a transaction of the caller, and for
    any error that is not a conflict.
    """
    longest_wait = LONGEST_FIRST_WAIT
    for _ in range(TRIES - 1):
        try:
            return call()
        except DatabaseFailure as error:
            if not is_conflict(error) or is_in_callers_transaction() or time.monotonic() >= until:
                raise
        time.sleep(uniform(0, longest_wait))  # noqa: S311 - no secret
        longest_wait *= 2
    return call()
