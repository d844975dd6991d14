"""The demo's SQLite database: one demo at a time, migrated, with a user for the admin."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import connection, connections

from django_bi_integration.models import ReceivedEvent

#: Published, because the demo only listens on this machine.
USER = PASSWORD = "demo"  # noqa: S105


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other demos out of the folder for the duration of the block. Raise CommandError if another demo uses it.

    If this process dies, the operating system releases the lock.
    """
    with (folder / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise CommandError(
                f"Another demo is using {folder}. Stop it first, or run one beside it with make demo ONCE=1"
            ) from error
        yield


def use_database(folder: Path, *, reset: bool) -> bool:
    """Switch to the database in the folder, and return whether it has events from an earlier run."""
    file = folder / "db.sqlite3"
    if reset:
        for suffix in ("", "-wal", "-shm"):
            file.with_name(file.name + suffix).unlink(missing_ok=True)
    connection.close()
    connections.settings["default"]["NAME"] = str(file)
    call_command("migrate", verbosity=0)
    user, _ = get_user_model().objects.get_or_create(username=USER, defaults={"is_staff": True, "is_superuser": True})
    user.set_password(PASSWORD)
    user.save()
    return ReceivedEvent.objects.exists()
