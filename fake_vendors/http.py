"""One POST, over a new connection, within a total time."""

import socket
import threading
from collections.abc import Mapping
from contextlib import suppress
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from urllib.parse import urlsplit

TIMED_OUT = "no response in time"


class _Connection(HTTPConnection):
    """A connection that another thread can shut down at any time."""

    overdue = False
    #: A duplicate of the socket: http.client detaches its socket for TLS, or if the response ends with the connection.
    line: socket.socket | None = None

    def connect(self) -> None:
        super().connect()
        self.line = self.sock.dup()
        if self.overdue:
            raise TimeoutError

    def shut_down(self) -> None:
        self.overdue = True
        if self.line is not None:
            with suppress(OSError):  # The other side may have disconnected already.
                self.line.shutdown(socket.SHUT_RDWR)

    def close_line(self) -> None:
        self.close()
        if self.line is not None:
            self.line.close()


class _SecureConnection(HTTPSConnection, _Connection):
    """The same with TLS: HTTPSConnection starts the handshake after _Connection has connected."""


def post(
    url: str, body: bytes, headers: Mapping[str, str], *, timeout: float, source_address: str | None = None
) -> int | str:
    """POST ``body`` and return the status, or the reason if there is no response. Redirects are not followed.

    ``timeout`` is in seconds and covers the whole exchange, so a response that arrives byte by byte does not extend it.
    ``headers`` are sent in their order; a Content-Length among them only marks the position of the real one.
    """
    parts = urlsplit(url)
    connect = _SecureConnection if parts.scheme == "https" else _Connection
    source = (source_address, 0) if source_address else None
    connection = connect(parts.netloc, timeout=timeout, source_address=source)
    timer = threading.Timer(timeout, connection.shut_down)
    timer.daemon = True
    timer.start()
    try:
        _send(connection, parts.path + (f"?{parts.query}" if parts.query else ""), body, headers)
        with connection.getresponse() as response:
            response.read()
        return TIMED_OUT if connection.overdue else response.status
    except TimeoutError:
        return TIMED_OUT
    except (OSError, HTTPException) as error:
        return TIMED_OUT if connection.overdue else str(error) or type(error).__name__
    finally:
        timer.cancel()
        timer.join()  # So that the timer cannot shut down a socket that is closed already.
        connection.close_line()


def _send(connection: HTTPConnection, path: str, body: bytes, headers: Mapping[str, str]) -> None:
    # Not with request(), which would add an Accept-Encoding before the vendor's headers.
    connection.putrequest("POST", path or "/", skip_accept_encoding=True)
    for name, value in {**headers, "Content-Length": str(len(body))}.items():
        connection.putheader(name, value)
    connection.endheaders(body)
