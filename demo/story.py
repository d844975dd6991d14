"""The story that the fake vendors play: webhooks of a few students, including duplicates, late events and forgeries."""

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from demo.students import ensure_students
from demo.summary import Line, pending, summarize
from django_bi_integration.models import BigInterviewAccount, ReceivedEvent, WebhookRegistration
from django_bi_integration.vendors import BIG_INTERVIEW, INNOVATIVE_EDUCATORS
from fake_vendors import events
from fake_vendors.events import Event
from fake_vendors.vendors import Attempt, Vendor, big_interview, innovative_educators

#: The webhook key in Big Interview's documentation.
KEY = "935d85189822bf96c28c4fa79d3d8f31"
#: The API key of the fake Big Interview.
API_KEY = "19633c68b4a75c2f7be52d5b1c1a6e0d"
#: The fake Innovative Educators sends from this address, so that the allowlist distinguishes it from strangers.
VENDOR_ADDRESS = "127.0.0.2"
#: Turns the ten minutes between two attempts into two seconds.
TIME_SCALE = 300

#: What is printed about the events that members cause on the fake's own pages.
MEMBER_TEXTS = {
    "interview.created": "a student starts an interview at Big Interview",
    "interview.updated": "a student finishes an interview at Big Interview",
    "interview.deleted": "a student deletes an interview at Big Interview",
}


@dataclass(frozen=True)
class Step:
    """An event with its sender, the text that is printed about it, and whether it has to be rejected."""

    text: str
    vendor: Vendor
    event: Event
    is_forged: bool = False


@dataclass
class Played:
    """What has been sent so far, and the responses."""

    deliveries: list[str] = field(default_factory=list)
    accepted: int = 0
    forged: int = 0
    rejected: int = 0
    journeys: int = 0

    def add(self, step: Step, last: Attempt) -> None:
        if step.is_forged:
            self.forged += 1
            self.rejected += not last.delivered
        else:
            self.deliveries.append(step.event.event_id)
            self.accepted += last.delivered

    def pending(self) -> int:
        return pending(self.deliveries)

    def lines(self) -> list[Line]:
        return summarize(
            self.deliveries,
            accepted=self.accepted,
            forged=self.forged,
            rejected=self.rejected,
            journeys=self.journeys,
        )


@dataclass(frozen=True)
class Senders:
    """The fake vendors, and two strangers who send forged events."""

    big_interview: Vendor
    innovative_educators: Vendor
    wrong_key: Vendor
    foreign_address: Vendor


def prepare(site: str) -> Senders:
    """Register both vendors as an administrator would, and return fakes that post to ``site``."""
    account, _ = BigInterviewAccount.objects.get_or_create(subdomain="lanternfield")
    account.is_default = True
    account.set_api_key(API_KEY)
    account.save()
    interviews, _ = WebhookRegistration.objects.get_or_create(vendor=BIG_INTERVIEW.slug, name="Career centre")
    interviews.set_key(KEY)
    interviews.save()
    courses, _ = WebhookRegistration.objects.update_or_create(
        vendor=INNOVATIVE_EDUCATORS.slug,
        name="Orientation",
        defaults={"allowed_networks": [VENDOR_ADDRESS]},
    )
    ensure_students()
    interviews_url = site + interviews.get_absolute_url()
    courses_url = site + courses.get_absolute_url()
    return Senders(
        big_interview=big_interview(interviews_url, KEY, time_scale=TIME_SCALE),
        innovative_educators=innovative_educators(courses_url, source_address=VENDOR_ADDRESS, time_scale=TIME_SCALE),
        # Each attempt of a stranger is rejected, so the vendor's retries follow without a wait.
        wrong_key=big_interview(interviews_url, "0" * 32, time_scale=1e9),
        foreign_address=innovative_educators(courses_url, source_address="127.0.0.1", time_scale=1e9),
    )


def steps(senders: Senders, now: datetime) -> Iterator[Step]:
    """Yield the story. Each time it is played, its events have new ids."""
    number = int(now.timestamp() * 10) % 10_000_000
    yield from _interviews(senders.big_interview, number, now)
    yield from _course(senders.innovative_educators, now)
    yield from _forgeries(senders, number + 3, now)


def _interviews(vendor: Vendor, number: int, now: datetime) -> Iterator[Step]:
    mara, tobias, amina, *_ = ensure_students()

    def at(minutes: int) -> datetime:
        return now + timedelta(minutes=minutes)

    created = events.interview_created(number, mara.partner_id, at(-30), title="Top 10 Questions")
    yield Step(f"{mara.name} starts a practice interview", vendor, created)
    finished = events.interview_updated(number, mara.partner_id, at(-20), title="Top 10 Questions", completed=True)
    yield Step(f"{mara.name} finishes it", vendor, finished)
    started = events.interview_created(number + 1, tobias.partner_id, at(-15), title="Teaching Assistant")
    yield Step(f"{tobias.name} starts one", vendor, started)
    yield Step("Big Interview missed the response and sends it again", vendor, started)
    late = events.interview_updated(number + 2, amina.partner_id, at(-9), title="Nursing", completed=False)
    newer = events.interview_updated(number + 2, amina.partner_id, at(-5), title="Nursing", completed=True)
    yield Step(f"{amina.name} finishes an interview", vendor, newer)
    yield Step("an older update of that interview arrives late", vendor, late)
    deleted = events.interview_deleted(number + 1, tobias.partner_id)
    yield Step(f"{tobias.name} deletes the interview", vendor, deleted)


def _course(vendor: Vendor, now: datetime) -> Iterator[Step]:
    mara, *_ = ensure_students()
    minute_ago = now - timedelta(minutes=1)
    completed = events.course_completed(mara.external_id, mara.email, "New Student Orientation", minute_ago)
    yield Step(f"{mara.name} completes a course", vendor, completed)


def _forgeries(senders: Senders, number: int, now: datetime) -> Iterator[Step]:
    mara, _, amina, *_ = ensure_students()
    interview = events.interview_created(number, mara.partner_id, now, title="Forged")
    yield Step("a stranger tries a wrong key", senders.wrong_key, interview, is_forged=True)
    course = events.course_completed(amina.external_id, amina.email, "Forged", now)
    yield Step("a stranger posts a completion from elsewhere", senders.foreign_address, course, is_forged=True)


def play(
    senders: Senders, report: Callable[[Step, list[Attempt]], None], stop: threading.Event, pause: float
) -> Played:
    """Play the story, with ``pause`` seconds between two events, until it ends or ``stop`` is set."""
    played = Played()
    for step in steps(senders, datetime.now(UTC)):
        attempts = step.vendor.send(step.event, stop)
        if stop.is_set():
            break
        played.add(step, attempts[-1])
        report(step, attempts)
        if stop.wait(pause):
            break
    return played


def stored(event: Event) -> ReceivedEvent | None:
    """Return the row of an event that was sent, or None."""
    return ReceivedEvent.objects.with_vendor_event_id(event.event_id).first()
