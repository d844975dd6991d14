"""nginx as a chain of reverse proxies."""

import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.helpers.servers import free_port
from tests.helpers.stack import Program

APPEND = "proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;"
OVERWRITE = "proxy_set_header X-Forwarded-For $remote_addr;"
NEITHER = ""
UNBUFFERED = f"{APPEND} proxy_http_version 1.1; proxy_request_buffering off;"

# Overrides the compiled-in defaults: nginx writes only into its folder, and runs as the user who starts it.
CONFIGURATION = """
daemon off;
master_process off;
pid {folder}/pid;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/client_body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    {servers}
}}
"""
SERVER = """
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass {upstream};
            {bind}
            proxy_set_header Host $host;
            {lines}
        }}
    }}
"""


@dataclass
class Proxy:
    """One hop: forwards requests to ``upstream`` from ``address``, with additional configuration ``lines``."""

    upstream: str
    lines: str
    address: str | None = None

    def __post_init__(self) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"

    def configuration(self) -> str:
        """Return nginx's ``server`` block."""
        bind = f"proxy_bind {self.address};" if self.address else ""
        return SERVER.format(port=self.port, upstream=self.upstream, bind=bind, lines=self.lines)


@contextmanager
def running_nginx(path: str, folder: Path, proxies: Sequence[Proxy]) -> Iterator[Program]:
    """Run nginx with all proxies within the block; raise RuntimeError if it does not start."""
    configuration = folder / "nginx.conf"
    servers = "".join(proxy.configuration() for proxy in proxies)
    configuration.write_text(CONFIGURATION.format(folder=folder, servers=servers))
    command = [path, "-p", str(folder), "-c", str(configuration), "-e", "stderr"]
    program = Program("nginx", command, dict(os.environ), folder / "nginx.log", lambda _: all_listen(proxies))
    program.start()
    try:
        yield program
    finally:
        program.stop()


def all_listen(proxies: Sequence[Proxy]) -> bool:
    """Return whether every proxy accepts connections."""
    try:
        for proxy in proxies:
            socket.create_connection(("127.0.0.1", proxy.port), timeout=1).close()
    except OSError:
        return False
    return True
