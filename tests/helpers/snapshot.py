"""An old snapshot that a backup or a report holds open: the database can remove no row that it may still see."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from django.db import connection, connections


@contextmanager
def held_open(*statements: str) -> Iterator[None]:
    """Run the statements on a connection of another thread, and leave the transaction open until the block ends."""
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
    """Hold a snapshot open."""
    if connection.vendor == "postgresql":
        statements = ["BEGIN ISOLATION LEVEL REPEATABLE READ", "SELECT count(*) FROM django_migrations"]
    else:
        statements = ["START TRANSACTION WITH CONSISTENT SNAPSHOT"]
    with held_open(*statements):
        yield
