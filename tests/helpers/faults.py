"""Make the n-th database call fail as with a lost connection, or interrupt it as a time limit does."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from django.db import OperationalError, connection


class Interruption(Exception):
    """Stands for Celery's soft time limit, which a Unix signal can raise between any two steps of a program."""


class Faults:
    """Counts database calls (statements and commits), and fails or interrupts the n-th.

    The failing call loses its connection, either before the server executes it or, with ``after``, afterwards, so that
    only the response is lost. ``happened`` is True once the n-th call was made.
    """

    def __init__(self, number: int, *, after: bool, interrupt: bool) -> None:
        self.number = number
        self.after = after
        self.interrupt = interrupt
        self.calls = 0
        self.happened = False

    def pass_through(self, call: Callable[[], Any]) -> Any:
        """Make the call and return its result; raise Interruption or OperationalError for the n-th."""
        self.calls += 1
        if self.calls != self.number:
            return call()
        self.happened = True
        if self.after:
            call()
        if self.interrupt:
            raise Interruption
        lose_connection()
        raise OperationalError("server closed the connection unexpectedly")


def lose_connection() -> None:
    """Make the server close the connection. Do nothing on SQLite, which has no server."""
    if connection.connection is None or connection.vendor == "sqlite":
        return
    other = connection.copy()
    with other.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute("SELECT pg_terminate_backend(%s, 5000)", [connection.connection.info.backend_pid])
        else:
            cursor.execute(f"KILL {connection.connection.thread_id()}")
    other.close()


@contextmanager
def failing(number: int, *, after: bool, interrupt: bool = False) -> Iterator[Faults]:
    """Fail or interrupt the ``number``-th call within the block, counted from 1.

    Close the connection after the block, as Celery does after a task. Raise AssertionError if a transaction is still
    open by then.
    """
    faults = Faults(number, after=after, interrupt=interrupt)
    commit = connection._commit

    def wrapper(execute: Any, sql: str, params: Any, many: bool, context: dict[str, Any]) -> Any:
        return faults.pass_through(lambda: execute(sql, params, many, context))

    connection._commit = lambda: faults.pass_through(commit)
    try:
        with connection.execute_wrapper(wrapper):
            yield faults
    finally:
        del connection._commit
        assert not connection.in_atomic_block
        connection.close()
