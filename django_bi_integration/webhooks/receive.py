"""Receive a delivery: parse its body into an event, store the event once, and notify a worker."""

from datetime import datetime, timedelta

from django.db import transaction
from django.utils import timezone

from django_bi_integration import vendors
from django_bi_integration.dispatch.notify import notify_worker
from django_bi_integration.json_body import read_object
from django_bi_integration.models import ReceivedEvent, WebhookRegistration
from django_bi_integration.models.event import digest
from django_bi_integration.text import clean
from django_bi_integration.webhooks.rejections import NotAnObject
from django_bi_integration.webhooks.store import store_once

#: How far a vendor's time may be ahead of the time of receipt, because clocks and time zones differ. A time that is
#: further ahead, by mistake or forged, would make every later event of its object stale.
MAX_AHEAD = timedelta(days=1)


def receive(
    registration: WebhookRegistration,
    body: bytes,
    *,
    origin: ReceivedEvent.Origin = ReceivedEvent.Origin.WEBHOOK,
    expected_row: str | None = None,
) -> None:
    """Store the event in ``body`` durably and once, then notify a worker.

    ``expected_row`` is the registration's row as it was cached; see ``store_once``.

    Raise NotAnObject if the body is not a JSON object, RegistrationChanged if the registration's row differs from
    ``expected_row``, and ``django.db.Error`` if the event could not be stored.
    """
    store_once(parse_event(registration, body, origin=origin), expected_row)
    # A duplicate notifies as well: the first delivery's notification may have been lost. It is robust because the event
    # is stored by now, even if the machine cannot start the thread that sends the notification.
    transaction.on_commit(notify_worker, robust=True)


def parse_event(
    registration: WebhookRegistration, body: bytes, *, origin: str, received_at: datetime | None = None
) -> ReceivedEvent:
    """Return the event in ``body``, not stored yet. Raise NotAnObject if the body is not a JSON object."""
    try:
        parsed = vendors.VENDORS[registration.vendor].read(read_object(body))
    except ValueError as error:
        raise NotAnObject from error
    received_at = received_at or timezone.now()
    identity = ("id", parsed.event_id) if parsed.event_id else ("body", body.hex())
    return ReceivedEvent(
        registration=registration,
        vendor=registration.vendor,
        vendor_event_id=clean(parsed.event_id or "", 255),
        event_digest=digest(*identity),
        event_type=clean(parsed.event_type, 100),
        subject_id=clean(parsed.subject_id, 255),
        object_type=clean(parsed.object_type, 100),
        object_id=clean(parsed.object_id, 255),
        object_key=digest(str(registration.pk), *parsed.object_key) if parsed.object_key else None,
        occurred_at=parsed.occurred_at and min(parsed.occurred_at, received_at + MAX_AHEAD),
        received_at=received_at,
        last_delivery_at=received_at,
        next_attempt_at=received_at,
        origin=origin,
        body=body,
    )
