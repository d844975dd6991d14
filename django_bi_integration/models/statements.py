"""Statements that run for each delivery or each event.

The ORM would compile them anew each time, which takes as long as all the rest of a request. They are made once, of
the models' own table and column names; fields convert the values as the ORM has them do.
"""

from collections.abc import Iterable, Sequence
from operator import attrgetter
from typing import Any

from django.db import DEFAULT_DB_ALIAS, connection, connections, models

Fields = Sequence["models.Field[Any, Any]"]


#: Fields whose values go to every database as they are.
AS_THEY_ARE = {models.BooleanField, models.CharField, models.PositiveIntegerField, models.TextField}


class Statement:
    """SQL, and the attributes of an object that it takes, each with the field that converts it."""

    def __init__(self, sql: str, attributes: "Iterable[tuple[str, models.Field[Any, Any]]]") -> None:
        names, fields = zip(*attributes, strict=True)
        self.sql = sql
        self.values_of = attrgetter(*names)
        self.converted = [(index, field) for index, field in enumerate(fields) if type(field) not in AS_THEY_ARE]

    def execute(self, *objects: object) -> int:
        """Run it with the values that each object has as attributes; the number of rows that it was about.

        Many objects are one round trip where the database's driver can do that. Raises ``django.db.Error``.
        """
        database = connections[DEFAULT_DB_ALIAS]  # looked up once, not with every value
        values = [list(self.values_of(item)) for item in objects]
        for row in values:
            for index, field in self.converted:
                row[index] = field.get_db_prep_save(row[index], database)
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
        database = connections[DEFAULT_DB_ALIAS]
        with database.cursor() as cursor:
            cursor.execute(self.sql, [self.key.get_db_prep_value(pk, database)])
            row = cursor.fetchone()
        if row is None:
            return None
        values = list(row)
        for index, converters in self.converters:
            for converter in converters:
                values[index] = converter(values[index], None, database)
        return self.model.from_db(database.alias, self.names, values)


def _converters(field: "models.Field[Any, Any]") -> list[Any]:
    """What the ORM has a value go through that this database answers."""
    return [*connection.ops.get_db_converters(field.cached_col), *field.get_db_converters(connection)]


def fields_of(model: type[models.Model], *names: str) -> Fields:
    return [model._meta.get_field(name) for name in names]  # type: ignore[misc]


def attributes(fields: Fields, of: str = "{}") -> "list[tuple[str, models.Field[Any, Any]]]":
    """What a statement takes of an object for the fields: attributes of the same names, or of something that it has."""
    return [(of.format(field.attname), field) for field in fields]


def columns(fields: Fields, *, pattern: str = "{}", joined_by: str = ", ") -> str:
    """The fields' columns, quoted, each put into the pattern."""
    quote = connection.ops.quote_name
    return joined_by.join(pattern.format(quote(field.column or "")) for field in fields)


def table(model: type[models.Model]) -> str:
    return connection.ops.quote_name(model._meta.db_table)
