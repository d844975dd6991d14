"""Conflicts: two transactions that lock each other out, of which the database ends one, to be tried again."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TypeVar

from django.db import Error as DatabaseFailure
from django.db import connection, transaction

from django_bi_integration.models import ReceivedEvent
from django_bi_integration.models.statements import error_number

Result = TypeVar("Result")

#: Deadlocks and failed serialisation: PostgreSQL's SQLSTATE, MariaDB's and MySQL's error numbers.
CONFLICTS = {"40001", "40P01", 1020, 1213}
TRIES = 5


def is_conflict(error: BaseException) -> bool:
    """Whether the database ended a transaction in favour of another, so that it may go well if tried again."""
    return isinstance(error, DatabaseFailure) and error_number(error) in CONFLICTS


@contextmanager
def writing() -> Iterator[None]:
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
            _begin_anew()


def _begin_anew() -> None:
    """Leave a transaction that its end has not ended: an interruption in the end of an atomic block has Django count
    one block too many, and nothing on this connection would ever be committed again, by whomever."""
    connection.close()
    with suppress(DatabaseFailure):  # the database is away, and what raised says so
        connection.connect()


def despite_conflicts(call: Callable[[], Result]) -> Result:
    """Make the call, which is a transaction of its own, again where the database ended it in favour of another.

    Raises what the call raises: after so many tries, within an outer transaction, or for any other reason.
    """
    for _ in range(TRIES - 1):
        try:
            return call()
        except DatabaseFailure as error:
            if not is_conflict(error) or connection.in_atomic_block:
                raise
    return call()
