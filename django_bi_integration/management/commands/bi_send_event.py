"""bi_send_event: deliver a vendor's documented sample to a URL, as the vendor would."""

import json
import sys
import time
import uuid
from argparse import ArgumentParser
from http import HTTPStatus
from http.client import HTTPException, responses
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import HTTPRedirectHandler, Request, build_opener

from django.core.management.base import CommandError

from django_bi_integration import vendors
from django_bi_integration.keys import checked_key
from django_bi_integration.management.base import CommandWithExamples

VENDOR_OF = {event_type: vendor for vendor in vendors.VENDORS.values() for event_type in vendor.event_types}

#: The meanings of other statuses than 200 for the person who set up the endpoint.
MEANINGS: dict[int, str] = {
    HTTPStatus.UNAUTHORIZED: "the key is missing, or it is not this registration's",
    HTTPStatus.FORBIDDEN: "this machine's address is not on the allowlist, or the registration is inactive",
    HTTPStatus.NOT_FOUND: "no registration has this URL",
    HTTPStatus.SERVICE_UNAVAILABLE: "the event could not be stored; a vendor would send it again",
}
REDIRECTED = "a redirect: Innovative Educators would count it as delivered, and the event would be lost"
#: Seconds that Innovative Educators waits for a response ("Integration Details"); Big Interview waits 30.
VENDOR_TIMEOUT = 15


class Command(CommandWithExamples):
    help = "Deliver a vendor's sample event to a URL, and print the response."
    examples = """\
examples:
  bi_send_event http://127.0.0.1:8000/bi/webhooks/<id>/ --event interview.created --key - < key.txt
  bi_send_event http://127.0.0.1:8000/bi/webhooks/<id>/ --event courseComplete --subject 111222333444
  bi_send_event http://127.0.0.1:8000/bi/webhooks/<id>/ --event interview.deleted --id 42 --times 6

Each call uses a new event id, unless --id is given. The exit code is 0 if every response is 200, otherwise 1.
"""

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("url", help="the complete URL of a registration")
        parser.add_argument("--event", required=True, choices=list(VENDOR_OF), help="the event type")
        parser.add_argument("--key", default="", help="Big Interview's key; '-' reads it from standard input")
        parser.add_argument("--id", help="the vendor's event id; default: a new one")
        parser.add_argument("--subject", default="student-1", help="the person that the event is about")
        parser.add_argument("--times", type=int, default=1, help="how often to deliver the same event")
        parser.add_argument("--json", action="store_true", help="print one JSON object for each delivery")

    def handle(self, url: str, event: str, key: str, subject: str, times: int, **options: Any) -> None:
        if not url.startswith(("http://", "https://")):
            raise CommandError(f"{url!r} is not a complete URL, which begins with http:// or https://.")
        if key == "-":
            key = sys.stdin.readline()
        if key:
            key = self._checked(key)
        body = json.dumps(VENDOR_OF[event].sample(event, options["id"] or str(uuid.uuid4()), subject)).encode()
        statuses = [self._deliver(url, body, key, as_json=options["json"]) for _ in range(times)]
        if any(status != HTTPStatus.OK for status in statuses):
            failed = sum(status != HTTPStatus.OK for status in statuses)
            raise CommandError(f"{failed} of {times} deliveries were not stored.")

    def _checked(self, key: str) -> str:
        try:
            return checked_key(key)
        except ValueError as error:
            raise CommandError(f"{error} Copy it from Big Interview's API Settings.") from None

    def _deliver(self, url: str, body: bytes, key: str, *, as_json: bool) -> int:
        started = time.perf_counter()
        status = post(url, body, key)
        milliseconds = round((time.perf_counter() - started) * 1000)
        meaning = explain(status)
        if as_json:
            self.stdout.write(json.dumps({"status": status, "milliseconds": milliseconds, "meaning": meaning}))
        else:
            self.stdout.write(f"{status} in {milliseconds} ms: {meaning}")
        return status


class _NoRedirect(HTTPRedirectHandler):
    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        return None


def post(url: str, body: bytes, key: str) -> int:
    headers = {"Content-Type": "application/json; charset=utf-8", **({"Authorization": key} if key else {})}
    try:
        request = Request(url, data=body, headers=headers, method="POST")  # noqa: S310 - only http and https URLs get here
        with build_opener(_NoRedirect).open(request, timeout=VENDOR_TIMEOUT) as response:
            return int(response.status)
    except HTTPError as error:
        return error.code
    except (URLError, OSError, HTTPException, ValueError) as error:  # the last two: not a valid URL, not HTTP
        raise CommandError(f"No response from {url}: {getattr(error, 'reason', error)}") from error


def explain(status: int) -> str:
    if status == HTTPStatus.OK:
        return "stored"
    if 300 <= status < 400:
        return REDIRECTED
    return MEANINGS.get(status) or responses.get(status, "an unknown status").lower()
