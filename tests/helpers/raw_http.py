"""HTTP byte by byte, for requests that no client library would send."""

import socket
from contextlib import suppress
from urllib.parse import urlsplit

from tests.helpers.deliveries import KEY

TIMEOUT = 20
"""Seconds; whoever waits longer for a byte hangs."""


def exchange(url: str, request: bytes, *, then_close: bool = True) -> str:
    """Send bytes as they are; all that comes back. Afterwards the sending side is closed, unless told otherwise."""
    parts = urlsplit(url)
    answer = b""
    with socket.create_connection((parts.hostname, parts.port), timeout=TIMEOUT) as connection:
        with suppress(ConnectionError):  # the server may answer and close before it has read everything
            connection.sendall(request)
        if then_close:
            with suppress(OSError):  # it is closed already
                connection.shutdown(socket.SHUT_WR)
        with suppress(ConnectionError):
            while received := connection.recv(65_536):
                answer += received
    return answer.decode("latin-1")


def statuses(answer: str) -> list[int]:
    """The status of each answer that came back."""
    return [int(line.split()[1]) for line in answer.splitlines() if line.startswith("HTTP/1.")]


def post(
    url: str,
    *lines: str,
    body: bytes = b"{}",
    method: str = "POST",
    path: str | None = None,
    version: str = "HTTP/1.1",
    key: str | None = KEY,
) -> bytes:
    """A request with further header lines; it tells its length unless they tell how long it is."""
    told = any(line.lower().startswith(("content-length", "transfer-encoding")) for line in lines)
    head = [
        f"{method} {urlsplit(url).path if path is None else path} {version}",
        "Host: 127.0.0.1",
        *([] if key is None else [f"Authorization: {key}"]),
        *([] if told else [f"Content-Length: {len(body)}"]),
        *lines,
    ]
    return "\r\n".join([*head, "", ""]).encode("latin-1") + body
