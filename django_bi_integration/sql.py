"""Statements that run for each delivery or each dispatched event, built once from the models' tables and columns.

The ORM compiles a statement each time that it runs, which takes as long as the rest of a request. Here, only the
values are converted each time, by the models' own fields.
"""

from collections.abc import Collection, Sequence
from datetime import UTC, datetime
from operator import attrgetter
from typing import Any
from uuid import UUID

from django.db import DEFAULT_DB_ALIAS, Error, connection, connections, models
from django.db.backends.base.base import BaseDatabaseWrapper

Fields = Sequence["models.Field[Any, Any]"]

#: A value of each kind of field that some databases' drivers accept unconverted.
SAMPLES: dict[type, object] = {
    models.BooleanField: True,
    models.CharField: "",
    models.DateTimeField: datetime(2000, 1, 1, tzinfo=UTC),
    models.PositiveIntegerField: 0,
    models.TextField: "",
    models.UUIDField: UUID(int=0),
}


class Values:
    """Read the values of some fields from an object, converted for the database."""

    def __init__(self, fields: Fields) -> None:
        self.names = [field.attname for field in fields]
        self._read = attrgetter(*self.names)
        self._converted = [field for field in fields if not _is_accepted_unconverted(field)]

    def of(self, item: object, database: BaseDatabaseWrapper) -> dict[str, Any]:
        values = dict(zip(self.names, self._read(item), strict=True))
        for field in self._converted:
            values[field.attname] = field.get_db_prep_save(values[field.attname], database)
        return values


class Statement:
    """One SQL statement that takes the values of ``fields`` from an object, as parameters named like its attributes."""

    def __init__(self, sql: str, fields: Fields) -> None:
        self.sql = sql
        self._values = Values(fields)

    def execute(self, item: object, **more: object) -> int:
        """Run the statement for ``item``, with ``more`` parameters; return the number of affected rows.

        Raise ``django.db.Error``.
        """
        database = connections[DEFAULT_DB_ALIAS]
        with database.cursor() as cursor:
            cursor.execute(self.sql, self._values.of(item, database) | more)
            return int(cursor.rowcount)


class BulkUpdate:
    """Set the ``changed`` columns of rows that match ``found_by``, in each row to different values.

    PostgreSQL gets one statement with an array for each column, other databases one statement for each row. ``also`` is
    SQL for columns that are set to the same value in every row.
    """

    def __init__(
        self, model: type[models.Model], changed: Fields, found_by: Fields, *, also: Sequence[str] = ()
    ) -> None:
        fields = [*changed, *found_by]
        self._values = Values(fields)
        self._is_one_statement = connection.vendor == "postgresql"
        given = {field: parameter(field) for field in fields}
        rows = ""
        if self._is_one_statement:
            arrays = ", ".join(f"{place}::{_type_of_any_length(field)}[]" for field, place in given.items())
            rows = f" FROM unnest({arrays}) AS given ({columns(fields)})"
            given = {field: f"given.{column(field)}" for field in fields}
        assignments = [*(f"{column(field)} = {given[field]}" for field in changed), *also]
        matches = [f"{table(model)}.{column(field)} = {given[field]}" for field in found_by]
        self.sql = f"UPDATE {table(model)} SET {', '.join(assignments)}{rows} WHERE {' AND '.join(matches)}"

    def execute(self, items: Collection[object]) -> int:
        """Run the update for all ``items``; return the number of rows that matched. Raise ``django.db.Error``."""
        database = connections[DEFAULT_DB_ALIAS]
        rows = [self._values.of(item, database) for item in items]
        with database.cursor() as cursor:
            if self._is_one_statement:
                cursor.execute(self.sql, {name: [row[name] for row in rows] for name in self._values.names})
            else:
                cursor.executemany(self.sql, rows)
            return int(cursor.rowcount)


def error_code(error: Error) -> str | int | None:
    """Return the database's own code for an error, which reveals no values; None if it has none."""
    # psycopg's name for it, and psycopg2's
    sqlstate: str | None = getattr(error.__cause__, "sqlstate", None) or getattr(error.__cause__, "pgcode", None)
    first = error.args[0] if error.args else None
    return sqlstate or (first if isinstance(first, int) else None)


def fields_of(model: type[models.Model], *names: str) -> Fields:
    return [model._meta.get_field(name) for name in names]  # type: ignore[misc]


def parameter(field: "models.Field[Any, Any]") -> str:
    """Return the placeholder for a field's value."""
    return f"%({field.attname})s"


def columns(fields: Fields) -> str:
    """Return the fields' columns, quoted, as a list in SQL."""
    return ", ".join(map(column, fields))


def column(field: "models.Field[Any, Any]") -> str:
    return connection.ops.quote_name(field.column or "")


def table(model: type[models.Model]) -> str:
    return connection.ops.quote_name(model._meta.db_table)


def _is_accepted_unconverted(field: "models.Field[Any, Any]") -> bool:
    """Return True if the field has nothing to convert for this database: asking it for each value takes long."""
    sample = SAMPLES.get(type(field.target_field if isinstance(field, models.ForeignKey) else field))
    return sample is not None and field.get_db_prep_save(sample, connection) is sample


def _type_of_any_length(field: "models.Field[Any, Any]") -> str:
    """Return the column's type for a cast. A cast to varchar(20) would cut longer text, which the column rejects."""
    return (field.cast_db_type(connection) or "").partition("(")[0]
