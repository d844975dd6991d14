"""What a web process reports about itself to ``bi_doctor``: the address that it sees, and whether it notifies workers.

The report is added to the rejection of the probe's request if the request has a token that is signed with the project's
secret key. Any other request gets the usual rejection. The report is signed, too, together with the token, so that it
is not confused with the response of another site, or with an older one from a cache.
"""

import secrets
import threading
import time
from contextlib import suppress
from typing import Any

from django.core import signing
from django.http import HttpRequest

from django_bi_integration.dispatch.notify import notifier, threads_stop_between_requests
from django_bi_integration.text import end_of
from django_bi_integration.webhooks.client_address import client_address, forwarded_for, peer

HEADER = "X-BI-Integration-Probe"
#: How long a token is valid, in seconds. Two machines' clocks may differ by almost as much.
VALID_SECONDS = 300
#: The longest token that is verified: a stranger's request costs no more than one short digest.
LONGEST_TOKEN = 200
#: Seconds after a probe at which a notification is requested: the response has been sent by then.
DELAY = 0.3

_SALT = "django_bi_integration.self_report"
_SALT_OF_TOKEN = f"{_SALT}.token"


class Watch:
    """Remember the latest probe of this process, and request a notification after it, as a delivery would."""

    def __init__(self) -> None:
        self._probed_at: float | None = None
        self._timer: threading.Timer | None = None

    def report(self) -> dict[str, Any]:
        """Return whether this process has notified a worker since its latest probe; then begin again."""
        now = time.monotonic()
        probed_at, self._probed_at = self._probed_at, now
        mode = self._mode()
        asked_at = probed_at and probed_at + DELAY / 2
        if mode == "request":
            asked_at = now
            notifier.request()
        elif mode == "thread":
            self._ask_later()
        return {
            "mode": mode,
            "seconds": probed_at and now - probed_at,
            "notified": bool(asked_at and notifier.attempted_at and notifier.attempted_at >= asked_at),
            "is_failing": notifier.broker_is_down,
        }

    def _mode(self) -> str:
        """Return what notifies workers in this process: nothing ("none"), the "request" itself, or a "thread"."""
        if not notifier.has_app or notifier.is_eager:
            return "none"
        return "request" if threads_stop_between_requests() else "thread"

    def _ask_later(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = threading.Timer(DELAY, notifier.request)
        self._timer.daemon = True
        with suppress(RuntimeError):  # the machine has no thread left
            self._timer.start()


watch = Watch()


def make_token() -> str:
    """Return a token that the web process accepts for the next minutes."""
    return signing.TimestampSigner(salt=_SALT_OF_TOKEN).sign(secrets.token_urlsafe(8))


def report_for(request: HttpRequest) -> str | None:
    """Return the signed report, or None if the request has no valid token."""
    token = request.headers.get(HEADER, "")
    if not token or len(token) > LONGEST_TOKEN:
        return None
    try:
        signing.TimestampSigner(salt=_SALT_OF_TOKEN).unsign(token, max_age=VALID_SECONDS)
    except signing.BadSignature:
        return None
    address = client_address(request)
    report = {
        "token": token,
        "address": address and str(address),
        "peer": end_of(peer(request), 64),
        "forwarded_for": end_of(forwarded_for(request), 500),
        "notifications": watch.report(),
    }
    return signing.dumps(report, salt=_SALT)


def read_report(signed: str, token: str) -> dict[str, Any] | None:
    """Return the report for this token; None if it is not this project's, or an older one."""
    try:
        report: dict[str, Any] = signing.loads(signed, salt=_SALT)
    except signing.BadSignature:
        return None
    return report if report["token"] == token else None
