"""The story that the fake vendors play: what a term looks like from the webhooks' side, trouble included."""

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from demo.reckoning import Line, pending, reckon
from django_bi_integration.models import BigInterviewAccount, ReceivedEvent, WebhookRegistration
from django_bi_integration.vendors import BIG_INTERVIEW, INNOVATIVE_EDUCATORS
from example_project.portal.students import ensure_students
from fake_vendors import events
from fake_vendors.events import Event
from fake_vendors.vendors import Attempt, Vendor, big_interview, innovative_educators

#: The key of Big Interview's documentation.
KEY = "935d85189822bf96c28c4fa79d3d8f31"
#: The key to the fake Big Interview's Partner API.
API_KEY = "19633c68b4a75c2f7be52d5b1c1a6e0d"
#: The fake Innovative Educators calls from an address of its own, so that the allowlist means something.
VENDOR_ADDRESS = "127.0.0.2"
#: Ten minutes between two attempts become two seconds.
TIME_SCALE = 300


#: What is told of the events that members make at the fake Big Interview itself.
MEMBER_TEXTS = {
    "interview.created": "a student starts an interview at Big Interview",
    "interview.updated": "a student finishes an interview at Big Interview",
    "interview.deleted": "a student deletes an interview at Big Interview",
}


@dataclass(frozen=True)
class Step:
    """One event on its way: what a person watches, who sends it, and whether it must be let in."""

    text: str
    vendor: Vendor
    event: Event
    is_rejected: bool = False


@dataclass
class Played:
    """What was sent so far, and how it was answered."""

    deliveries: list[str] = field(default_factory=list)
    accepted: int = 0
    rejections: int = 0
    rejected: int = 0
    journeys: int = 0

    def add(self, step: Step, last: Attempt) -> None:
        if step.is_rejected:
            self.rejections += 1
            self.rejected += not last.delivered
        else:
            self.deliveries.append(step.event.event_id)
            self.accepted += last.delivered

    def pending(self) -> int:
        return pending(self.deliveries)

    def lines(self) -> list[Line]:
        return reckon(
            self.deliveries, len(self.deliveries), self.accepted, self.rejections, self.rejected, self.journeys
        )


@dataclass(frozen=True)
class Senders:
    """The fake vendors with their registrations, and two strangers."""

    big_interview: Vendor
    innovative_educators: Vendor
    wrong_key: Vendor
    foreign_address: Vendor


def prepare(site: str) -> Senders:
    """Register both vendors, as an administrator would, and have their fakes call ``site``."""
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
        # A stranger is rejected at each of the vendor's attempts: nobody wants to wait for all of them.
        wrong_key=big_interview(interviews_url, "0" * 32, time_scale=1e9),
        foreign_address=innovative_educators(courses_url, source_address="127.0.0.1", time_scale=1e9),
    )


def steps(senders: Senders, now: datetime) -> Iterator[Step]:
    """The story, with new ids each time it is told."""
    sam, riley, jo, *_ = ensure_students()
    interviews = senders.big_interview
    number = int(now.timestamp() * 10) % 10_000_000

    def at(minutes: int) -> datetime:
        return now + timedelta(minutes=minutes)

    created = events.interview_created(number, sam.partner_id, at(-30), title="Top 10 Questions")
    yield Step(f"{sam.name} starts a practice interview", interviews, created)
    yield Step(
        f"{sam.name} finishes it",
        interviews,
        events.interview_updated(number, sam.partner_id, at(-20), title="Top 10 Questions", completed=True),
    )
    started = events.interview_created(number + 1, riley.partner_id, at(-15), title="Teaching Assistant")
    yield Step(f"{riley.name} starts one", interviews, started)
    yield Step("Big Interview missed our answer and sends that again", interviews, started)
    late = events.interview_updated(number + 2, jo.partner_id, at(-9), title="Nursing", completed=False)
    yield Step(
        f"{jo.name} finishes an interview",
        interviews,
        events.interview_updated(number + 2, jo.partner_id, at(-5), title="Nursing", completed=True),
    )
    yield Step("an older update of that interview arrives late", interviews, late)
    yield Step(
        f"{riley.name} deletes the interview", interviews, events.interview_deleted(number + 1, riley.partner_id)
    )
    yield Step(
        f"{sam.name} completes a course",
        senders.innovative_educators,
        events.course_completed(sam.external_id, sam.email, "New Student Orientation", at(-1)),
    )
    yield Step(
        "a stranger tries with a wrong key",
        senders.wrong_key,
        events.interview_created(number + 3, sam.partner_id, now, title="Forged"),
        is_rejected=True,
    )
    yield Step(
        "a stranger posts a completion from elsewhere",
        senders.foreign_address,
        events.course_completed(jo.external_id, jo.email, "Forged", now),
        is_rejected=True,
    )


def play(senders: Senders, tell: Callable[[Step, list[Attempt]], None], stop: threading.Event, pause: float) -> Played:
    """Play the story, ``pause`` seconds between two events, until it ends or ``stop`` is set."""
    played = Played()
    for step in steps(senders, datetime.now(UTC)):
        attempts = step.vendor.send(step.event, stop)
        if stop.is_set():
            break
        played.add(step, attempts[-1])
        tell(step, attempts)
        if stop.wait(pause):
            break
    return played


def stored(event: Event) -> ReceivedEvent | None:
    """The row of an event that was sent."""
    return ReceivedEvent.objects.with_vendor_event_id(event.event_id).first()
