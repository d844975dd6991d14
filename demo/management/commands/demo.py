"""demo: run the example project, a worker and fake vendors in one process, and play a story of webhooks."""

import errno
import math
import signal
import threading
from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from types import FrameType
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.db import connection, connections

from demo import story
from demo.database import PASSWORD, USER, locked, use_database
from demo.embedded import running_beat, running_worker
from demo.narrator import START_AFTER, Narrator
from demo.server import bind, running_server
from example_project.celery import app
from fake_vendors.site import Site, running_site

#: Sent by Ctrl-C and by service managers.
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)
LONGEST_PAUSE = 3600


def _port(text: str) -> int:
    if not (text.isdecimal() and int(text) < 65_536):
        raise ArgumentTypeError(f"{text!r} is not a port, a number from 0 (any free one) to 65535")
    return int(text)


def _pause(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds <= LONGEST_PAUSE:
        raise ArgumentTypeError(f"{text!r} is not a number of seconds from 0 to {LONGEST_PAUSE}")
    return seconds


class Command(BaseCommand):
    help = "Run the example project, a worker and fake vendors in this process, and play a story of webhooks."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--once", action="store_true", help="play the story without a browser, print a summary, and exit"
        )
        parser.add_argument("--port", type=_port, default=8000, help="the portal's port (default: 8000)")
        parser.add_argument("--pause", type=_pause, default=2.5, help="seconds between two events (default: 2.5)")
        parser.add_argument("--reset", action="store_true", help="start with an empty database")

    def handle(self, *, once: bool, port: int, pause: float, reset: bool, **options: Any) -> None:
        if connection.vendor != "sqlite" or not app.conf.broker_url.startswith("memory"):
            raise CommandError("The demo includes a database and a broker. Unset DATABASE_URL and CELERY_BROKER_URL.")
        stop = _stop_on_signals()
        with ExitStack() as running:
            # With a separate database and any free port, it can run beside a demo that somebody is watching.
            folder = Path(running.enter_context(TemporaryDirectory(prefix="bi-demo-")) if once else settings.DATA)
            running.enter_context(locked(folder))
            server = running.enter_context(bind(0 if once else port))
            has_earlier_events = use_database(folder, reset=reset)
            # Everything has to be ready before the first page is shown, which may be at once.
            narrator = Narrator(story.prepare(server.url), stop, self.stdout, self.style)
            site = Site(api_key=story.API_KEY, send=narrator.send_for_a_member)
            big_interview = running.enter_context(_running_on_port_or_any(site, 0 if once else port + 1))
            _change_settings(big_interview)
            running.enter_context(running_server(server))
            running.enter_context(running_worker(app))
            running.enter_context(running_beat(app))
            running.callback(connections.close_all)
            if once:
                narrator.play_once(server.url)
            else:
                self._print_introduction(server.url, big_interview, has_earlier_events)
                narrator.play_for_a_person(pause)

    def _print_introduction(self, portal: str, big_interview: str, has_earlier_events: bool) -> None:
        data = "kept from an earlier run; ARGS=--reset starts again" if has_earlier_events else "new"
        self.stdout.write(f"""
  Portal     {portal}/
  Admin      {portal}/admin/      log in as {USER} with password {PASSWORD}
  Students   go from their page in the portal to {big_interview}/, a fake Big Interview
  Data       {data}
  Running    web server, Celery worker and beat with a broker in memory, fakes of both vendors
  Fake       the vendors and their clocks: ten minutes take two seconds. Nothing leaves this machine.
  Stop       Ctrl-C

The story begins when you open the portal, or in {START_AFTER} seconds.
""")


def _stop_on_signals() -> threading.Event:
    stop = threading.Event()

    def on_signal(number: int, frame: FrameType | None) -> None:
        # Stopping takes a second or two, which a second Ctrl-C must not interrupt. Shortly before it exits, Python
        # removes its handlers, but it keeps ignoring a signal that is ignored.
        _handle_signals(signal.SIG_IGN)
        stop.set()

    _handle_signals(on_signal)
    return stop


def _handle_signals(handler: signal.Handlers | Callable[[int, FrameType | None], None]) -> None:
    for number in STOP_SIGNALS:
        signal.signal(number, handler)


@contextmanager
def _running_on_port_or_any(site: Site, port: int) -> Iterator[str]:
    with ExitStack() as running:
        try:
            url = running.enter_context(running_site(site, port))
        except OSError as error:
            if error.errno not in (errno.EADDRINUSE, errno.EACCES):
                raise
            url = running.enter_context(running_site(site))
        yield url


def _change_settings(big_interview: str) -> None:
    settings.BI_INTEGRATION = {**settings.BI_INTEGRATION, "BASE_URL": big_interview}
    settings.ROOT_URLCONF = "demo.urls"
    settings.EMAIL_BACKEND = "django.core.mail.backends.dummy.EmailBackend"
