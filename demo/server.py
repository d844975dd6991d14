"""The portal's web server: Django's development server, with a thread for each request, on this machine only."""

import errno
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.core.management.base import CommandError
from django.core.servers.basehttp import ThreadedWSGIServer, WSGIRequestHandler
from django.core.wsgi import get_wsgi_application

HOST = "127.0.0.1"

#: Set with the first request for a page, when somebody has opened the portal.
page_requested = threading.Event()


class Handler(WSGIRequestHandler):
    """Prints no requests, because the terminal shows the story."""

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the parent's name
        if self.command == "GET":
            page_requested.set()


class Server(ThreadedWSGIServer):
    """Prints no error if a browser closes the connection during a response."""

    daemon_threads = True

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.server_port}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass


def bind(port: int) -> Server:
    """Return a server on ``port`` (0: any free port) that does not respond yet; requests wait for it.

    Raise CommandError if the port is in use or needs more rights.
    """
    try:
        return Server((HOST, port), Handler)
    except OSError as error:
        if error.errno == errno.EACCES:
            raise CommandError(
                f"You have no permission to use port {port}. Choose another: make demo PORT=8000"
            ) from error
        if error.errno != errno.EADDRINUSE:
            raise
        raise CommandError(f"Port {port} is in use. Choose another: make demo PORT={port + 10}") from error


@contextmanager
def running_server(server: Server) -> Iterator[None]:
    """Serve the project for the duration of the block."""
    server.set_app(get_wsgi_application())
    thread = threading.Thread(target=server.serve_forever, name="web server", daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
