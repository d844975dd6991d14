"""The portal's web server: Django's own, with a thread a request, for this machine alone."""

import errno
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.core.management.base import CommandError
from django.core.servers.basehttp import ThreadedWSGIServer, WSGIRequestHandler
from django.core.wsgi import get_wsgi_application

HOST = "127.0.0.1"

#: Set once a page was asked for: somebody is looking.
somebody_looks = threading.Event()


class Handler(WSGIRequestHandler):
    """Keeps requests out of the terminal, where the story is told."""

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the parent's name
        if self.command == "GET":
            somebody_looks.set()


class Server(ThreadedWSGIServer):
    """Has no words for a browser that went away in the middle of an answer."""

    daemon_threads = True

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.server_port}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass


def take_port(port: int) -> Server:
    """A server that has ``port`` (0: a free one) and does not answer yet: requests wait for it.

    Raises CommandError where the port is taken, or not for everybody.
    """
    try:
        return Server((HOST, port), Handler)
    except OSError as error:
        if error.errno == errno.EACCES:
            raise CommandError(f"Port {port} is not for everybody. Choose another: make demo PORT=8000") from error
        if error.errno != errno.EADDRINUSE:
            raise
        raise CommandError(f"Port {port} is taken. Choose another: make demo PORT={port + 10}") from error


@contextmanager
def running_server(server: Server) -> Iterator[None]:
    """Serve the project for as long as the block takes."""
    server.set_app(get_wsgi_application())
    thread = threading.Thread(target=server.serve_forever, name="web server", daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
