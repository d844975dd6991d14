"""The web servers that a project may run under: how to start each, and which options are safe or dangerous."""

import os
import socket
import sys
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from tests.helpers.servers import free_port
from tests.helpers.stack import Program

MISSING = "{} is not installed (make setup EXTRAS=servers)"
#: The proxy's address for a server that is started behind a proxy; TRUSTED_PROXIES contains it.
PROXY = "127.0.0.9"

WSGI, ASGI = "example_project.wsgi:application", "example_project.asgi:application"
GUNICORN = "gunicorn {options} --bind=127.0.0.1:{port} "


@dataclass(frozen=True)
class WebServer:
    """A server: its command line, the options to set behind a proxy, and the options never to set."""

    name: str
    distribution: str
    command: str
    #: The documentation's text for the options below.
    right: str
    wrong: str
    right_options: str = ""
    wrong_options: str = ""
    wrong_environment: dict[str, str] = field(default_factory=dict)
    #: Replaces the application in the command.
    wrong_application: str = ""
    #: Whether the wrong options are dangerous only for requests through a trusted proxy.
    is_wrong_behind_proxy: bool = False
    #: Whether the proxy in front, as recommended, drops headers with underscores.
    needs_dropped_underscores: bool = False
    application: str = WSGI

    @property
    def version(self) -> str | None:
        """Return the installed version, or None if it is not installed."""
        try:
            return version(self.distribution)
        except PackageNotFoundError:
            return None

    def program(self, kind: str, folder: Path, environment: dict[str, str]) -> tuple[Program, int]:
        """Return the program and its port; ``kind`` is ``default``, ``behind`` (a proxy) or ``wrong`` (options)."""
        options = {"default": "", "behind": self.right_options, "wrong": self.wrong_options}[kind]
        application = (self.wrong_application if kind == "wrong" else "") or self.application
        port = free_port()
        name, *rest = self.command.format(options=options, port=port, application=application).split()
        variables = {**os.environ, **environment}
        if kind == "behind" or (kind == "wrong" and self.is_wrong_behind_proxy):
            variables["BI_TRUSTED_PROXIES"] = PROXY
        if kind == "wrong":
            variables |= self.wrong_environment
        command = [str(Path(sys.executable).with_name(name)), *rest]
        return Program(self.name, command, variables, folder / f"{port}.log", lambda _: listens(port)), port


def listens(port: int) -> bool:
    """Return whether a server accepts connections on the port of this machine."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


SERVERS = [
    WebServer(
        "gunicorn, sync worker",
        "gunicorn",
        GUNICORN + "{application}",
        right="nothing",
        wrong="`--header-map dangerous`",
        wrong_options="--header-map=dangerous",
        is_wrong_behind_proxy=True,
    ),
    WebServer(
        "gunicorn, gthread worker",
        "gunicorn",
        GUNICORN + "--threads=4 {application}",
        right="nothing",
        wrong="`--header-map dangerous`",
        wrong_options="--header-map=dangerous",
        is_wrong_behind_proxy=True,
    ),
    WebServer(
        "gunicorn, uvicorn worker",
        "uvicorn-worker",
        GUNICORN + "--worker-class=uvicorn_worker.UvicornWorker {application}",
        right="`--forwarded-allow-ips=`, with nothing after the sign",
        wrong="`FORWARDED_ALLOW_IPS=*`, `--forwarded-allow-ips='*'`",
        right_options="--forwarded-allow-ips=",
        wrong_environment={"FORWARDED_ALLOW_IPS": "*"},
        application=ASGI,
    ),
    WebServer(
        "uvicorn",
        "uvicorn",
        "uvicorn {options} --host=127.0.0.1 --port={port} {application}",
        right="`--no-proxy-headers`",
        wrong="`--forwarded-allow-ips='*'`, `FORWARDED_ALLOW_IPS=*`",
        right_options="--no-proxy-headers",
        wrong_options="--forwarded-allow-ips=*",
        application=ASGI,
    ),
    WebServer(
        "hypercorn",
        "hypercorn",
        "hypercorn {options} --bind=127.0.0.1:{port} {application}",
        right="nothing",
        wrong="`ProxyFixMiddleware` around the application",
        wrong_application="tests.helpers.web_server_apps:proxy_fix",
        application=ASGI,
    ),
    WebServer(
        "daphne",
        "daphne",
        "daphne {options} --bind=127.0.0.1 --port={port} {application}",
        right="nothing",
        wrong="`--proxy-headers`",
        wrong_options="--proxy-headers",
        application=ASGI,
    ),
    WebServer(
        "waitress",
        "waitress",
        "waitress-serve {options} --listen=127.0.0.1:{port} {application}",
        right="`--no-clear-untrusted-proxy-headers`; it drops `X-Forwarded-For` otherwise",
        wrong="`--trusted-proxy='*'`",
        right_options="--no-clear-untrusted-proxy-headers",
        wrong_options="--trusted-proxy=* --trusted-proxy-headers=x-forwarded-for",
    ),
    WebServer(
        "uWSGI",
        "pyuwsgi",
        "uwsgi {options} --http-socket=127.0.0.1:{port} --module={application} --master --die-on-term --need-app",
        right="a proxy in front that drops headers with underscores, as nginx does",
        wrong="a proxy in front that passes them on",
        is_wrong_behind_proxy=True,
        needs_dropped_underscores=True,
    ),
]
