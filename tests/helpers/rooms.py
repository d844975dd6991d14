"""A room of its own on a shared server: a fresh database, a queue that nobody else reads."""

import secrets
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import kombu
import psycopg
import redis

from tests.helpers.names import PREFIX
from tests.helpers.servers import Server, mariadb_connection


@dataclass(frozen=True)
class Room:
    """Where one test's programs meet on a broker."""

    url: str
    queue: str


@contextmanager
def fresh_database(server: Server, *, template: str = "") -> Iterator[str]:
    """The URL of an empty database, or on PostgreSQL a copy of another one, dropped after the block."""
    name = f"{PREFIX}_{secrets.token_hex(3)}"
    execute(server, f"CREATE DATABASE {name}" + (f" TEMPLATE {template}" if template else ""))
    try:
        yield urlunsplit(urlsplit(server.url)._replace(path=f"/{name}"))
    finally:
        drop_database(server, name)


def drop_databases_of_this_run(server: Server) -> None:
    """Remove what an interrupted or killed test process could not remove by itself."""
    listing = "SELECT datname FROM pg_database" if server.kind == "postgres" else "SHOW DATABASES"
    for (name,) in execute(server, listing):
        if PREFIX in name:
            drop_database(server, name)


def drop_database(server: Server, name: str) -> None:
    """Remove a database, whoever is still connected to it."""
    execute(server, f"DROP DATABASE IF EXISTS {name}" + (" WITH (FORCE)" if server.kind == "postgres" else ""))


def execute(server: Server, statement: str) -> list[tuple[str, ...]]:
    """Run one statement as the server's administrator; the rows it answers, if any."""
    if server.kind == "postgres":
        with psycopg.connect(server.url, autocommit=True) as connection:
            cursor = connection.execute(statement)
            return cursor.fetchall() if cursor.description else []
    with mariadb_connection(server.url) as connection:
        cursor = connection.cursor()
        cursor.execute(statement)
        return list(cursor.fetchall())


@contextmanager
def broker_room(server: Server) -> Iterator[Room]:
    """A queue for the block alone, on RabbitMQ or on a Redis database that nobody else uses."""
    queue = f"{PREFIX}_{secrets.token_hex(3)}"
    if server.kind == "redis":
        with unused_redis_database(server.url, queue) as url:
            yield Room(url, queue)
        return
    try:
        yield Room(server.url, queue)
    finally:
        with kombu.Connection(server.url) as connection:
            channel: Any = connection.default_channel
            channel.queue_delete(queue)
            channel.exchange_delete(queue)


@contextmanager
def unused_redis_database(url: str, owner: str) -> Iterator[str]:
    """The URL of an empty Redis database, marked as taken and emptied after the block."""
    for number in range(15, 0, -1):
        own_url = urlunsplit(urlsplit(url)._replace(path=f"/{number}"))
        with closing(redis.Redis.from_url(own_url)) as client:
            if client.dbsize() or not client.set("owner", owner, nx=True):
                continue
            try:
                yield own_url
            finally:
                client.flushdb()
            return
    raise RuntimeError(f"All databases of {url} are in use.")
