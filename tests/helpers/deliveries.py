"""Registrations, deliveries in the form of each vendor, and receivers that record their calls."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from django.dispatch import Signal
from django.test import Client

from django_bi_integration.models import ReceivedEvent, WebhookRegistration
from django_bi_integration.vendors import BIG_INTERVIEW, INNOVATIVE_EDUCATORS

SAMPLES = Path(__file__).parent.parent / "samples"
CREATED = (SAMPLES / "big_interview_created.json").read_bytes()
COMPLETED = (SAMPLES / "innovative_educators_completion.json").read_bytes()
COMPLETED_WITH_COMMENTS = (SAMPLES / "innovative_educators_completion_with_comments.txt").read_bytes()

KEY = "935d85189822bf96c28c4fa79d3d8f31"
VENDOR_ADDRESS = "54.243.7.71"

#: The headers of "Handling webhooks" in Big Interview's partner documentation.
BIG_INTERVIEW_HEADERS = {
    "accept": "*/*; q=0.5, application/xml",
    "accept-encoding": "gzip, deflate",
    "cache-control": "no-cache",
    "connection": "close",
    "user-agent": "BigInterview/1.0",
}


def registration(vendor: str = BIG_INTERVIEW.slug, key: str = KEY, networks: tuple[str, ...] = ()) -> Any:
    """Store a registration that requires the given key and networks, and return it."""
    made = WebhookRegistration(name="Test", vendor=vendor, allowed_networks=list(networks))
    if key:
        made.set_key(key)
    made.save()
    return made


def big_interview() -> Any:
    """Store a registration for Big Interview that requires ``KEY``."""
    return registration()


def innovative_educators() -> Any:
    """Store a registration for Innovative Educators that allows its published addresses."""
    return registration(INNOVATIVE_EDUCATORS.slug, "", INNOVATIVE_EDUCATORS.default_networks)


def deliver(to: WebhookRegistration, body: bytes | str = CREATED, key: str | None = KEY, **request: Any) -> Any:
    """POST a body to the registration's URL with Big Interview's headers, and return the response."""
    headers = {**BIG_INTERVIEW_HEADERS, **({} if key is None else {"authorization": key}), **request.pop("headers", {})}
    path = request.pop("path", None) or to.get_absolute_url()
    body = body.encode() if isinstance(body, str) else body
    request = {"content_type": "application/json; charset=utf-8", "CONTENT_LENGTH": str(len(body)), **request}
    return Client(raise_request_exception=False).generic("POST", path, body, headers=headers, **request)


def deliver_completion(to: WebhookRegistration, body: bytes | str = COMPLETED, **request: Any) -> Any:
    """POST a body without a key from a published address of Innovative Educators, and return the response."""
    return deliver(to, body, None, **{"REMOTE_ADDR": VENDOR_ADDRESS, **request})


def interview_event(
    event_id: str, name: str = "interview.updated", interview: str = "95607", at: str = "2015-05-18T16:37:13.000Z"
) -> bytes:
    """Return the body of the documented sample with another event id, type, interview and time."""
    document = BIG_INTERVIEW.sample(name, event_id, "abc123")
    document["webhook"]["api_id"] = interview
    if document["webhook"]["api_object"]:
        document["webhook"]["api_object"].update(id=int(interview), updated_at=at)
    return json.dumps(document).encode()


def stored() -> ReceivedEvent:
    """Return the only event; raise an error unless there is exactly one."""
    return ReceivedEvent.objects.get()


@contextmanager
def subscribed(signal: Signal, receiver: Callable[..., object], **options: Any) -> Iterator[None]:
    """Connect a receiver to a signal within the block."""
    signal.connect(receiver, weak=False, **options)
    try:
        yield
    finally:
        signal.disconnect(receiver, **options)


class Recorder:
    """A receiver that records its calls."""

    def __init__(self) -> None:
        self.calls: list[dict[str, Any]] = []

    def __call__(self, **arguments: Any) -> None:
        self.calls.append(arguments)

    @property
    def events(self) -> list[str]:
        """Return the vendor's id of each received event."""
        return [call["event"].vendor_event_id for call in self.calls]

    @property
    def data(self) -> Any:
        """Return the ``data`` argument of the only call."""
        (call,) = self.calls
        return call["data"]
