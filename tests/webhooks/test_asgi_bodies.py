"""Under a real ASGI server, a body over the limit is neither read to its end nor written to disk."""

import json
import os
import select
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit
from uuid import uuid4

import pytest

from tests.helpers.deliveries import KEY
from tests.helpers.raw_http import TIMEOUT, post, statuses
from tests.helpers.servers import free_port
from tests.helpers.stack import ROOT, Program, answers_http

pytestmark = pytest.mark.stack

LIMIT = 262_144
HUGE = 600_000_000
#: Bytes. More than all buffers on the way hold, so that a test need not send all of HUGE to see that nothing stops it.
ENOUGH = 30_000_000
PIECE = 65_536


class Uvicorn:
    """The example project under uvicorn, with its temporary files in a separate folder."""

    def __init__(self, folder):
        self.files = folder / "files"
        self.files.mkdir()
        self.variables = {
            **os.environ,
            "CELERY_BROKER_URL": "memory://localhost/",
            "DATABASE_URL": f"sqlite:///{folder / 'db.sqlite3'}",
            "DJANGO_ALLOWED_HOSTS": "127.0.0.1",
            "DJANGO_SECRET_KEY": "asgi",
            "DJANGO_SETTINGS_MODULE": "example_project.settings",
            "TMPDIR": str(self.files),
        }
        self.url = f"http://127.0.0.1:{free_port()}"
        command = [sys.executable, "-m", "uvicorn", "example_project.asgi:application", "--lifespan=off"]
        command += [f"--port={urlsplit(self.url).port}"]
        self.program = Program("uvicorn", command, self.variables, folder / "log", lambda _: answers_http(self.url))

    def manage(self, *arguments):
        command = [sys.executable, "manage.py", *arguments]
        return subprocess.run(command, cwd=ROOT, env=self.variables, capture_output=True, text=True, check=True).stdout

    def open_files(self):
        """Return the server's open temporary files. A folder does not list them: they are unlinked when created."""
        found = []
        for link in Path(f"/proc/{self.program.process.pid}/fd").iterdir():
            with suppress(FileNotFoundError):  # closed in the meantime
                found.append(str(link.readlink()))
        return [target for target in found if target.startswith(str(self.files))]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    if not Path("/proc/self/fd").exists():
        pytest.skip("only /proc lists a process's open files, and this machine has no /proc")
    server = Uvicorn(tmp_path_factory.mktemp("asgi"))
    server.manage("migrate", "--verbosity=0")
    server.program.start()
    yield server
    server.program.stop()


@pytest.fixture(scope="module")
def path(server):
    made = server.manage("bi_register", "--vendor=big_interview", "--name=x", f"--key={KEY}")
    return json.loads(made)["path"]


def upload(server, path, *lines, key=KEY, chunked=False, most=ENOUGH):
    """Send an endless body until the server responds or ``most`` bytes are sent.

    Return the response, the number of bytes sent and the temporary files that were open meanwhile.
    """
    opening = post(server.url, *lines, path=path, key=key, body=b"")
    piece = b"%x\r\n%s\r\n" % (PIECE, b" " * PIECE) if chunked else b" " * PIECE
    sent, files, answer = 0, [], b""
    with socket.create_connection(("127.0.0.1", urlsplit(server.url).port), timeout=TIMEOUT) as line:
        line.sendall(opening)
        while not select.select([line], [], [], 0.02)[0] and sent < most:
            with suppress(ConnectionError):  # the server responded and closed the connection
                line.sendall(piece)
            sent += PIECE
            files += server.open_files()
        while not answer.endswith(b"}") and select.select([line], [], [], 5)[0] and (more := line.recv(65_536)):
            answer += more
    return answer.decode(), sent, files


WAYS = {"declared": [f"Content-Length: {HUGE}"], "in chunks": ["Transfer-Encoding: chunked"]}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("known", "key", "status", "detail"),
    [
        (False, None, 404, "Not found."),
        (True, None, 401, "Unauthorized."),
        (True, "x", 401, "Unauthorized."),
        (True, KEY, 413, "The body is too large."),
    ],
)
def test_a_body_without_end_is_answered_after_the_limit(server, path, way, known, key, status, detail):
    """The status is the one that the view decides on, and no part of the body is written to a file."""
    target = path if known else f"/bi/webhooks/{uuid4()}/"
    answer, sent, files = upload(server, target, *WAYS[way], key=key, chunked=way == "in chunks")
    assert statuses(answer) == [status]
    assert json.loads(answer.partition("\r\n\r\n")[2]) == {"detail": detail}
    # The bytes that were sent before the response are in buffers.
    assert sent < ENOUGH
    assert files == []


def test_a_declared_length_over_the_limit_is_rejected_before_the_body_is_sent(server, path):
    answer, sent, _ = upload(server, path, f"Content-Length: {HUGE}", most=0)
    assert (statuses(answer), sent) == ([413], 0)


@pytest.mark.parametrize("slash", ["/", ""])
@pytest.mark.parametrize("chunked", [True, False])
def test_a_body_up_to_the_limit_is_stored(server, path, slash, chunked):
    body = json.dumps({"webhook": {"id": str(uuid4()), "event_name": "x"}}).encode().ljust(LIMIT)
    lines = ["Transfer-Encoding: chunked"] if chunked else []
    sent = b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body) if chunked else body
    request = post(server.url, *lines, path=path.rstrip("/") + slash, body=sent)
    with socket.create_connection(("127.0.0.1", urlsplit(server.url).port), timeout=TIMEOUT) as line:
        line.sendall(request)
        assert statuses(line.recv(65_536).decode()) == [200]


def test_bodies_of_other_urls_are_not_limited(server):
    """A path that only resembles a webhook's belongs to the host project."""
    answer, sent, files = upload(server, f"/webhooks/{uuid4()}/", f"Content-Length: {HUGE}", most=5_000_000)
    assert (answer, sent >= 5_000_000, bool(files)) == ("", True, True)
