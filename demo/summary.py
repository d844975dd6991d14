"""Compare what was sent with what was stored and dispatched, and count the calls of each receiver."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from django_bi_integration.dispatch.receivers import receivers_of
from django_bi_integration.models import ReceivedEvent, SSOSession
from example_project.portal.models import Activity


@dataclass(frozen=True)
class Line:
    """One line of the summary, with the number that was found and the number that is expected."""

    name: str
    found: int
    expected: int

    @property
    def is_right(self) -> bool:
        return self.found == self.expected


def pending(event_ids: Iterable[str]) -> int:
    """Return how many of the events are not dispatched yet."""
    return ReceivedEvent.objects.filter(vendor_event_id__in=list(event_ids), status="pending").count()


def summarize(event_ids: list[str], *, accepted: int, forged: int, rejected: int, journeys: int) -> list[Line]:
    """Compare what was sent with the database.

    ``event_ids`` has one entry for each delivery, ``accepted`` of which were answered with success. Of the ``forged``
    deliveries, which have to be rejected, ``rejected`` were. ``journeys`` students visited Big Interview and came back.
    """
    deliveries = len(event_ids)
    sent = len(set(event_ids))
    events = list(ReceivedEvent.objects.filter(vendor_event_id__in=event_ids))
    lines = [
        Line("deliveries sent", deliveries, deliveries),
        Line("deliveries accepted", accepted, deliveries),
        Line("deliveries counted", sum(event.deliveries for event in events), deliveries),
        Line("strangers rejected", rejected, forged),
        Line("events sent", sent, sent),
        Line("events stored", len(events), sent),
        Line("events dispatched", sum(event.status == "dispatched" for event in events), sent),
    ]
    if journeys:
        returned = SSOSession.objects.filter(status="returned").count()
        lines.append(Line("students there and back", returned, journeys))
    return lines + _receiver_lines(events)


def _receiver_lines(events: list[ReceivedEvent]) -> list[Line]:
    """Compare the number of each receiver's events with the number of events that it was called for exactly once."""
    expected: Counter[str] = Counter()
    once: Counter[str] = Counter()
    calls = Counter(Activity.objects.filter(event__in=events).values_list("receiver", "event_id"))
    for event in events:
        for receiver in receivers_of(event):
            name = receiver.name.rsplit(".", 1)[-1]
            expected[name] += 1
            once[name] += calls[name, event.pk] == 1
    return [Line(f"{name}, once each", once[name], expected[name]) for name in sorted(expected)]
