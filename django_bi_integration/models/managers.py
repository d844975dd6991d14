"""The manager of every model."""

from typing import TypeVar

from django.db import DEFAULT_DB_ALIAS, models

Row = TypeVar("Row", bound=models.Model)


class Manager(models.Manager[Row]):
    """Always reads from the default database, unless a caller names another one with ``using`` or ``db_manager``.

    The project's routers may send reads to a replica, which is late: it may still show an event as due that a worker
    has claimed a moment ago.
    """

    def __init__(self) -> None:
        super().__init__()
        self._db = DEFAULT_DB_ALIAS
