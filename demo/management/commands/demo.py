"""demo: the portal with fake vendors that play a story, in one process."""

import errno
import fcntl
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
from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError
from django.db import connection, connections
from django.utils import timezone

from demo import journey, story
from demo.embedded import running_beat, running_worker
from demo.reckoning import Line
from demo.server import running_server, somebody_looks, take_port
from demo.story import Played, Step
from demo.views import play_again
from django_bi_integration.models import ReceivedEvent
from example_project.celery import app
from example_project.portal.students import ensure_students
from fake_vendors.events import Event
from fake_vendors.site import Site, running_site
from fake_vendors.vendors import Attempt

#: Known to all: the demo listens on this machine alone.
USER = PASSWORD = "demo"  # noqa: S105
#: Seconds after which the story begins although nobody has opened the portal.
PATIENCE = 20
#: Seconds that the dispatch of one event, or of all, may take before something is wrong.
DEADLINE = 30
#: What Ctrl-C and a service manager send.
ENDINGS = (signal.SIGINT, signal.SIGTERM)
#: Seconds after which nobody is watching any more.
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
    help = "Run the portal with a worker and fake vendors in this process, and play a story of webhooks."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--once", action="store_true", help="play without a person, print the sums, end")
        parser.add_argument("--port", type=_port, default=8000, help="the portal's port (default: 8000)")
        parser.add_argument("--pause", type=_pause, default=2.5, help="seconds between two events (default: 2.5)")
        parser.add_argument("--reset", action="store_true", help="begin with an empty database")

    def handle(self, *, once: bool, port: int, pause: float, reset: bool, **options: Any) -> None:
        if connection.vendor != "sqlite" or not app.conf.broker_url.startswith("memory"):
            raise CommandError("The demo brings its own database and broker: unset DATABASE_URL and CELERY_BROKER_URL.")
        self.stop = threading.Event()
        for number in ENDINGS:
            signal.signal(number, self._end)
        with ExitStack() as running:
            # On an own database and a free port, it can run beside a demo that somebody is watching.
            folder = Path(running.enter_context(TemporaryDirectory(prefix="bi-demo-")) if once else settings.DATA)
            running.enter_context(self._holding(folder))
            server = running.enter_context(take_port(0 if once else port))
            self._use_database(folder, reset=reset)
            # All of this before the first page is shown, which may be at once.
            self.senders = story.prepare(server.url)
            big_interview = running.enter_context(self._running_big_interview(0 if once else port + 1))
            settings.BI_INTEGRATION = {**settings.BI_INTEGRATION, "BASE_URL": big_interview}
            settings.PORTAL_OPEN_SIGN_IN = True
            settings.PORTAL_PLAY_URL = "/play/"
            running.enter_context(running_server(server))
            running.enter_context(running_worker(app))
            running.enter_context(running_beat(app))
            running.callback(connections.close_all)
            self._play_once(server.url) if once else self._play_for_a_person(server.url, big_interview, pause)

    @contextmanager
    def _holding(self, folder: Path) -> Iterator[None]:
        """Keep other demos away from the data, which one alone can use; the system lets go of it with the process."""
        with (folder / "lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise CommandError(
                    f"Another demo is using {folder}: end it first, or play beside it with make demo ONCE=1"
                ) from error
            yield

    @contextmanager
    def _running_big_interview(self, port: int) -> Iterator[str]:
        """The fake's pages, on that port or else on a free one; what its members do there comes back as webhooks."""
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
            self._tell(step, attempts)
        finally:
            self.from_members.append((step, attempts[-1]))
            connections.close_all()  # this thread is not asked again

    def _end(self, number: int, frame: FrameType | None) -> None:
        # The end takes a second or two, and pressing again must not cut it short. Python itself forgets its own
        # handlers shortly before it exits, but not that a signal is ignored.
        for ending in ENDINGS:
            signal.signal(ending, signal.SIG_IGN)
        self.stop.set()

    def _use_database(self, folder: Path, *, reset: bool) -> None:
        file = folder / "db.sqlite3"
        if reset:
            for name in ("", "-wal", "-shm"):
                file.with_name(file.name + name).unlink(missing_ok=True)
        connection.close()
        connections.settings["default"]["NAME"] = str(file)
        call_command("migrate", verbosity=0)
        is_kept = ReceivedEvent.objects.exists()
        self.data = "kept from last time; ARGS=--reset begins anew" if is_kept else "new"
        user, _ = get_user_model().objects.get_or_create(
            username=USER, defaults={"is_staff": True, "is_superuser": True}
        )
        user.set_password(PASSWORD)
        user.save()

    def _play_for_a_person(self, portal: str, big_interview: str, pause: float) -> None:
        self._print_where(portal, big_interview)
        self._wait(somebody_looks.is_set, PATIENCE)
        while not self.stop.is_set():
            play_again.clear()
            played = story.play(self.senders, self._tell, self.stop, pause)
            if not self.stop.is_set():
                self._finish(played)
                self.stdout.write("That was the story. A button on the portal plays it again; Ctrl-C ends the demo.")
                self.stdout.write("Now you: on a student's page, sign in as that student and practise an interview.\n")
            self._wait(play_again.is_set, None)
        self.stdout.write("\nEnding: worker, vendors and portal. What was received is kept.")

    def _print_where(self, portal: str, big_interview: str) -> None:
        self.stdout.write(f"""
  Portal     {portal}/
  Admin      {portal}/admin/      log in as {USER} with password {PASSWORD}
  Students   go from their page in the portal to {big_interview}/, a fake Big Interview
  Data       {self.data}
  Running    web server, Celery worker and beat on a broker in memory, both vendors' fakes
  Fake       the vendors, and their clocks: ten minutes take two seconds. Nothing leaves this machine.
  Stop       Ctrl-C

The story begins when you open the portal, or in {PATIENCE} seconds.
""")

    def _play_once(self, portal: str) -> None:
        played = story.play(self.senders, self._tell, self.stop, pause=0)
        if not self.stop.is_set():
            self._practise(portal, played)
        lines = self._finish(played)
        if self.stop.is_set() or not all(line.is_right for line in lines):
            raise CommandError("Not every event reached its receivers exactly once.")
        self.stdout.write(self.style.SUCCESS("Every event reached its receivers exactly once."))

    def _practise(self, portal: str, played: Played) -> None:
        """One student goes to Big Interview, starts and finishes an interview there, and comes back."""
        student = ensure_students()[0]
        try:
            page = journey.practise(portal, student)
        except (journey.LostWay, OSError) as error:
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
        self._print_sums(lines)
        return lines

    def _tell(self, step: Step, attempts: list[Attempt]) -> None:
        last = attempts[-1]
        answer = f"{last.status or last.error} {last.seconds * 1000:4.0f} ms"
        # Stale or not is decided by what was dispatched before: the next event waits for this one.
        outcome = "rejected" if step.is_rejected and not last.delivered else self._outcome(step)
        self.stdout.write(f"{timezone.localtime():%H:%M:%S}  {step.text:<54} {answer} -> {outcome}")

    def _outcome(self, step: Step) -> str:
        def event() -> Any:
            return story.stored(step.event)

        self._wait(lambda: event() is not None and event().status != "pending", DEADLINE)
        row = event()
        if row is None:
            return "not stored"
        done = sum(result["status"] == "done" for result in row.receiver_results.values())
        repeated = [f"{row.deliveries} deliveries, one event"] * (row.deliveries > 1)
        return ", ".join([f"{row.status}, {done} receivers", *repeated, *["stale"] * row.is_stale])

    def _print_sums(self, lines: list[Line]) -> None:
        self.stdout.write(f"\n  {'':<38}{'is':>4}{'must be':>9}")
        for line in lines:
            text = f"  {line.name:<38}{line.found:>4}{line.wanted:>9}"
            self.stdout.write(text if line.is_right else self.style.ERROR(text + "  wrong"))
        self.stdout.write("")

    def _wait(self, condition: Callable[[], bool], seconds: float | None) -> None:
        """Wait until the condition is true, the demo is to end, or ``seconds`` are over."""
        end = None if seconds is None else time.monotonic() + seconds
        while not condition() and (end is None or time.monotonic() < end):
            if self.stop.wait(0.05):
                return
