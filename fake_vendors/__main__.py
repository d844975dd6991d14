"""The fake vendors on the command line: ``python -m fake_vendors --help``."""

import math
import sys
import threading
from argparse import ArgumentParser, ArgumentTypeError, Namespace, RawDescriptionHelpFormatter
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from urllib.parse import urlsplit

from fake_vendors import campaign, events
from fake_vendors.events import Event
from fake_vendors.site import Site, running_site
from fake_vendors.vendors import Attempt, Vendor, big_interview, innovative_educators

INTERVIEW_EVENTS = ("interview.created", "interview.updated", "interview.deleted")
#: What a shell answers for a program that was interrupted.
INTERRUPTED = 130

EXAMPLES = """
examples:
  python -m fake_vendors big-interview --url http://127.0.0.1:8000/bi/webhooks/<id>/ --key KEY
  python -m fake_vendors innovative-educators --url URL --source-address 127.0.0.2 --count 50
  python -m fake_vendors big-interview --url URL --key KEY --time-scale 600   (10 min become 1 s)

  python -m fake_vendors site --api-key KEY --port 8001   (Partner API and pages, until Ctrl-C)

The exit code is 0 only when every event was delivered, or when the site was ended by Ctrl-C.
"""


def parser() -> ArgumentParser:
    """Of the whole command line."""
    made = ArgumentParser(
        prog="python -m fake_vendors",
        description="Send webhooks as the vendors do, with their retries; or be the site that students log in to.",
        epilog=EXAMPLES,
        formatter_class=RawDescriptionHelpFormatter,
    )
    vendors = made.add_subparsers(dest="vendor", required=True)
    interviews = vendors.add_parser("big-interview", help="interviews that are created, updated or deleted")
    interviews.add_argument("--key", type=_key, required=True, help="the verification key, sent bare in Authorization")
    interviews.add_argument(
        "--event", choices=INTERVIEW_EVENTS, default=INTERVIEW_EVENTS[0], help="which one (default: %(default)s)"
    )
    courses = vendors.add_parser("innovative-educators", help="courses that are completed")
    courses.add_argument("--source-address", help="the address of this machine to call from")
    site = vendors.add_parser("site", help="Big Interview's Partner API, single sign-on and pages, on this machine")
    site.add_argument("--api-key", type=_key, required=True, help="the key that the Partner API takes")
    site.add_argument("--port", type=_port, default=8001, help="0 takes a free one (default: %(default)s)")
    site.add_argument("--url", type=_url, help="where interviews made there are posted to: a registration's whole URL")
    site.add_argument("--key", type=_key, default="", help="the verification key of that registration")
    for vendor in (interviews, courses):
        vendor.add_argument("--url", type=_url, required=True, help="the whole URL of a registration")
        vendor.add_argument("--count", type=_natural, default=1, help="how many events (default: %(default)s)")
        vendor.add_argument("--time-scale", type=_scale, default=1.0, help="divides the waits between retries")
        vendor.add_argument("--threads", type=_natural, default=8, help="how many at a time (default: %(default)s)")
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    """Send what the arguments ask for, and return the exit code."""
    options = parser().parse_args(arguments)
    if options.vendor == "site":
        return _serve(options)
    vendor = _vendor(options)
    log = campaign.Log()

    def tell(attempt: Attempt) -> None:
        log.add(attempt)
        answer = attempt.status or attempt.error
        print(f"{attempt.event_id}  attempt {attempt.number}  {answer}  {attempt.seconds * 1000:.0f} ms", flush=True)

    try:
        campaign.run(
            [(vendor, _event(options, number)) for number in range(options.count)],
            threads=options.threads,
            on_attempt=tell,
        )
    except KeyboardInterrupt:
        print(f"Interrupted. Until then: {log.summary()}")
        return INTERRUPTED
    print(log.summary())
    return 1 if log.given_up else 0


def _serve(options: Namespace) -> int:
    vendor = big_interview(options.url, options.key) if options.url else None
    stop = threading.Event()
    site = Site(api_key=options.api_key, send=(lambda event: vendor.send(event, stop)) if vendor else None)
    try:
        with running_site(site, options.port) as url:
            print(f"A fake Big Interview is at {url}; Ctrl-C ends it.", flush=True)
            with suppress(KeyboardInterrupt):
                stop.wait()
            stop.set()
    except OSError as error:
        print(f"Port {options.port} cannot be had: {error.strerror}. Choose another with --port.", file=sys.stderr)
        return 1
    return 0


def _vendor(options: Namespace) -> Vendor:
    if options.vendor == "big-interview":
        return big_interview(options.url, options.key, time_scale=options.time_scale)
    return innovative_educators(options.url, source_address=options.source_address, time_scale=options.time_scale)


def _event(options: Namespace, number: int) -> Event:
    now = datetime.now(UTC)
    if options.vendor == "innovative-educators":
        return events.course_completed(f"{number:09}", f"student-{number}@example.edu", "New Student Orientation", now)
    interview_id, partner_id, title = 95607 + number, f"student-{number}", "Top 10 Questions"
    match options.event:
        case "interview.updated":
            return events.interview_updated(interview_id, partner_id, now, title=title, completed=True)
        case "interview.deleted":
            return events.interview_deleted(interview_id, partner_id)
        case _:
            return events.interview_created(interview_id, partner_id, now, title=title)


def _url(text: str) -> str:
    try:
        parts = urlsplit(text)
        whole = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        whole = False
    if not whole or not _is_plain(text) or " " in text:
        raise ArgumentTypeError(f"{text!r} is not a whole URL, such as http://127.0.0.1:8000/bi/webhooks/<id>/")
    return text


def _key(text: str) -> str:
    if not _is_plain(text):
        raise ArgumentTypeError("a header cannot carry this key: it has characters other than printable ASCII")
    return text


def _is_plain(text: str) -> bool:
    return text.isascii() and text.isprintable()


def _port(text: str) -> int:
    if not (text.isdecimal() and int(text) < 65_536):
        raise ArgumentTypeError(f"{text!r} is not a port, a number from 0 to 65535")
    return int(text)


def _natural(text: str) -> int:
    if not (text.isdecimal() and int(text) > 0):
        raise ArgumentTypeError(f"{text!r} is not a whole number from 1")
    return int(text)


def _scale(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 < number < math.inf:
        raise ArgumentTypeError(f"{text!r} is not a number above 0")
    return number


if __name__ == "__main__":
    sys.exit(main())
