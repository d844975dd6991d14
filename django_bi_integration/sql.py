"""Statements that run for each delivery or each event.

The ORM would compile them anew each time, which takes as long as all the rest of a request. They are made once, of
the models' own table and column names; fields convert the values as the ORM has them do.
"""

import hashlib
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from operator import attrgetter
from typing import Any
from uuid import UUID
from weakref import WeakKeyDictionary, WeakSet

from django.db import (
    DEFAULT_DB_ALIAS,
    DatabaseError,
    DataError,
    Error,
    IntegrityError,
    OperationalError,
    connection,
    connections,
    models,
)
from django.db.backends.base.base import BaseDatabaseWrapper

Fields = Sequence["models.Field[Any, Any]"]
#: What a statement takes of an object: attributes, also of something that it has, and the fields that convert them.
Attributes = Mapping[str, "models.Field[Any, Any]"]

#: A value of each kind of field that some databases' drivers take as it is.
SAMPLES: dict[type, object] = {
    models.BooleanField: True,
    models.CharField: "",
    models.DateTimeField: datetime(2000, 1, 1, tzinfo=UTC),
    models.PositiveIntegerField: 0,
    models.TextField: "",
    models.UUIDField: UUID(int=0),
}

#: PostgreSQL's number for a prepared statement that is not there.
UNKNOWN_STATEMENT = "26000"


class Parameters:
    """The values that a statement takes of an object, by the names of their attributes."""

    def __init__(self, attributes: Attributes) -> None:
        self.names = [parameter_name(attribute) for attribute in attributes]
        self.values_of = attrgetter(*attributes)
        self.converted = [
            (parameter_name(attribute), field) for attribute, field in attributes.items() if not _goes_as_it_is(field)
        ]

    def of(self, item: object, database: BaseDatabaseWrapper) -> dict[str, Any]:
        """As the fields convert them for the database."""
        values = dict(zip(self.names, self.values_of(item), strict=True))
        for name, field in self.converted:
            values[name] = field.get_db_prep_save(values[name], database)
        return values


class Statement:
    """SQL, and the attributes of an object that it takes by their names, each with the field that converts it.

    A value that has several places in the SQL is converted and sent to the driver once.
    """

    def __init__(self, sql: str, attributes: Attributes) -> None:
        self.sql = sql
        self.parameters = Parameters(attributes)

    def execute(self, item: object) -> int:
        """Run it with the values that the object has as attributes; the number of rows that it was about.

        Raises ``django.db.Error``.
        """
        database = connections[DEFAULT_DB_ALIAS]  # looked up once, not with every value
        values = self.parameters.of(item, database)
        with database.cursor() as cursor:
            self._run(database, cursor, values)
            return int(cursor.rowcount)

    def _run(self, database: BaseDatabaseWrapper, cursor: Any, values: Mapping[str, Any]) -> None:
        cursor.execute(self.sql, values)


class Prepared(Statement):
    """A statement whose plan a connection to PostgreSQL keeps: to plan it takes longer than to run it.

    SQL's own PREPARE does that with every driver, whatever its options. Connections that end soon do without, and so
    do poolers, which hand each transaction to another of their connections.
    """

    #: How often a connection runs the statement before it is worth preparing.
    PAYS_AFTER = 5

    def __init__(self, sql: str, attributes: Attributes) -> None:
        super().__init__(sql, attributes)
        places = {place: f"${number}" for number, place in enumerate(self.parameters.names, 1)}
        types = ", ".join(map(_type_of_any_length, attributes.values()))
        definition = f"({types}) AS {sql % places}"
        # What has that name is this statement, also where another version of this package prepared it.
        name = f"bi_{hashlib.sha256(definition.encode()).hexdigest()[:16]}"
        self.prepare = f"PREPARE {name} {definition}"
        # The comment is for whoever looks for the table's name in what is run, as caches of queries do.
        self.call = f"EXECUTE {name} /* {sql.partition(' (')[0]} */ ({', '.join(map(parameter, attributes))})"
        # The drivers' own connections: Django has another one once it has connected anew.
        self._runs: WeakKeyDictionary[Any, int] = WeakKeyDictionary()
        self._prepared: WeakSet[Any] = WeakSet()

    def _run(self, database: BaseDatabaseWrapper, cursor: Any, values: Mapping[str, Any]) -> None:
        driver = database.connection
        # Within a transaction, an error would take that down.
        if database.autocommit and self._is_prepared(database, cursor):
            try:
                cursor.execute(self.call, values)
            except DatabaseError as error:
                # Something had the connection forget it, DISCARD ALL for example, or takes no such call: it is not told
                # again. What the values or the connection are to blame for, the whole statement would meet as well.
                is_forgotten = error_number(error) == UNKNOWN_STATEMENT
                if isinstance(error, DataError | IntegrityError | OperationalError) and not is_forgotten:
                    raise
                self._prepared.discard(driver)
            else:
                return
        super()._run(database, cursor, values)

    def _is_prepared(self, database: BaseDatabaseWrapper, cursor: Any) -> bool:
        """Count one more run, and prepare the statement where that begins to pay; whether it is prepared."""
        driver = database.connection
        try:
            runs = self._runs[driver] = self._runs.get(driver, 0) + 1
        except TypeError:  # a wrapper of the host's that knows no weak references
            return False
        if runs == self.PAYS_AFTER + 1:
            with suppress(DatabaseError):  # something like PostgreSQL that does not know all of this
                if _takes_prepared(database, cursor):
                    cursor.execute(self.prepare)
                    self._prepared.add(driver)
        return driver in self._prepared


def _takes_prepared(database: BaseDatabaseWrapper, cursor: Any) -> bool:
    """Whether what is prepared on a connection is there the next time, and may be called with values."""
    if database.settings_dict["OPTIONS"].get("server_side_binding"):
        return False  # EXECUTE takes no values that the server binds; and the driver can prepare what it binds so
    # A pooler gives out numbers of its own, by which it is asked to cancel; PostgreSQL tells the one that it has.
    given = getattr(getattr(database.connection, "info", None), "backend_pid", None)
    cursor.execute("SELECT pg_backend_pid()")
    return bool(cursor.fetchone()[0] == given)


def error_number(error: Error) -> str | int | None:
    """The database's own number for an error, which tells nothing of the values in it; None where it has none."""
    # psycopg's name for it, and psycopg2's
    sqlstate: str | None = getattr(error.__cause__, "sqlstate", None) or getattr(error.__cause__, "pgcode", None)
    first = error.args[0] if error.args else None
    return sqlstate or (first if isinstance(first, int) else None)


class Update:
    """Sets the ``changed`` columns of rows that ``found_by`` tells, for each row to values of its own.

    On PostgreSQL that is one statement with a list of values for each column, planned once for all rows; elsewhere one
    for each row. ``also`` is SQL that sets columns which become the same in every row.
    """

    def __init__(
        self, model: type[models.Model], changed: Fields, found_by: Fields, *, also: Sequence[str] = ()
    ) -> None:
        fields = [*changed, *found_by]
        self.parameters = Parameters(attributes(fields))
        self.is_one = connection.vendor == "postgresql"
        given = {field: parameter(field.attname) for field in fields}
        rows = ""
        if self.is_one:
            lists = ", ".join(f"{place}::{_type_of_any_length(field)}[]" for field, place in given.items())
            rows = f" FROM unnest({lists}) AS given ({columns(fields)})"
            given = {field: f"given.{column(field)}" for field in fields}
        values = [*(f"{column(field)} = {given[field]}" for field in changed), *also]
        same = [f"{table(model)}.{column(field)} = {given[field]}" for field in found_by]
        self.sql = f"UPDATE {table(model)} SET {', '.join(values)}{rows} WHERE {' AND '.join(same)}"

    def execute(self, items: Collection[object]) -> int:
        """Run it with the values that each of the objects has as attributes; the number of rows that were there.

        Raises ``django.db.Error``.
        """
        database = connections[DEFAULT_DB_ALIAS]
        rows = [self.parameters.of(item, database) for item in items]
        with database.cursor() as cursor:
            if self.is_one:
                cursor.execute(self.sql, {name: [row[name] for row in rows] for name in self.parameters.names})
            else:
                cursor.executemany(self.sql, rows)
            return int(cursor.rowcount)


def _goes_as_it_is(field: "models.Field[Any, Any]") -> bool:
    """Whether the field has nothing to convert for this database: asking it for every value takes long."""
    sample = SAMPLES.get(type(field.target_field if isinstance(field, models.ForeignKey) else field))
    return sample is not None and field.get_db_prep_save(sample, connection) is sample


def _type_of_any_length(field: "models.Field[Any, Any]") -> str:
    """The column's type for a cast: to varchar(20), one would cut what is longer, which the column itself rejects."""
    return (field.cast_db_type(connection) or "").partition("(")[0]


class Lookup:
    """Finds the row of a primary key, and the whole of it ``as_text``: None where the database has no such thing."""

    def __init__(self, model: type[models.Model]) -> None:
        fields = model._meta.concrete_fields
        self.model = model
        self.key = fields_of(model, "id")[0]
        text = row_as_text(model) if connection.vendor == "postgresql" else "NULL"
        self.sql = f"SELECT {text}, {columns(fields)} FROM {table(model)} WHERE {columns([self.key])} = %s"
        self.fields = fields
        self.names = [field.attname for field in fields]

    def find(self, pk: object) -> Any:
        """The object, or None where there is none."""
        database = connections[DEFAULT_DB_ALIAS]
        with database.cursor() as cursor:
            cursor.execute(self.sql, [self.key.get_db_prep_value(pk, database)])
            row = cursor.fetchone()
        if row is None:
            return None
        text, *rest = row
        values = [_converted(value, field, database) for value, field in zip(rest, self.fields, strict=True)]
        found: Any = self.model.from_db(database.alias, self.names, values)
        found.as_text = text
        return found


def _converted(value: object, field: "models.Field[Any, Any]", database: BaseDatabaseWrapper) -> object:
    """A value that the database answered, as the ORM would hand it out."""
    for converter in (*database.ops.get_db_converters(field.cached_col), *field.get_db_converters(database)):
        value = converter(value, None, database)
    return value


def fields_of(model: type[models.Model], *names: str) -> Fields:
    return [model._meta.get_field(name) for name in names]  # type: ignore[misc]


def attributes(fields: Fields) -> Attributes:
    """The attributes that have the fields' values."""
    return {field.attname: field for field in fields}


def parameter_name(attribute: str) -> str:
    """An attribute's name as a statement's parameter: SQLite takes no dot in it."""
    return attribute.replace(".", "_")


def parameter(attribute: str) -> str:
    """The place of an attribute's value in SQL."""
    return f"%({parameter_name(attribute)})s"


def columns(fields: Fields) -> str:
    """The fields' columns, quoted."""
    return ", ".join(map(column, fields))


def column(field: "models.Field[Any, Any]") -> str:
    return connection.ops.quote_name(field.column or "")


def row_as_text(model: type[models.Model]) -> str:
    """All that is in a row, on PostgreSQL: to compare it takes less planning there than column by column."""
    return f"{table(model)}::text"


def table(model: type[models.Model]) -> str:
    return connection.ops.quote_name(model._meta.db_table)
