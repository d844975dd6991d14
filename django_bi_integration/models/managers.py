"""Where the tables are asked."""

from typing import Any, TypeVar

from django.db import DEFAULT_DB_ALIAS, models

Row = TypeVar("Row", bound=models.Model)


class Manager(models.Manager[Row]):
    """Asks the database that is written to, whatever the project's routers say of reading.

    A replica is late: there, an event that a worker has claimed a moment ago is still to be had.
    """

    def get_queryset(self) -> Any:
        return super().get_queryset().using(DEFAULT_DB_ALIAS)
