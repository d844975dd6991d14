"""Plays the story and prints what happens to each event."""

import threading
import time
from collections.abc import Callable
from typing import Any

from django.core.management.base import CommandError, OutputWrapper
from django.core.management.color import Style
from django.db import connections
from django.utils import timezone

from demo import journey, story
from demo.server import page_requested
from demo.story import Played, Senders, Step
from demo.students import ensure_students
from demo.summary import Line
from demo.views import play_again
from fake_vendors.events import Event
from fake_vendors.vendors import Attempt

#: Seconds after which the story begins even if nobody has opened the portal.
START_AFTER = 20
#: Seconds that the dispatch of one event, or of all, may take.
DEADLINE = 30


class Narrator:
    def __init__(self, senders: Senders, stop: threading.Event, stdout: OutputWrapper, style: Style) -> None:
        self.senders = senders
        self.stop = stop
        self.stdout = stdout
        self.style = style
        self.from_members: list[tuple[Step, Attempt]] = []

    def play_for_a_person(self, pause: float) -> None:
        """Play the story when somebody opens the portal, and again whenever they press the button, until ``stop``."""
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

    def play_once(self, portal: str) -> None:
        """Play the story, let a student practise, and raise CommandError unless all went as expected."""
        played = story.play(self.senders, self._report, self.stop, pause=0)
        if not self.stop.is_set():
            self._practise(portal, played)
        lines = self._finish(played)
        if self.stop.is_set() or not all(line.is_right for line in lines):
            raise CommandError("Not every event reached its receivers exactly once.")
        self.stdout.write(self.style.SUCCESS("Every event reached its receivers exactly once."))

    def send_for_a_member(self, event: Event) -> None:
        """Send an event that a member caused on the pages of the fake Big Interview."""
        step = Step(story.MEMBER_TEXTS[event.name], self.senders.big_interview, event)
        attempts = step.vendor.send(event, self.stop)
        try:
            self._report(step, attempts)
        finally:
            self.from_members.append((step, attempts[-1]))
            connections.close_all()  # This thread ends now.

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
        """Wait until everything is dispatched, then print and return the summary."""
        self._wait(lambda: not played.pending(), DEADLINE)
        lines = played.lines()
        self.stdout.write(f"\n  {'':<38}{'found':>8}{'expected':>10}")
        for line in lines:
            text = f"  {line.name:<38}{line.found:>8}{line.expected:>10}"
            self.stdout.write(text if line.is_right else self.style.ERROR(text + "  wrong"))
        self.stdout.write("")
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

    def _wait(self, condition: Callable[[], bool], seconds: float | None) -> None:
        """Wait until the condition is true, ``stop`` is set, or ``seconds`` have passed."""
        end = None if seconds is None else time.monotonic() + seconds
        while not condition() and (end is None or time.monotonic() < end):
            if self.stop.wait(0.05):
                return
