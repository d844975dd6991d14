"""The command line of the fake vendors: ``python -m fake_vendors --help``."""

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
#: The exit code of a program that was interrupted by Ctrl-C.
INTERRUPTED = 130

DESCRIPTION = """\
Send webhooks as the vendors do, with their retries, or serve a Big Interview that students can sign in to.
"""
EXAMPLES = """
To receive webhooks, a project needs a registration, for example
  python manage.py bi_register --vendor big_interview --name Test --key KEY
which prints its path. Then:

  python -m fake_vendors big-interview --url http://127.0.0.1:8000/bi/webhooks/<id>/ --key KEY
  python -m fake_vendors innovative-educators --url URL --source-address 127.0.0.2 --count 50
  python -m fake_vendors big-interview --url URL --key KEY --time-scale 600   (10 minutes take 1 second)

For single sign-on, start the site and follow what it prints:

  python -m fake_vendors site --api-key API_KEY
  python -m fake_vendors site --api-key API_KEY --url URL --key KEY   (also sends what members do as webhooks)

The exit code is 0 if every event was delivered, or if the site was stopped by Ctrl-C.
"""


def parser() -> ArgumentParser:
    """Return the parser of the command line."""
    made = ArgumentParser(
        prog="python -m fake_vendors",
        description=DESCRIPTION,
        epilog=EXAMPLES,
        formatter_class=RawDescriptionHelpFormatter,
    )
    commands = made.add_subparsers(dest="command", metavar="COMMAND", required=True)
    interviews = commands.add_parser("big-interview", help="send events about interviews, as Big Interview")
    interviews.add_argument("--key", type=_key, required=True, help="the webhook key of the registration")
    interviews.add_argument(
        "--event", choices=INTERVIEW_EVENTS, default=INTERVIEW_EVENTS[0], help="the event type (default: %(default)s)"
    )
    courses = commands.add_parser("innovative-educators", help="send completed courses, as Innovative Educators")
    courses.add_argument("--source-address", help="the address of this machine to send from")
    for sender in (interviews, courses):
        _add_delivery_arguments(sender)
    _add_site_arguments(commands.add_parser("site", help="serve Big Interview's Partner API, sign-on and pages"))
    return made


def _add_delivery_arguments(sender: ArgumentParser) -> None:
    sender.add_argument("--url", type=_url, required=True, help="the URL of the registration")
    sender.add_argument("--count", type=_natural, default=1, help="how many events to send (default: %(default)s)")
    sender.add_argument("--time-scale", type=_scale, default=1.0, help="divide the waits between retries by this")
    sender.add_argument("--threads", type=_natural, default=8, help="how many to send at once (default: %(default)s)")


def _add_site_arguments(site: ArgumentParser) -> None:
    site.add_argument("--api-key", type=_key, required=True, help="the key that the Partner API accepts")
    site.add_argument("--port", type=_port, default=8001, help="0: any free port (default: %(default)s)")
    site.add_argument("--url", type=_url, help="the URL of a registration that gets what members do as webhooks")
    site.add_argument("--key", type=_key, default="", help="the webhook key of that registration")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command in ``arguments`` and return the exit code."""
    options = parser().parse_args(arguments)
    return _serve(options) if options.command == "site" else _send(options)


def _send(options: Namespace) -> int:
    vendor = _vendor(options)
    log = campaign.Log()

    def report(attempt: Attempt) -> None:
        log.add(attempt)
        outcome = attempt.status or attempt.error
        print(f"{attempt.event_id}  attempt {attempt.number}  {outcome}  {attempt.seconds * 1000:.0f} ms", flush=True)

    try:
        campaign.run(
            [(vendor, _event(options, number)) for number in range(options.count)],
            threads=options.threads,
            on_attempt=report,
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
            print(_instructions(url, options.url), flush=True)
            with suppress(KeyboardInterrupt):
                stop.wait()
            stop.set()
    except OSError as error:
        print(f"Port {options.port} is not available: {error.strerror}. Choose another with --port.", file=sys.stderr)
        return 1
    return 0


def _instructions(url: str, webhooks_url: str | None) -> str:
    webhooks = f"to {webhooks_url}" if webhooks_url else "none; restart with --url and --key of a registration"
    return f"""\
A fake Big Interview is running at {url}

  Partner API      {url}/api/users/
  Single sign-on   {url}/sso/login
  Member pages     {url}/members/dashboard
  Webhooks         {webhooks}

To point a project at it:

  1. Set BI_INTEGRATION["BASE_URL"] = "{url}" (in the example project: BI_BASE_URL={url}).
  2. In the admin, add a Big Interview account with any subdomain and the API key that you started this with.
  3. Follow a single sign-on link of the project as a user who has a first name, a last name and an e-mail address.

Press Ctrl-C to stop. The site keeps nothing.
"""


def _vendor(options: Namespace) -> Vendor:
    if options.command == "big-interview":
        return big_interview(options.url, options.key, time_scale=options.time_scale)
    return innovative_educators(options.url, source_address=options.source_address, time_scale=options.time_scale)


def _event(options: Namespace, number: int) -> Event:
    now = datetime.now(UTC)
    if options.command == "innovative-educators":
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
        is_absolute = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_absolute = False
    if not is_absolute or not _is_plain(text) or " " in text:
        raise ArgumentTypeError(f"{text!r} is not an absolute URL, such as http://127.0.0.1:8000/bi/webhooks/<id>/")
    return text


def _key(text: str) -> str:
    if not _is_plain(text):
        raise ArgumentTypeError("a header cannot contain this key: it has characters other than printable ASCII")
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
