"""HTTP over a plain socket, for requests that no client library sends."""

import socket
from contextlib import suppress
from urllib.parse import urlsplit

from tests.helpers.deliveries import KEY

TIMEOUT = 20
"""Seconds to wait for the next byte."""


def exchange(url: str, request: bytes, *, then_close: bool = True) -> str:
    """Send bytes unchanged, and return everything that comes back.

    With ``then_close``, close the sending side afterwards. Raise TimeoutError if no byte comes for ``TIMEOUT``.
    """
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
    """Return the status of each response in ``answer``."""
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
    """Return a request with further header lines; add Content-Length unless they define the length."""
    has_length = any(line.lower().startswith(("content-length", "transfer-encoding")) for line in lines)
    head = [
        f"{method} {urlsplit(url).path if path is None else path} {version}",
        "Host: 127.0.0.1",
        *([] if key is None else [f"Authorization: {key}"]),
        *([] if has_length else [f"Content-Length: {len(body)}"]),
        *lines,
    ]
    return "\r\n".join([*head, "", ""]).encode("latin-1") + body
