"""Deploy the benchmarked project on a fresh database, with its web server and its workers."""

import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import django
import psutil
from django.core.management import call_command
from django.db import connection

from tests.helpers.servers import Server, free_port, provided
from tests.helpers.shared_servers import fresh_database, fresh_queue
from tests.helpers.stack import ROOT, Program

DATABASES = ["postgres", "mariadb"]


@dataclass
class Deployment:
    """The servers, and the environment variables that name them."""

    database: Server
    broker: Server
    folder: Path

    @contextmanager
    def web(self, application: str, *, threads: int = 1, **environment: str) -> Iterator["Served"]:
        """Start gunicorn with two workers, which are synchronous or have ``threads`` threads."""
        port = free_port()
        command = [sys.executable, "-m", "gunicorn", application, f"--bind=127.0.0.1:{port}", "--workers=2"]
        command += [f"--threads={threads}", "--log-level=error", "--timeout=120", "--worker-tmp-dir=/dev/shm"]
        program = self._program("gunicorn", command, environment, lambda _: _is_open(port))
        with _running(program):
            yield Served(f"http://127.0.0.1:{port}", program)

    def manage(self, *arguments: str, **environment: str) -> str:
        """Return what a management command prints."""
        command = [sys.executable, "manage.py", *arguments]
        return subprocess.run(
            command, cwd=ROOT, env={**os.environ, **environment}, check=True, capture_output=True, text=True
        ).stdout

    @contextmanager
    def copy_of_database(self) -> Iterator[str]:
        """Copy this deployment's database and return the URL of the copy."""
        connection.close()
        with fresh_database(self.database, template=connection.settings_dict["NAME"]) as url:
            yield url

    @contextmanager
    def worker(self, *, processes: int = 2, **environment: str) -> Iterator[Program]:
        """Start a Celery worker with this number of processes."""
        command = [sys.executable, "-m", "celery", "--app=benchmarks.celery", "worker", "--loglevel=INFO"]
        command += [f"--concurrency={processes}", "--without-gossip", "--without-mingle"]
        with _running(self._program("celery", command, environment, lambda new: " ready." in new)) as program:
            yield program

    @contextmanager
    def beat(self) -> Iterator[Program]:
        """Start Celery beat with the sweep."""
        command = [sys.executable, "-m", "celery", "--app=benchmarks.celery", "beat", "--loglevel=INFO"]
        command += [f"--schedule={self.folder}/beat"]
        with _running(self._program("beat", command, {}, lambda new: "beat: Starting" in new)) as program:
            yield program

    def _program(self, name: str, command: list[str], environment: dict[str, str], is_ready: object) -> Program:
        log = self.folder / f"{name}.log"
        return Program(name, command, {**os.environ, **environment}, log, is_ready)  # type: ignore[arg-type]


@dataclass
class Served:
    """A running web server."""

    url: str
    program: Program

    def cpu_seconds(self) -> float:
        """Return the CPU time that its processes have used so far, in seconds."""
        return cpu_seconds(self.program)


def cpu_seconds(program: Program) -> float:
    """Return the CPU time of a program and its children so far, in user and kernel mode, in seconds."""
    times = [process.cpu_times() for process in family(program)]
    return sum(item.user + item.system for item in times)


def family(program: Program) -> list[psutil.Process]:
    """Return a program's process and its children."""
    assert program.process is not None
    parent = psutil.Process(program.process.pid)
    return [parent, *parent.children(recursive=True)]


@contextmanager
def deployed(kind: str = "postgres") -> Iterator[Deployment]:
    """Create a fresh database with every receiver's tables, and set up Django in this process to use it."""
    with ExitStack() as running:
        database, broker = (running.enter_context(provided(name)) for name in (kind, "redis"))
        queue = running.enter_context(fresh_queue(broker))
        folder = Path(running.enter_context(tempfile.TemporaryDirectory(prefix="bi-bench-")))
        os.environ |= {
            "BENCHMARK_QUEUE": queue.name,
            "CELERY_BROKER_URL": queue.url,
            "DATABASE_URL": running.enter_context(fresh_database(database)),
            "DJANGO_SETTINGS_MODULE": "benchmarks.settings",
        }
        django.setup()
        call_command("migrate", verbosity=0, run_syncdb=True)
        yield Deployment(database, broker, folder)


@contextmanager
def _running(program: Program) -> Iterator[Program]:
    try:
        program.start()
        yield program
    finally:
        program.stop()


def _is_open(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
