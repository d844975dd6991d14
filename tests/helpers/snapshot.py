"""A transaction that stays open in another thread, as a backup's does; the database then keeps old row versions."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from django.db import connection, connections


@contextmanager
def open_transaction(*statements: str) -> Iterator[None]:
    """Run the statements in another thread on a separate connection, and end the transaction after the block."""
    is_open, is_over = threading.Event(), threading.Event()

    def hold() -> None:
        try:
            with connection.cursor() as cursor:
                for statement in statements:
                    cursor.execute(statement)
                is_open.set()
                is_over.wait()
        finally:
            connections.close_all()

    thread = threading.Thread(target=hold)
    thread.start()
    is_open.wait(30)
    try:
        yield
    finally:
        is_over.set()
        thread.join()


@contextmanager
def snapshot() -> Iterator[None]:
    """Hold a snapshot of the database open within the block."""
    if connection.vendor == "postgresql":
        statements = ["BEGIN ISOLATION LEVEL REPEATABLE READ", "SELECT count(*) FROM django_migrations"]
    else:
        statements = ["START TRANSACTION WITH CONSISTENT SNAPSHOT"]
    with open_transaction(*statements):
        yield
