"""What a receiver changes in its process, put back before the next receiver starts.

Context variables need nothing here: each receiver runs in a copy of the context. They hold the active language and
time zone, decimal contexts, and whatever libraries keep there.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from django.db import DEFAULT_DB_ALIAS, connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from django_bi_integration.models import ReceivedEvent
from django_bi_integration.webhooks.conflicts import begin_anew


@contextmanager
def restored(event: ReceivedEvent | None = None) -> Iterator[None]:
    """Put back the event's attributes, and what Django keeps on each connection, when the block ends.

    Raises TransactionManagementError if the block left a transaction open on another database: nothing would be
    committed there as long as the process lives. The caller deals with the default database's transaction.
    """
    attributes = vars(event).copy() if event else {}
    before = [(database, database.execute_wrappers, [*database.execute_wrappers], database.force_debug_cursor)
              for database in connections.all(initialized_only=True)]  # fmt: skip
    were_open = {database.alias for database, *_ in before if _has_open_transaction(database)}
    try:
        yield
    finally:
        if event:
            event.__dict__ = attributes
        for database, wrappers, content, debugs in before:
            wrappers[:] = content
            database.execute_wrappers, database.force_debug_cursor = wrappers, debugs
        left_open = _end_open_transactions(except_of={DEFAULT_DB_ALIAS, *were_open})
    if left_open:
        raise transaction.TransactionManagementError(
            f"A transaction was left open on the database {' and '.join(left_open)}: what was written there is rolled"
            " back. Use `with transaction.atomic(using=…)`, which ends its transaction."
        )


def _end_open_transactions(*, except_of: set[str]) -> list[str]:
    """Roll back the transactions that are open on databases other than these; return their aliases."""
    others = [database for database in connections.all(initialized_only=True) if database.alias not in except_of]
    left_open = [database for database in others if _has_open_transaction(database)]
    for database in left_open:
        begin_anew(database)
    return [database.alias for database in left_open]


def _has_open_transaction(database: BaseDatabaseWrapper) -> bool:
    return database.in_atomic_block or (database.connection is not None and not database.autocommit)
