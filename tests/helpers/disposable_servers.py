"""Servers that a test may kill: started for one test from the machine's programs, with their usual durability."""

import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from tests.helpers.servers import KINDS, NOBODY, UNREACHABLE, Server, free_port
from tests.helpers.stack import Program


@dataclass
class DisposableServer:
    """A running server that can be killed, restarted, paused and resumed."""

    server: Server
    program: Program

    def crash(self) -> None:
        """End the server at once, without a clean shutdown."""
        # PostgreSQL's children outlive a killed parent for a moment; SIGQUIT ends them all, as a crash would.
        if self.server.kind == "postgres":
            self.program.process.send_signal(signal.SIGQUIT)
            self.program.process.wait(20)
        else:
            self.program.kill()

    def start(self) -> None:
        """Start the server again after a crash."""
        self.program.start()

    def pause(self) -> None:
        """Stop the server's process, so that it accepts connections but never answers."""
        os.killpg(self.program.process.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Let a paused server continue."""
        os.killpg(self.program.process.pid, signal.SIGCONT)


@contextmanager
def disposable_server(kind: str) -> Iterator[DisposableServer]:
    """Run a server of the kind within the block; skip the test if its program is missing."""
    # Not in tmp_path, which only its owner can read: PostgreSQL runs as another user if the tests run as root.
    with TemporaryDirectory(prefix=f"bi-{kind}-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        folder.chmod(0o755)
        url, command, environment = MAKERS[kind](folder, free_port())
        program = Program(kind, command, {**os.environ, **environment}, folder / "log", lambda _: answers(kind, url))
        program.start()
        try:
            yield DisposableServer(Server(kind, url, KINDS[kind].version(url), "disposable"), program)
        finally:
            if program.process.poll() is None:
                os.killpg(program.process.pid, signal.SIGCONT)
                program.stop()


def answers(kind: str, url: str) -> bool:
    """Return whether the server accepts a login."""
    try:
        KINDS[kind].version(url)
    except UNREACHABLE:
        return False
    return True


def program(name: str, *folders: str) -> str:
    """Return the path of a program on this machine; skip the test if it is missing."""
    found = shutil.which(name, path=os.pathsep.join([os.environ["PATH"], *folders, "/usr/sbin"]))
    return found or pytest.skip(f"no {name} on this machine")


#: A server's URL, its command, and its environment variables.
Command = tuple[str, list[str], dict[str, str]]


def set_up(command: list[str], **options: Any) -> None:
    """Run a command that prepares a server; raise RuntimeError with its output if it fails."""
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options)
    if done.returncode:
        raise RuntimeError(f"{command[0]} ended with {done.returncode}:\n{done.stdout}")


def postgres(folder: Path, port: int) -> Command:
    """Create a PostgreSQL cluster in the folder."""
    binaries = [str(path) for path in sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)]
    initdb, server = program("initdb", *binaries), program("postgres", *binaries)
    data = folder / "data"
    data.mkdir()
    as_nobody = []
    if os.getuid() == 0:  # PostgreSQL does not run as root
        as_nobody = [program("setpriv"), f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
        os.chown(data, NOBODY, NOBODY)
    environment = {"LC_ALL": "C"}
    setup = [*as_nobody, initdb, "-D", str(data), "--username=postgres", "--auth=trust", "--encoding=UTF8", "--no-sync"]
    set_up(setup, cwd="/", env={**os.environ, **environment})
    options = [f"--port={port}", "--listen_addresses=127.0.0.1", "--unix_socket_directories="]
    return (
        f"postgresql://postgres@127.0.0.1:{port}/postgres",
        [*as_nobody, server, "-D", str(data), *options],
        environment,
    )


def mariadb(folder: Path, port: int) -> Command:
    """Create a MariaDB data directory in the folder."""
    server, install = program("mariadbd"), program("mariadb-install-db")
    data = [f"--datadir={folder / 'data'}", "--user=root"]
    setup = [install, "--no-defaults", *data, "--auth-root-authentication-method=normal", "--skip-test-db"]
    set_up(setup)
    socket_file = f"/tmp/bi-{port}.sock"  # a socket's path has to be short
    options = [f"--port={port}", "--bind-address=127.0.0.1", f"--socket={socket_file}", "--skip-log-bin"]
    return f"mysql://root@127.0.0.1:{port}/", [server, "--no-defaults", *data, *options], {}


def redis(folder: Path, port: int) -> Command:
    """Configure Redis without persistence."""
    options = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", str(folder)]
    return f"redis://127.0.0.1:{port}/0", [program("redis-server"), *options], {}


def rabbitmq(folder: Path, port: int) -> Command:
    """Configure a RabbitMQ node in the folder."""
    # The machine's configuration would make it listen on the port of the machine's server.
    (folder / "rabbitmq.conf").write_text(f"listeners.tcp.1 = 127.0.0.1:{port}\n")
    (folder / "env.conf").touch()
    environment = {
        "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq.conf"),
        "RABBITMQ_CONF_ENV_FILE": str(folder / "env.conf"),
        "RABBITMQ_NODENAME": f"chaos{port}@localhost",
        "RABBITMQ_DIST_PORT": str(free_port()),
        "RABBITMQ_MNESIA_BASE": str(folder / "data"),
        "RABBITMQ_LOG_BASE": str(folder / "logs"),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "plugins"),
        "HOME": str(folder),
    }
    # The wrapper in /usr/sbin switches to the user rabbitmq, who cannot read the folder; this program does not.
    binaries = sorted(Path("/usr/lib/rabbitmq").glob("**/sbin/rabbitmq-server")) or [Path(program("rabbitmq-server"))]
    return f"amqp://guest:guest@127.0.0.1:{port}//", [str(binaries[0])], environment


MAKERS: dict[str, Callable[[Path, int], Command]] = {
    "mariadb": mariadb,
    "postgres": postgres,
    "rabbitmq": rabbitmq,
    "redis": redis,
}
