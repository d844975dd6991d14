"""The example project as deployed: gunicorn, a separate Celery worker, a real database and a real broker."""

import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.helpers.servers import Server, free_port
from tests.helpers.shared_servers import fresh_database, fresh_queue
from tests.helpers.waiting import wait_until

ROOT = Path(__file__).resolve().parent.parent.parent


@dataclass
class Program:
    """A long-running program that writes its output to a file."""

    name: str
    command: list[str]
    environment: dict[str, str]
    log: Path
    is_ready: Callable[[str], bool]
    """Called with the program's output since its start."""
    process: subprocess.Popen[bytes] | None = field(default=None, init=False)

    def start(self) -> None:
        """Start the program and wait until it is ready; raise RuntimeError if it ends first."""
        earlier = len(self.output())
        with self.log.open("ab") as log:
            # In a separate session, Ctrl-C does not reach the program, and its children can be killed together with it.
            self.process = subprocess.Popen(
                self.command, cwd=ROOT, env=self.environment, stdout=log, stderr=log, start_new_session=True
            )
        wait_until(lambda: self.process.poll() is not None or self.is_ready(self.output()[earlier:]), timeout=90)
        if self.process.poll() is not None:
            raise RuntimeError(f"{self.name} ended at once:\n{self.output()}")

    def stop(self) -> None:
        """Terminate the program, and kill it if it has not ended after 15 seconds."""
        if self.process is None:
            return
        self.process.terminate()
        try:
            self.process.wait(15)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """Kill the program and its children at once."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def output(self) -> str:
        """Return all output so far."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""


@dataclass
class LiveStack:
    """A running deployment; ``url`` is its address for browsers and vendors."""

    url: str
    database: Server
    broker: Server
    environment: dict[str, str]
    web: Program
    worker: Program

    @property
    def label(self) -> str:
        """Describe the parts of this deployment, with their versions."""
        return f"gunicorn + Celery: {self.database.version}, {self.broker.version}"

    def manage(self, *arguments: str, stdin: str | None = None) -> str:
        """Run a management command in this deployment and return its output; raise RuntimeError if it fails."""
        command = [sys.executable, "manage.py", *arguments]
        result = subprocess.run(
            command, cwd=ROOT, env=self.environment, input=stdin, capture_output=True, text=True, timeout=60
        )
        if result.returncode != 0:
            raise RuntimeError(f"{' '.join(arguments)} exited with {result.returncode}:\n{result.stderr}")
        return result.stdout


@contextmanager
def running_stack(database: Server, broker: Server, folder: Path, **variables: str) -> Iterator[LiveStack]:
    """Deploy the example project on a fresh database and queue, with further environment variables."""
    with ExitStack() as running:
        database_url = running.enter_context(fresh_database(database))
        queue = running.enter_context(fresh_queue(broker))
        port = free_port()
        url = f"http://127.0.0.1:{port}"
        environment = {
            **os.environ,
            "BI_BASE_URL": "http://127.0.0.1:1/{org}",  # no request leaves this machine
            "CELERY_BROKER_URL": queue.url,
            "DATABASE_URL": database_url,
            "DJANGO_ALLOWED_HOSTS": "127.0.0.1",
            "DJANGO_SECRET_KEY": "live-stack-" + queue.name,
            "DJANGO_SETTINGS_MODULE": "tests.helpers.stack_settings",
            "HOME": str(folder),
            "TEST_STACK_QUEUE": queue.name,
            **variables,
        }
        gunicorn = [sys.executable, "-m", "gunicorn", "example_project.wsgi", f"--bind=127.0.0.1:{port}", "--workers=2"]
        celery = [sys.executable, "-m", "celery", "--app=example_project", "worker", "-B", "--loglevel=INFO"]
        celery += [f"--schedule={folder / 'beat'}", f"--hostname={queue.name}@%h", "--concurrency=1"]
        web = Program("gunicorn", gunicorn, environment, folder / "web.log", lambda _: answers_http(url))
        worker = Program("celery", celery, environment, folder / "worker.log", lambda new: " ready." in new)
        stack = LiveStack(url, database, broker, environment, web, worker)
        stack.manage("migrate", "--verbosity=0")
        for program in (worker, web):
            running.callback(program.stop)
            program.start()
        yield stack


def answers_http(url: str) -> bool:
    """Return whether a server at the URL answers over HTTP, with any status."""
    try:
        urllib.request.urlopen(f"{url}/admin/login/", timeout=30).close()
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False
    return True
