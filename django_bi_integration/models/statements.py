"""Statements that run for each delivery or each event.

The ORM would compile them anew each time, which takes as long as all the rest of a request. They are made once, of
the models' own table and column names; fields convert the values as the ORM has them do.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from django.db import DEFAULT_DB_ALIAS, connection, connections, models

Fields = Sequence["models.Field[Any, Any]"]


class Statement(NamedTuple):
    """SQL, and the fields of an object whose values it takes."""

    sql: str
    fields: Fields

    def execute(self, *objects: object) -> int:
        """Run it with the values that each object has as attributes; the number of rows that it was about.

        Many objects are one round trip where the database's driver can do that. Raises ``django.db.Error``.
        """
        database = connections[DEFAULT_DB_ALIAS]  # looked up once, not with every value
        values = [
            [field.get_db_prep_save(getattr(item, field.attname), database) for field in self.fields]
            for item in objects
        ]
        with database.cursor() as cursor:
            if len(values) == 1:
                cursor.execute(self.sql, values[0])
            else:
                cursor.executemany(self.sql, values)
            return int(cursor.rowcount)


class Lookup:
    """Finds the row of a primary key."""

    def __init__(self, model: type[models.Model]) -> None:
        fields = model._meta.concrete_fields
        self.model = model
        self.key = fields_of(model, "id")[0]
        self.sql = f"SELECT {columns(fields)} FROM {table(model)} WHERE {columns([self.key])} = %s"
        self.names = [field.attname for field in fields]
        self.converters = [(index, found) for index, field in enumerate(fields) if (found := _converters(field))]

    def find(self, pk: object) -> Any:
        """The object, or None where there is none."""
        with connection.cursor() as cursor:
            cursor.execute(self.sql, [self.key.get_db_prep_value(pk, connection)])
            row = cursor.fetchone()
        if row is None:
            return None
        values = list(row)
        for index, converters in self.converters:
            for converter in converters:
                values[index] = converter(values[index], None, connection)
        return self.model.from_db(connection.alias, self.names, values)


def _converters(field: "models.Field[Any, Any]") -> list[Any]:
    """What the ORM has a value go through that this database answers."""
    return [*connection.ops.get_db_converters(field.cached_col), *field.get_db_converters(connection)]


def fields_of(model: type[models.Model], *names: str) -> Fields:
    return [model._meta.get_field(name) for name in names]  # type: ignore[misc]


def columns(fields: Fields, *, pattern: str = "{}", joined_by: str = ", ") -> str:
    """The fields' columns, quoted, each put into the pattern."""
    quote = connection.ops.quote_name
    return joined_by.join(pattern.format(quote(field.column or "")) for field in fields)


def table(model: type[models.Model]) -> str:
    return connection.ops.quote_name(model._meta.db_table)
