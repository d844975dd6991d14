"""The receivers that are connected to the signals, and those that an event has."""

import logging
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial

from django.dispatch import Signal

from django_bi_integration.dispatch.async_receivers import wait_for
from django_bi_integration.events import EventData
from django_bi_integration.models import ReceivedEvent
from django_bi_integration.signals import BY_EVENT_TYPE, event_received
from django_bi_integration.text import clean

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Receiver:
    """A function that is connected to one of the signals; ``name`` is its dotted path or ``dispatch_uid``."""

    name: str
    signal: Signal
    function: Callable[..., object]
    is_async: bool

    def call(self, event: ReceivedEvent, data: EventData | None) -> None:
        call = partial(self.function, signal=self.signal, sender=ReceivedEvent, event=event, data=data)
        if self.is_async:
            wait_for(call)
        else:
            call()


def receivers_of(event: ReceivedEvent) -> list[Receiver]:
    """Return the receivers of the event's own signal, in the order of their connection, then those of every event."""
    own = BY_EVENT_TYPE.get(event.event_type)
    found = [*(_connected(own) if own else ()), *_connected(event_received)]
    seen: dict[str, int] = {}
    for index, receiver in enumerate(found):
        seen[receiver.name] = seen.get(receiver.name, 0) + 1
        if seen[receiver.name] > 1:
            found[index] = replace(receiver, name=f"{receiver.name} #{seen[receiver.name]}")
    return found


def all_receivers() -> list[Receiver]:
    """Return every receiver that is connected to one of the signals for events, in the order of their names."""
    found = {
        receiver.name: receiver
        for signal in {*BY_EVENT_TYPE.values(), event_received}
        for receiver in _connected(signal)
    }
    return [found[name] for name in sorted(found)]


def _connected(signal: Signal) -> Iterator[Receiver]:
    # Signal.send_robust() does not report which receiver is which; the list that it iterates over does.
    for (uid, sender_id), reference, *_, is_async in list(signal.receivers):
        if sender_id not in (id(None), id(ReceivedEvent)):
            continue
        function = reference() if isinstance(reference, weakref.ReferenceType) else reference
        if function is not None:
            name = uid if isinstance(uid, str) else _dotted_path(function)
            yield Receiver(clean(name, 200), signal, function, is_async)


def _dotted_path(function: Callable[..., object]) -> str:
    named = function.func if isinstance(function, partial) else function
    if not hasattr(named, "__qualname__"):
        named = type(named)
    return f"{named.__module__}.{named.__qualname__}"
