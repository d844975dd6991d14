"""Make the n-th call to the database fail, as a lost connection does, or be interrupted, as a time limit does."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from django.db import OperationalError, connection


class Interruption(Exception):
    """As Celery's soft time limit: raised by a signal, between any two steps of the program."""


class Faults:
    """Counts the calls to the database, statements and commits alike, and fails or interrupts the n-th.

    A connection is lost with a call that fails: before the server has done what was asked, or after, so that only the
    answer is missing. ``happened`` tells whether there were as many calls at all.
    """

    def __init__(self, number: int, *, after: bool, interrupt: bool) -> None:
        self.number = number
        self.after = after
        self.interrupt = interrupt
        self.calls = 0
        self.happened = False

    def pass_through(self, call: Callable[[], Any]) -> Any:
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
    """Have the server end the connection; SQLite has no server, and its connections outlive their errors."""
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
    """Fail or interrupt the ``number``-th call within the block. At its end the connection is closed, as after a task;
    raises AssertionError where Django would not let go of its transaction then."""
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
