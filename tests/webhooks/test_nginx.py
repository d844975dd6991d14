"""The client address behind one and two real nginx proxies in front of real gunicorn.

The vendor, a stranger and each proxy have different loopback addresses.
"""

import json
import os
import subprocess
import sys
from contextlib import ExitStack
from dataclasses import dataclass
from http.client import HTTPConnection

import pytest

from tests.helpers.deliveries import COMPLETED
from tests.helpers.nginx import MISSING, nginx
from tests.helpers.proxies import APPEND, NEITHER, OVERWRITE, UNBUFFERED, Proxy, running_nginx
from tests.helpers.servers import free_port
from tests.helpers.stack import ROOT, Program

pytestmark = [pytest.mark.stack, pytest.mark.xdist_group("nginx")]

VENDOR, STRANGER, INNER, EDGE = "127.0.0.2", "127.0.0.3", "127.0.0.10", "127.0.0.20"

SET_UP = f"""
from django.core.management import call_command
call_command("migrate", verbosity=0)
call_command("bi_register", vendor="innovative_educators", name="Orientation", allow=["{VENDOR}"])
"""


@dataclass
class Site:
    """The webhook's path, the ports of the gunicorn servers and the port of each chain of proxies."""

    path: str
    ports: dict[str, int]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    path = nginx() or pytest.skip(MISSING)
    folder = tmp_path_factory.mktemp("nginx")
    one, two, by_socket = (free_port() for _ in range(3))
    sockets = {name: folder / f"{name}.sock" for name in ("one", "socket")}
    binds = {
        "one": (INNER, [f"127.0.0.1:{one}", f"unix:{sockets['one']}"]),
        "two": (f"{EDGE},{INNER}", [f"127.0.0.1:{two}"]),
        "socket": ("unix:", [f"127.0.0.1:{by_socket}", f"unix:{sockets['socket']}"]),
    }
    last = Proxy(f"http://127.0.0.1:{two}", APPEND, INNER)
    last_without = Proxy(f"http://127.0.0.1:{two}", NEITHER, INNER)
    ways = {
        "one": Proxy(f"http://127.0.0.1:{one}", APPEND, INNER),
        "one, overwriting": Proxy(f"http://127.0.0.1:{one}", OVERWRITE, INNER),
        "one, with neither line": Proxy(f"http://127.0.0.1:{one}", NEITHER, INNER),
        "one, unbuffered": Proxy(f"http://127.0.0.1:{one}", UNBUFFERED, INNER),
        "two": Proxy(last.url, APPEND, EDGE),
        "two, the edge overwriting": Proxy(last.url, OVERWRITE, EDGE),
        "two, the edge with neither line": Proxy(last.url, NEITHER, EDGE),
        "two, the inner with neither line": Proxy(last_without.url, APPEND, EDGE),
        "past the edge": last,
        "by a socket": Proxy(f"http://unix:{sockets['socket']}:", APPEND),
        "by a socket that is not trusted": Proxy(f"http://unix:{sockets['one']}:", APPEND),
    }
    with ExitStack() as programs:
        webhook = register(folder)
        for name, (trusted, addresses) in binds.items():
            web = gunicorn(folder, name, trusted, addresses)
            programs.callback(web.stop)
            web.start()
        programs.enter_context(running_nginx(path, folder, [*ways.values(), last_without]))
        ports = {name: proxy.port for name, proxy in ways.items()}
        yield Site(webhook, ports | {"gunicorn": one, "gunicorn of two": two, "gunicorn of a socket": by_socket})


def environment(folder, **variables):
    return {
        **os.environ,
        "CELERY_BROKER_URL": "memory://localhost/",
        "DATABASE_URL": f"sqlite:///{folder / 'db.sqlite3'}",
        "DJANGO_SECRET_KEY": "nginx",
        "DJANGO_SETTINGS_MODULE": "example_project.settings",
        **variables,
    }


def register(folder):
    """Create the database and a registration, and return its path."""
    command = [sys.executable, "manage.py", "shell", "--no-imports", "-c", SET_UP]
    output = subprocess.run(command, cwd=ROOT, env=environment(folder), capture_output=True, text=True, check=True)
    return json.loads(output.stdout)["path"]


def gunicorn(folder, name, trusted_proxies, addresses):
    """Return a gunicorn that counts as started when it listens: requests wait until it has loaded the project."""
    command = [sys.executable, "-m", "gunicorn", "example_project.wsgi", *(f"--bind={each}" for each in addresses)]
    variables = environment(folder, BI_TRUSTED_PROXIES=trusted_proxies)
    return Program("gunicorn", command, variables, folder / f"{name}.log", lambda new: "Listening at" in new)


def post(site, way, client, *headers, body=COMPLETED, chunked=False):
    """Post from the client's address, and return the status of the response."""
    connection = HTTPConnection("127.0.0.1", site.ports[way], timeout=60, source_address=(client, 0))
    connection.putrequest("POST", site.path)
    for name, value in headers:
        connection.putheader(name, value)
    if chunked:
        connection.putheader("Transfer-Encoding", "chunked")
    else:
        connection.putheader("Content-Length", str(len(body)))
    connection.endheaders([body] if chunked else body, encode_chunked=chunked)
    try:
        return connection.getresponse().status
    finally:
        connection.close()


SOUND = ["one", "one, overwriting", "two", "two, the edge overwriting", "by a socket"]


@pytest.mark.parametrize("way", SOUND)
def test_the_vendor_is_accepted_and_a_stranger_is_rejected(site, way):
    assert [post(site, way, client) for client in (VENDOR, STRANGER)] == [200, 403]


FORGED = [
    [("X-Forwarded-For", VENDOR)],
    [("X-Forwarded-For", f"{VENDOR}, {INNER}")],
    [("X-Forwarded-For", f"{VENDOR}, {EDGE}")],
    [("X-Forwarded-For", f"{VENDOR}, {EDGE}, {INNER}")],
    [("X-Forwarded-For", f"{VENDOR}, unix:")],
    [("X-Forwarded-For", f'"{VENDOR}')],
    [("X-Forwarded-For", f"{VENDOR},")],
    [("X-Forwarded-For", VENDOR), ("X-Forwarded-For", EDGE)],
    [("X_Forwarded_For", VENDOR)],
    [("X-Real-IP", VENDOR), ("Forwarded", f"for={VENDOR}"), ("CF-Connecting-IP", VENDOR)],
]


@pytest.mark.parametrize("way", [*SOUND, "past the edge", "gunicorn", "gunicorn of two", "gunicorn of a socket"])
def test_a_forged_header_never_counts(site, way):
    """Invariant 10: neither through the proxies, nor if the client bypasses the outer one or all of them."""
    assert [post(site, way, STRANGER, *forged) for forged in FORGED] == [403] * len(FORGED)


@pytest.mark.parametrize("way", SOUND)
def test_the_vendor_is_accepted_whatever_forwarding_headers_it_sends(site, way):
    assert post(site, way, VENDOR, ("X-Forwarded-For", f"junk, {STRANGER}"), ("X-Real-IP", STRANGER)) == 200


@pytest.mark.parametrize("way", ["past the edge", "gunicorn", "gunicorn of two", "gunicorn of a socket"])
def test_a_client_that_bypasses_a_proxy_is_rejected_even_from_the_vendors_address(site, way):
    assert post(site, way, VENDOR) == 403


@pytest.mark.parametrize("way", ["one, with neither line", "two, the edge with neither line"])
def test_an_outermost_proxy_that_does_not_set_the_header_lets_its_clients_choose_their_address(site, way):
    """The documentation warns about it: a header that the proxy passes on unchanged looks like the proxy's."""
    assert post(site, way, VENDOR) == 403
    assert post(site, way, STRANGER, ("X-Forwarded-For", VENDOR)) == 200


def test_an_inner_proxy_that_does_not_set_the_header_rejects_everybody(site):
    way = "two, the inner with neither line"
    assert [post(site, way, VENDOR), post(site, way, STRANGER, ("X-Forwarded-For", VENDOR))] == [403, 403]


def test_a_socket_that_is_not_trusted_rejects_everybody(site):
    way = "by a socket that is not trusted"
    assert [post(site, way, VENDOR), post(site, way, STRANGER, ("X-Forwarded-For", f"{VENDOR}, {INNER}"))] == [403, 403]


def test_a_chunked_body_is_accepted_behind_nginx_unless_it_is_unbuffered(site):
    """By default, nginx reads the whole body and adds its length. Django cannot read a body without a length."""
    body = COMPLETED + b" " * 200_000  # more than nginx reads at once
    assert post(site, "one", VENDOR, body=body, chunked=True) == 200
    assert post(site, "one, unbuffered", VENDOR, body=body) == 200
    assert post(site, "one, unbuffered", VENDOR, body=body, chunked=True) == 411
