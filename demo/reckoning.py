"""What became of the story: sent, accepted, stored, dispatched, and how often each receiver was called."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from django_bi_integration.dispatch.receivers import receivers_of
from django_bi_integration.models import ReceivedEvent, SSOSession
from example_project.portal.models import Activity


@dataclass(frozen=True)
class Line:
    """One line of the summary; ``wanted`` is what it must say for the story to have gone well."""

    name: str
    found: int
    wanted: int

    @property
    def is_right(self) -> bool:
        return self.found == self.wanted


def pending(event_ids: Iterable[str]) -> int:
    """How many of the events are not dispatched yet."""
    return ReceivedEvent.objects.filter(vendor_event_id__in=list(event_ids), status="pending").count()


def reckon(
    event_ids: Iterable[str], deliveries: int, accepted: int, rejections: int, rejected: int, journeys: int
) -> list[Line]:
    """Compare what was sent with what is in the database, event by event and receiver by receiver.

    ``deliveries`` of the events were made and ``accepted`` of them answered with success; ``rejections`` more
    were made that must be rejected, and ``rejected`` of them were. ``journeys`` students
     went to Big Interview and back.
    """
    events = list(ReceivedEvent.objects.filter(vendor_event_id__in=list(event_ids)))
    wanted = len(set(event_ids))
    lines = [
        Line("deliveries sent", deliveries, deliveries),
        Line("deliveries accepted", accepted, deliveries),
        Line("deliveries counted", sum(event.deliveries for event in events), deliveries),
        Line("strangers rejected", rejected, rejections),
        Line("events sent", wanted, wanted),
        Line("events stored", len(events), wanted),
        Line("events dispatched", sum(event.status == "dispatched" for event in events), wanted),
    ]
    if journeys:
        returned = SSOSession.objects.filter(status="returned").count()
        lines.append(Line("students there and back", returned, journeys))
    return lines + _receiver_lines(events)


def _receiver_lines(events: list[ReceivedEvent]) -> list[Line]:
    """For each receiver, the number of its events that it was called for exactly once."""
    wanted: Counter[str] = Counter()
    once: Counter[str] = Counter()
    calls = Counter(Activity.objects.filter(event__in=events).values_list("receiver", "event_id"))
    for event in events:
        for receiver in receivers_of(event):
            name = receiver.name.rsplit(".", 1)[-1]
            wanted[name] += 1
            once[name] += calls[name, event.pk] == 1
    return [Line(f"{name}, once each", once[name], wanted[name]) for name in sorted(wanted)]
