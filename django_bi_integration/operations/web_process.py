"""What does the web process see and do behind its proxies? It reports that only to a signed probe."""

import time
from collections.abc import Iterator
from functools import partial
from typing import Any
from urllib.parse import urljoin

import requests

from django_bi_integration.networks import read_address
from django_bi_integration.operations.findings import Finding, Level, within
from django_bi_integration.operations.middleware import webhook_path
from django_bi_integration.operations.public_url import VENDOR_TIMEOUT, post, report_in
from django_bi_integration.webhooks.self_report import HEADER, VALID_SECONDS, make_token, read_report

#: Addresses that no request can come from (RFC 5737).
FORGED = "198.51.100.77"
OTHER = "198.51.100.88"
#: Further headers that servers, middleware and proxies read one address from.
SINGLE = (
    *("X-Real-IP", "X_Real_IP", "Client-IP", "X-Client-IP", "X-Cluster-Client-IP", "X-Forwarded", "Forwarded-For"),
    *("CF-Connecting-IP", "True-Client-IP", "Fastly-Client-IP", "X-Original-Forwarded-For", "Remote-Addr"),
)
#: Seconds without a request from us, in which a running process sends its notification.
QUIET = 2.0
#: How many requests may reach other processes before one reaches a process that was probed before.
PROBES = 8

Report = dict[str, Any]


def web_process(url: str) -> Iterator[Finding]:
    """Probe the web process at the scheme and host that were given to the vendors."""
    target = urljoin(url, webhook_path())
    usual = ask(target)
    if usual is None:
        remedy = (
            "It reports only if SECRET_KEY and the version of this package are the same as here, if its clock differs"
            f" by less than {VALID_SECONDS // 60} minutes, and if proxies pass on the header {HEADER} and the answer."
        )
        yield Finding(Level.WARN, "web process", "it does not report which address it sees", remedy)
        return
    yield client_address(target, usual)
    if finding := notifications(target):
        yield finding


def ask(url: str, **headers: str) -> Report | None:
    """Return the web process's report about a request with these headers; None if the request does not reach it."""
    token = make_token()
    try:
        response, body = within(VENDOR_TIMEOUT, partial(post, url, {HEADER: token, **headers}))
    except (requests.exceptions.RequestException, TimeoutError):
        return None
    return read_report(report_in(response, body) or "", token)


def client_address(url: str, usual: Report) -> Finding:
    """Can anyone choose the address that allowlists see, and is it the one that the request came from?"""
    reports = [(header, ask(url, **headers, **{header: value})) for header, value, headers in _forgeries(usual)]
    believed = {header: report for header, report in reports if report and report["address"] == FORGED}
    if believed:
        message = f"anyone can choose the address that allowlists see, with the header {' or '.join(believed)}"
        return Finding(Level.FAIL, "client address", message, _remedy_for_belief(believed))
    # Nothing was forged here: only proxies have written the header, and its first entry is the client.
    first, *proxies = _hops(usual)
    if read_address(first) and usual["address"] == str(read_address(first)):
        message = f"this request is seen to come from {usual['address']}, and no forged header changes that"
        return Finding(Level.OK, "client address", message)
    seen = usual["address"] or "an unknown address"
    way = f"through {', '.join(proxies)}" if proxies else "through no proxy"
    message = f"this request came from {first} {way}, but is seen to come from {seen}"
    return Finding(Level.WARN, "client address", message, _remedy_for_proxies(first, proxies))


def _forgeries(usual: Report) -> Iterator[tuple[str, str, dict[str, str]]]:
    """Yield headers and values with which a client may pass for another, and further headers to send with them."""
    inner = _hops(usual)[1:-1]
    for value in {FORGED, ", ".join([FORGED, *inner])}:
        yield "X-Forwarded-For", value, {}
        yield "X_Forwarded_For", value, {}
        yield "X_Forwarded_For", value, {"X-Forwarded-For": OTHER}  # a proxy that appends to this leaves it in front
    yield "Forwarded", f"for={FORGED}", {}
    for header in SINGLE:
        yield header, FORGED, {}


def _hops(report: Report) -> list[str]:
    entries = [entry.strip() for entry in report["forwarded_for"].split(",")]
    return [*(entry for entry in entries if entry), report["peer"]]


def _remedy_for_belief(believed: dict[str, Report]) -> str:
    documented = "“Web servers” in the documentation (Running it) has the options of each."
    if any(report["peer"] == FORGED for report in believed.values()):
        return (
            "The server, or middleware, replaces the connection's address by the header's. Switch that"
            f" off, and name your proxies in TRUSTED_PROXIES instead. {documented} If you ran this on the web server's"
            " own machine, run it from another one as well: some servers believe connections from 127.0.0.1."
        )
    if "X-Forwarded-For" not in believed:
        return (
            "The server mistakes a header with underscores for the real one. Let the proxy in front of it drop such"
            f" headers, as nginx does, or use another server. {documented}"
        )
    return "The outermost proxy passes on the client's header: let it append the client's address, or overwrite it."


def _remedy_for_proxies(first: str, proxies: list[str]) -> str:
    if not proxies:
        return (
            "TRUSTED_PROXIES names proxies, but none has added X-Forwarded-For: the request bypassed them, they do not"
            " send the header, or the server drops it. Registrations with an allowlist reject all deliveries."
        )
    if proxies[-1] == first:
        return (
            "The server replaces the proxy's address by the client's, and TRUSTED_PROXIES names the proxy as"
            " well. Switch the first off: “Web servers” in the documentation (Running it) has the options."
        )
    return (
        f"If these are your proxies, set TRUSTED_PROXIES to {proxies}, outermost first. Until then, registrations with"
        " an allowlist reject all deliveries."
    )


def notifications(url: str) -> Finding | None:
    """Does the web process notify workers, also if no further request comes?"""
    report = _report_of_second_probe(url)
    if report and report["mode"] == "thread" and not report["notified"]:
        report = _report_of_second_probe(url)  # a busy machine, or a first connection to the broker
    if report is None or report["mode"] == "none":
        return None  # no process was probed twice, or a system check reports it
    if report["is_failing"]:
        remedy = "Look at CELERY_BROKER_URL in its environment. Until then, events wait for the sweep."
        return Finding(Level.FAIL, "notifications", "the web process cannot reach the broker", remedy)
    if report["notified"]:
        when = " before it answers, because its threads stop between requests" if report["mode"] == "request" else ""
        return Finding(Level.OK, "notifications", f"the web process notifies workers{when}")
    remedy = (
        "The broker does not respond, or the process's threads do not run between requests: let the platform give it"
        " processor time between requests. Until then, events wait for the sweep."
    )
    return Finding(Level.WARN, "notifications", f"the web process sent none within {QUIET:g} seconds", remedy)


def _report_of_second_probe(url: str) -> Report | None:
    """Send no request for a while; then return the report of the first web process that was probed before."""
    time.sleep(QUIET)
    for _ in range(PROBES):
        report = ask(url)
        notifications: Report | None = report and report["notifications"]
        if notifications and (notifications["mode"] != "thread" or (notifications["seconds"] or 0) >= QUIET):
            return notifications
    return None
