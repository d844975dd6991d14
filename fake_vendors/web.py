"""A minimal web framework: requests, responses, rejections, routes, and a server with a thread for each request."""

import re
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from socketserver import ThreadingMixIn
from typing import Any
from urllib.parse import parse_qs
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer
from wsgiref.types import StartResponse, WSGIEnvironment

HOST = "127.0.0.1"
#: The largest body that is read, in bytes.
BODY_LIMIT = 64 * 1024
#: How much of a larger body is read and discarded: a client that cannot finish sending never reads the response.
DRAINED = 16 * 1024 * 1024

Headers = tuple[tuple[str, str], ...]


class Rejection(Exception):
    """A request is rejected, with this status and this reason, as a text or for each field."""

    def __init__(self, status: HTTPStatus, reason: str | Mapping[str, list[str]], headers: Headers = ()) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason
        self.headers = headers


@dataclass(frozen=True)
class Request:
    """A client's request. ``path`` is percent-encoded, as sent. ``rejection`` is set if the body is unusable."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: bytes
    rejection: Rejection | None

    @property
    def target(self) -> str:
        """The path and the query."""
        return f"{self.path}?{self.query}" if self.query else self.path

    def header(self, name: str) -> str:
        """Return the value of a header, or "" if it is missing."""
        return self.headers.get(name.upper().replace("-", "_"), "")

    def parameter(self, name: str) -> str:
        """Return the first value of a query parameter, or "" if it is missing."""
        return first_values(self.query).get(name, "")

    def form(self) -> dict[str, str]:
        """Return the fields of a submitted form, with the first value of each."""
        return first_values(self.body.decode("ascii", "replace"))

    def cookie(self, name: str) -> str:
        """Return the value of a cookie, or "" if it is missing."""
        # Not with http.cookies, which stops at the first invalid cookie: all ports of a machine share their cookies.
        pairs = (pair.strip().partition("=") for pair in self.header("Cookie").split(";"))
        return next((value for found, _, value in pairs if found == name), "")


def first_values(encoded: str) -> dict[str, str]:
    """Return the first value of each name in a query or a form."""
    return {name: values[0] for name, values in parse_qs(encoded, keep_blank_values=True).items()}


@dataclass(frozen=True)
class Response:
    """A response, with its body in memory."""

    status: HTTPStatus
    content_type: str
    body: bytes
    headers: Headers = ()


def redirect(location: str, headers: Headers = (), *, status: HTTPStatus = HTTPStatus.FOUND) -> Response:
    """Return a redirect."""
    return Response(status, "text/plain; charset=utf-8", b"", (("Location", location), *headers))


@dataclass(frozen=True)
class Route:
    """The handler of a method for all paths that match the pattern. Named groups become arguments."""

    method: str
    pattern: str
    handler: Callable[..., Response]


def find_route(routes: Iterable[Route], request: Request) -> tuple[Callable[..., Response], dict[str, Any]]:
    """Return the handler of a request and its arguments. Raise Rejection if the path or the method is wrong."""
    matching = [(route, match) for route in routes if (match := re.fullmatch(route.pattern, request.path))]
    for route, match in matching:
        if route.method == request.method:
            return route.handler, match.groupdict()
    if not matching:
        raise Rejection(HTTPStatus.NOT_FOUND, "There is nothing at this address.")
    allowed = ", ".join(sorted({route.method for route, _ in matching}))
    raise Rejection(
        HTTPStatus.METHOD_NOT_ALLOWED, f"This address accepts {allowed}, not {request.method}.", (("Allow", allowed),)
    )


@contextmanager
def serving(respond: Callable[[Request], Response], port: int) -> Iterator[str]:
    """Respond to requests of this machine for the duration of the block, each in a thread, and yield the server's URL.

    Port 0 is any free port. Raise OSError if the port is in use.
    """

    def application(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        request = _request(environ)
        response = respond(request)
        length = str(len(response.body))
        start_response(
            f"{response.status.value} {response.status.phrase}",
            [("Content-Type", response.content_type), ("Content-Length", length), *response.headers],
        )
        return [] if request.method == "HEAD" else [response.body]

    with _Server((HOST, port), _Handler) as server:
        server.set_app(application)
        thread = threading.Thread(target=server.serve_forever, args=[0.05], name="fake site", daemon=True)
        thread.start()
        try:
            yield f"http://{HOST}:{server.server_port}"
        finally:
            server.shutdown()


class _Handler(WSGIRequestHandler):
    """Prints no requests, and keeps the path as it was sent."""

    #: Seconds. Browsers open connections in advance, which must not occupy a thread forever.
    timeout = 30
    error_content_type = "text/plain; charset=utf-8"
    error_message_format = "%(code)d %(message)s\n"

    def get_environ(self) -> WSGIEnvironment:
        return {**super().get_environ(), "RAW_URI": self.path}

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the parent's name
        pass


class _Server(ThreadingMixIn, WSGIServer):
    """Prints no error if a client disconnects during a request."""

    daemon_threads = True
    #: One release of Python switched this on, so that two servers could share a port.
    allow_reuse_port = False
    request_queue_size = 64

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass


def _request(environ: WSGIEnvironment) -> Request:
    path, _, query = environ["RAW_URI"].partition("?")
    headers = {name.removeprefix("HTTP_"): value for name, value in environ.items() if name.startswith("HTTP_")}
    headers["CONTENT_TYPE"] = environ.get("CONTENT_TYPE", "")
    try:
        body, rejection = _body(environ), None
    except Rejection as rejected:
        body, rejection = b"", rejected
    return Request(environ["REQUEST_METHOD"], path, query, headers, body, rejection)


def _body(environ: WSGIEnvironment) -> bytes:
    if "HTTP_TRANSFER_ENCODING" in environ:
        raise Rejection(HTTPStatus.LENGTH_REQUIRED, "A body needs a Content-Length.")
    stated = environ.get("CONTENT_LENGTH") or "0"
    if not (stated.isascii() and stated.isdigit() and len(stated) < 20):
        raise Rejection(HTTPStatus.BAD_REQUEST, "The Content-Length is not a number.")
    length = int(stated)
    try:
        if length > BODY_LIMIT:
            _drain(environ["wsgi.input"].read, length)
            raise Rejection(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"A body may have {BODY_LIMIT} bytes at most.")
        body: bytes = environ["wsgi.input"].read(length)
    except TimeoutError as error:
        raise Rejection(HTTPStatus.REQUEST_TIMEOUT, "The body did not arrive in time.") from error
    if len(body) < length:
        raise Rejection(HTTPStatus.BAD_REQUEST, "The body is shorter than its Content-Length.")
    return body


def _drain(read: Callable[[int], bytes], length: int) -> None:
    left = min(length, DRAINED)
    while left and (chunk := read(min(left, BODY_LIMIT))):
        left -= len(chunk)
