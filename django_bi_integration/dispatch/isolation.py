"""What a receiver changes in its process is put back before the next receiver starts."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import Context, copy_context
from decimal import getcontext, setcontext
from functools import wraps
from typing import Any

from django.db import DEFAULT_DB_ALIAS, connection, connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from django_bi_integration.models import ReceivedEvent
from django_bi_integration.transactions import reconnect


def separate_context() -> Context:
    """Return a copy of the current context, to run a receiver in.

    Context variables hold the active language and time zone and whatever libraries keep there. Code changes the decimal
    context in place, and asgiref before 3.9 does so with what Django keeps, so the copy gets separate ones.
    """
    context = copy_context()
    context.run(setcontext, getcontext().copy())
    for variable, value in context.items():
        if variable.name == "asgiref.local" and isinstance(value, dict):
            context.run(variable.set, value.copy())
    return context


def isolate_callbacks(first: int, context: Context) -> None:
    """Isolate what a receiver registered with ``transaction.on_commit``, from the number ``first`` on.

    Each callback runs even if another one raises, which Django logs. It runs in the context that the receiver left, so
    that the language that the receiver activated is active for it, and for nothing else.
    """

    def isolated(call: Callable[[], object]) -> Callable[[], None]:
        @wraps(call)  # Django logs its name
        def run() -> None:
            with restored():
                context.run(call)

        return run

    callbacks: list[Any] = connection.run_on_commit  # of three items each; the stubs know two
    callbacks[first:] = [(savepoints, isolated(call), True) for savepoints, call, _ in callbacks[first:]]


@contextmanager
def restored(event: ReceivedEvent | None = None) -> Iterator[None]:
    """Put back the event's attributes, and what Django keeps on each connection, when the block ends.

    Raise TransactionManagementError if the block left a transaction open on another database: as long as the process
    lives, nothing would be committed there. The caller handles the default database's transaction.
    """
    attributes = vars(event).copy() if event is not None else {}
    databases = _connected()
    before = [(each, each.execute_wrappers, [*each.execute_wrappers], each.force_debug_cursor) for each in databases]
    were_open = [each for each in databases if _has_open_transaction(each)]
    left_open = []
    try:
        yield
    finally:
        if event is not None:
            event.__dict__ = attributes
        for each, wrappers, content, debugs in before:
            wrappers[:] = content
            each.execute_wrappers, each.force_debug_cursor = wrappers, debugs
        if len(connections.settings) > 1:
            left_open = _end_open_transactions(were_open)
    if left_open:
        raise transaction.TransactionManagementError(
            f"A transaction was left open on the database {' and '.join(left_open)}: what was written there is rolled"
            " back. Use `with transaction.atomic(using=…)`, which ends its transaction."
        )


def _connected() -> Sequence[BaseDatabaseWrapper]:
    """Return this thread's connections."""
    return connections.all(initialized_only=True) if len(connections.settings) > 1 else [connections[DEFAULT_DB_ALIAS]]


def _end_open_transactions(were_open: list[BaseDatabaseWrapper]) -> list[str]:
    """Roll back transactions opened since, except the default database's; return the aliases of their databases."""
    others = [each for each in _connected() if each.alias != DEFAULT_DB_ALIAS and each not in were_open]
    left_open = [each for each in others if _has_open_transaction(each)]
    for each in left_open:
        reconnect(each)
    return [each.alias for each in left_open]


def _has_open_transaction(database: BaseDatabaseWrapper) -> bool:
    return database.in_atomic_block or (database.connection is not None and not database.autocommit)
