"""demo: run the example project, a worker and fake vendors in one process, and play a story of webhooks."""

import errno
import math
import signal
import threading
import time
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
from django.utils import timezone

from demo import journey, story
from demo.database import PASSWORD, USER, locked, use_database
from demo.embedded import running_beat, running_worker
from demo.server import bind, page_requested, running_server
from demo.story import Played, Step
from demo.students import ensure_students
from demo.summary import Line
from demo.views import play_again
from example_project.celery import app
from fake_vendors.events import Event
from fake_vendors.site import Site, running_site
from fake_vendors.vendors import Attempt

#: Seconds after which the story begins even if nobody has opened the portal.
START_AFTER = 20
#: Seconds that the dispatch of one event, or of all, may take.
DEADLINE = 30
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
            raise CommandError("The demo has its own database and broker. Unset DATABASE_URL and CELERY_BROKER_URL.")
        self.stop = threading.Event()
        for number in STOP_SIGNALS:
            signal.signal(number, self._on_stop_signal)
        with ExitStack() as running:
            # With a separate database and any free port, it can run beside a demo that somebody is watching.
            folder = Path(running.enter_context(TemporaryDirectory(prefix="bi-demo-")) if once else settings.DATA)
            running.enter_context(locked(folder))
            server = running.enter_context(bind(0 if once else port))
            self.has_earlier_events = use_database(folder, reset=reset)
            # Everything has to be ready before the first page is shown, which may be at once.
            self.senders = story.prepare(server.url)
            big_interview = running.enter_context(self._running_big_interview(0 if once else port + 1))
            self._change_settings(big_interview)
            running.enter_context(running_server(server))
            running.enter_context(running_worker(app))
            running.enter_context(running_beat(app))
            running.callback(connections.close_all)
            self._play_once(server.url) if once else self._play_for_a_person(server.url, big_interview, pause)

    def _change_settings(self, big_interview: str) -> None:
        settings.BI_INTEGRATION = {**settings.BI_INTEGRATION, "BASE_URL": big_interview}
        settings.ROOT_URLCONF = "demo.urls"
        settings.EMAIL_BACKEND = "django.core.mail.backends.dummy.EmailBackend"

    @contextmanager
    def _running_big_interview(self, port: int) -> Iterator[str]:
        """Serve the fake's pages on this port, or on any free one if it is in use. Members' actions become webhooks."""
        self.from_members: list[tuple[Step, Attempt]] = []
        site = Site(api_key=story.API_KEY, send=self._send_for_a_member)
        with ExitStack() as running:
            try:
                url = running.enter_context(running_site(site, port))
            except OSError as error:
                if error.errno not in (errno.EADDRINUSE, errno.EACCES):
                    raise
                url = running.enter_context(running_site(site))
            yield url

    def _send_for_a_member(self, event: Event) -> None:
        step = Step(story.MEMBER_TEXTS[event.name], self.senders.big_interview, event)
        attempts = step.vendor.send(event, self.stop)
        try:
            self._report(step, attempts)
        finally:
            self.from_members.append((step, attempts[-1]))
            connections.close_all()  # This thread ends now.

    def _on_stop_signal(self, number: int, frame: FrameType | None) -> None:
        # Stopping takes a second or two, which a second Ctrl-C must not interrupt. Shortly before it exits, Python
        # removes its own handlers, but it keeps ignoring a signal that is ignored.
        for ending in STOP_SIGNALS:
            signal.signal(ending, signal.SIG_IGN)
        self.stop.set()

    def _play_for_a_person(self, portal: str, big_interview: str, pause: float) -> None:
        self._print_introduction(portal, big_interview)
        self._wait(page_requested.is_set, START_AFTER)
        while not self.stop.is_set():
            play_again.clear()
            played = story.play(self.senders, self._report, self.stop, pause)
            if not self.stop.is_set():
                self._finish(played)
                self.stdout.write("That was the story. A button on the portal plays it again; Ctrl-C ends the demo.")
                self.stdout.write(
                    "Your turn: on a student's page, sign in as that student and practise an interview.\n"
                )
            self._wait(play_again.is_set, None)
        self.stdout.write("\nStopping the worker, the vendors and the portal. What was received is kept.")

    def _print_introduction(self, portal: str, big_interview: str) -> None:
        data = "kept from an earlier run; ARGS=--reset starts again" if self.has_earlier_events else "new"
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

    def _play_once(self, portal: str) -> None:
        played = story.play(self.senders, self._report, self.stop, pause=0)
        if not self.stop.is_set():
            self._practise(portal, played)
        lines = self._finish(played)
        if self.stop.is_set() or not all(line.is_right for line in lines):
            raise CommandError("Not every event reached its receivers exactly once.")
        self.stdout.write(self.style.SUCCESS("Every event reached its receivers exactly once."))

    def _practise(self, portal: str, played: Played) -> None:
        """Let one student go to Big Interview, start and finish an interview there, and come back."""
        student = ensure_students()[0]
        try:
            page = journey.practise(portal, student)
        except (journey.MissingElement, OSError) as error:
            raise CommandError(f"{student} did not get to Big Interview and back: {error}") from error
        if page.url != portal + student.get_absolute_url():
            raise CommandError(f"{student} ended up at {page.url}.")
        played.journeys += 1
        self._wait(lambda: len(self.from_members) == journey.EVENTS, DEADLINE)
        for step, last in self.from_members:
            played.add(step, last)

    def _finish(self, played: Played) -> list[Line]:
        self._wait(lambda: not played.pending(), DEADLINE)
        lines = played.lines()
        self._print_summary(lines)
        return lines

    def _report(self, step: Step, attempts: list[Attempt]) -> None:
        last = attempts[-1]
        response = f"{last.status or last.error} {last.seconds * 1000:4.0f} ms"
        # The next event is sent after this one was dispatched, because the order decides which of them is stale.
        outcome = "rejected" if step.is_forged and not last.delivered else self._outcome(step)
        self.stdout.write(f"{timezone.localtime():%H:%M:%S}  {step.text:<54} {response} -> {outcome}")

    def _outcome(self, step: Step) -> str:
        def event() -> Any:
            return story.stored(step.event)

        self._wait(lambda: event() is not None and event().status != "pending", DEADLINE)
        row = event()
        if row is None:
            return "not stored"
        done = sum(result["status"] == "done" for result in row.receiver_results.values())
        duplicates = [f"{row.deliveries} deliveries, one event"] * (row.deliveries > 1)
        return ", ".join([f"{row.status}, {done} receivers", *duplicates, *["stale"] * row.is_stale])

    def _print_summary(self, lines: list[Line]) -> None:
        self.stdout.write(f"\n  {'':<38}{'found':>8}{'expected':>10}")
        for line in lines:
            text = f"  {line.name:<38}{line.found:>8}{line.expected:>10}"
            self.stdout.write(text if line.is_right else self.style.ERROR(text + "  wrong"))
        self.stdout.write("")

    def _wait(self, condition: Callable[[], bool], seconds: float | None) -> None:
        """Wait until the condition is true, the demo is stopped, or ``seconds`` have passed."""
        end = None if seconds is None else time.monotonic() + seconds
        while not condition() and (end is None or time.monotonic() < end):
            if self.stop.wait(0.05):
                return
