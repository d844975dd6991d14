"""A separate database or queue for one test on a server that several test runs share."""

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
class Queue:
    """A queue on a broker that only one test uses."""

    url: str
    name: str


@contextmanager
def fresh_database(server: Server, *, template: str = "") -> Iterator[str]:
    """Create an empty database, or a copy of ``template`` on PostgreSQL; yield its URL and drop it after the block."""
    name = f"{PREFIX}_{secrets.token_hex(3)}"
    execute(server, f"CREATE DATABASE {name}" + (f" TEMPLATE {template}" if template else ""))
    try:
        yield urlunsplit(urlsplit(server.url)._replace(path=f"/{name}"))
    finally:
        drop_database(server, name)


def drop_databases_of_this_run(server: Server) -> None:
    """Drop the databases that interrupted or killed test processes left."""
    listing = "SELECT datname FROM pg_database" if server.kind == "postgres" else "SHOW DATABASES"
    for (name,) in execute(server, listing):
        if PREFIX in name:
            drop_database(server, name)


def drop_database(server: Server, name: str) -> None:
    """Drop a database, even if clients are still connected to it."""
    execute(server, f"DROP DATABASE IF EXISTS {name}" + (" WITH (FORCE)" if server.kind == "postgres" else ""))


def execute(server: Server, statement: str) -> list[tuple[str, ...]]:
    """Run one statement as the server's administrator, and return its rows."""
    if server.kind == "postgres":
        with psycopg.connect(server.url, autocommit=True) as connection:
            cursor = connection.execute(statement)
            return cursor.fetchall() if cursor.description else []
    with mariadb_connection(server.url) as connection:
        cursor = connection.cursor()
        cursor.execute(statement)
        return list(cursor.fetchall())


@contextmanager
def fresh_queue(server: Server) -> Iterator[Queue]:
    """Yield a queue that only this block uses: on RabbitMQ by its name, on Redis in an unused database."""
    name = f"{PREFIX}_{secrets.token_hex(3)}"
    if server.kind == "redis":
        with unused_redis_database(server.url, name) as url:
            yield Queue(url, name)
        return
    try:
        yield Queue(server.url, name)
    finally:
        with kombu.Connection(server.url) as connection:
            channel: Any = connection.default_channel
            channel.queue_delete(name)
            channel.exchange_delete(name)


@contextmanager
def unused_redis_database(url: str, owner: str) -> Iterator[str]:
    """Mark an empty Redis database as in use, yield its URL, and empty it after the block."""
    for number in range(15, 0, -1):
        database_url = urlunsplit(urlsplit(url)._replace(path=f"/{number}"))
        with closing(redis.Redis.from_url(database_url)) as client:
            if client.dbsize() or not client.set("owner", owner, nx=True):
                continue
            try:
                yield database_url
            finally:
                client.flushdb()
            return
    raise RuntimeError(f"All databases of {url} are in use.")
