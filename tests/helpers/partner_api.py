"""A Partner API whose answers a test controls byte by byte, including how slowly they arrive."""

import json
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.client import parse_headers
from typing import Any

API_KEY = "0123456789abcdef0123456789abcdef"
TOKEN = "19633c68" * 8

Script = "bytes | Callable[[socket.socket, Request], None]"


def answer(status: int, body: bytes | str | dict[str, Any] = b"", **headers: str) -> bytes:
    """Return a complete HTTP response."""
    text = json.dumps(body) if isinstance(body, dict) else body
    data = text.encode() if isinstance(text, str) else text
    lines = [f"HTTP/1.1 {status} x", f"Content-Length: {len(data)}", "Connection: close"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + data


def user(partner_id: str = "abc123", token: str | None = TOKEN, **changes: Any) -> dict[str, Any]:
    """Return the documented answer to "Create or refresh"."""
    found: dict[str, Any] = {
        "partner_id": partner_id,
        "created_at": "2015-05-18T16:37:13.000Z",
        "anonymous": False,
        "token": {"token": token, "expires_at": "2016-05-18T16:37:13.000Z"},
    }
    return {"user": {**found, **changes}}


def reset(line: socket.socket, request: "Request") -> None:
    """Reset the connection, so that the client gets an error; a script for ``partner_api``."""
    line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


@dataclass
class Request:
    """A request that the API received."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def partner_id(self) -> str:
        return self.path.rpartition("/")[2]


@dataclass
class PartnerAPI:
    """A running server. It uses each of ``scripts`` for one request, and the last one for all further requests.

    A script is a complete HTTP response, or a function that gets the connection and the request.
    """

    url: str
    scripts: list[Script]
    requests: list[Request] = field(default_factory=list)
    ended: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def serve(self, line: socket.socket) -> None:
        """Read one request from a connection and run the next script."""
        with line, suppress(OSError):
            reader = line.makefile("rb")
            words = reader.readline().decode().split()
            if len(words) < 2:
                return
            headers = {name.lower(): value for name, value in parse_headers(reader).items()}
            body = reader.read(int(headers.get("content-length", 0)))
            with self.lock:
                request = Request(words[0], words[1], headers, body)
                self.requests.append(request)
                script = self.scripts[0] if len(self.scripts) == 1 else self.scripts.pop(0)
            if callable(script):
                script(line, request)
            else:
                line.sendall(script)

    def silence(self, line: socket.socket, request: Request) -> None:
        """Send nothing until the test is over, for at most 30 seconds; a script for ``partner_api``."""
        self.ended.wait(30)

    def drip(self, data: bytes) -> Script:
        """Return a script that sends ``data`` and then a byte at a time until the test is over."""

        def script(line: socket.socket, request: Request) -> None:
            line.sendall(data)
            while not self.ended.wait(0.02):
                line.sendall(b"x")

        return script


@contextmanager
def partner_api(*scripts: Script) -> Iterator[PartnerAPI]:
    """Run a Partner API within the block; by default it knows the user of the documentation."""
    with socket.create_server(("127.0.0.1", 0), backlog=128) as listening:
        api = PartnerAPI(f"http://127.0.0.1:{listening.getsockname()[1]}", list(scripts) or [answer(200, user())])

        def accept() -> None:
            with suppress(OSError):  # the listening socket is closed
                while not api.ended.is_set():
                    line, _ = listening.accept()
                    threading.Thread(target=api.serve, args=[line], daemon=True).start()

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        try:
            yield api
        finally:
            api.ended.set()
            listening.shutdown(socket.SHUT_RDWR)
            thread.join(5)


@contextmanager
def partner_api_for_any_user(settings: Any, further: dict[str, Any]) -> Iterator[PartnerAPI]:
    """Run a Partner API that accepts every user, and set BI_INTEGRATION to its URL and the ``further`` settings."""
    with partner_api(lambda line, request: line.sendall(answer(200, user(request.partner_id)))) as running:
        settings.BI_INTEGRATION = {"BASE_URL": running.url, **further}
        yield running
