"""One POST, over a connection of its own, within a total time."""

import socket
import threading
from collections.abc import Mapping
from contextlib import suppress
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from urllib.parse import urlsplit

TIMED_OUT = "no answer in time"


class _Connection(HTTPConnection):
    """A connection that another thread can cut off at any time."""

    overdue = False
    #: The line itself: http.client lets go of its socket to agree on TLS, and for an answer that ends by closing.
    line: socket.socket | None = None

    def connect(self) -> None:
        super().connect()
        self.line = self.sock.dup()
        if self.overdue:
            raise TimeoutError

    def cut_off(self) -> None:
        self.overdue = True
        if self.line is not None:
            with suppress(OSError):  # The other side may have hung up already.
                self.line.shutdown(socket.SHUT_RDWR)

    def close_line(self) -> None:
        self.close()
        if self.line is not None:
            self.line.close()


class _SecureConnection(HTTPSConnection, _Connection):
    """The same under TLS: HTTPSConnection agrees on TLS after _Connection has connected."""


def post(
    url: str, body: bytes, headers: Mapping[str, str], *, patience: float, source_address: str | None = None
) -> int | str:
    """POST ``body`` and return the status, or in words why there is none. Redirects are not followed.

    ``patience`` is in seconds, for the whole exchange: an answer that drips in does not prolong it. ``headers`` are
    sent in their order; a Content-Length among them only says where the real one belongs.
    """
    parts = urlsplit(url)
    connect = _SecureConnection if parts.scheme == "https" else _Connection
    source = (source_address, 0) if source_address else None
    connection = connect(parts.netloc, timeout=patience, source_address=source)
    timer = threading.Timer(patience, connection.cut_off)
    timer.daemon = True
    timer.start()
    try:
        path = parts.path + (f"?{parts.query}" if parts.query else "")
        # By hand, because request() would add an Accept-Encoding of its own before the vendor's.
        connection.putrequest("POST", path or "/", skip_accept_encoding=True)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            connection.putheader(name, value)
        connection.endheaders(body)
        with connection.getresponse() as response:
            response.read()
        return TIMED_OUT if connection.overdue else response.status
    except TimeoutError:
        return TIMED_OUT
    except (OSError, HTTPException) as error:
        return TIMED_OUT if connection.overdue else str(error) or type(error).__name__
    finally:
        timer.cancel()
        timer.join()  # So that it never cuts off a line that has been closed.
        connection.close_line()
