"""A vendor under load: several connections at once, a new one for each request, with every response checked."""

import math
import re
import selectors
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from urllib.parse import urlsplit

CONNECTIONS = 16
_CONTENT_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


@dataclass
class Result:
    """The responses of one load."""

    statuses: Counter[int] = field(default_factory=Counter)
    latencies: list[float] = field(default_factory=list)
    seconds: float = 0

    @property
    def rate(self) -> float:
        """Return the responses a second."""
        return self.statuses.total() / self.seconds

    def quantile(self, part: float) -> float:
        """Return a quantile of the latencies, in milliseconds."""
        return sorted(self.latencies)[int(part * (len(self.latencies) - 1))] * 1000


class _Exchange:
    """A request that waits for its response."""

    def __init__(self, address: tuple[str, int], request: bytes) -> None:
        self.started = time.perf_counter()
        self.socket = socket.socket()
        self.socket.connect(address)
        self.socket.sendall(request)
        self.answer = b""

    def is_over(self) -> bool:
        """Read what has arrived. Return True if the response is complete or the server has closed the connection."""
        try:
            part = self.socket.recv(65536)
        except ConnectionError:
            part = b""
        self.answer += part
        return not part or self._is_whole()

    def _is_whole(self) -> bool:
        head, end, body = self.answer.partition(b"\r\n\r\n")
        length = _CONTENT_LENGTH.search(head) if end else None
        return length is not None and len(body) >= int(length[1])


Headers = Callable[[bytes], str]


def no_more(body: bytes) -> str:
    """Return no further header lines."""
    return ""


def post(
    url: str,
    bodies: Iterator[bytes],
    *,
    key: str,
    seconds: float = math.inf,
    connections: int = CONNECTIONS,
    headers: Headers = no_more,
) -> Result:
    """POST one body after the other until ``seconds`` are over or no body is left, and wait for every response.

    ``headers`` returns further header lines for a body.
    """
    parts = urlsplit(url)
    # Looked up once, so that the client uses as little CPU time as possible.
    address = (socket.gethostbyname(parts.hostname or ""), parts.port or 80)
    result = Result()
    selector = selectors.DefaultSelector()

    def start_next() -> None:
        if time.perf_counter() < end and (body := next(bodies, None)) is not None:
            exchange = _Exchange(address, _request(parts.path, parts.netloc, key, body, headers(body)))
            selector.register(exchange.socket, selectors.EVENT_READ, exchange)

    started = time.perf_counter()
    end = started + seconds
    for _ in range(connections):
        start_next()
    while selector.get_map():
        if not (ready := selector.select(timeout=60)):
            raise TimeoutError(f"{url} has not answered for 60 s")
        for item, _ in ready:
            exchange: _Exchange = item.data
            if exchange.is_over():
                selector.unregister(exchange.socket)
                exchange.socket.close()
                result.latencies.append(time.perf_counter() - exchange.started)
                result.statuses[_status(exchange.answer)] += 1
                start_next()
    result.seconds = time.perf_counter() - started
    return result


def _request(path: str, host: str, key: str, body: bytes, further: str) -> bytes:
    """Return Big Interview's headers. Source: "Handling webhooks" in its partner documentation."""
    head = (
        f"POST {path} HTTP/1.1\r\nAccept: */*; q=0.5, application/xml\r\nAccept-Encoding: gzip, deflate\r\n"
        f"Authorization: {key}\r\nConnection: close\r\nContent-Type: application/json; charset=utf-8\r\n"
        f"Host: {host}\r\nUser-Agent: BigInterview/1.0\r\n{further}Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def _status(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1]) if answer.startswith(b"HTTP/") else 0
