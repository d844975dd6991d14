"""Receivers for tests, what they wrote, and what was recorded about them."""

from contextlib import suppress
from datetime import timedelta

import time_machine
from django.db import DatabaseError, connection
from django.utils import timezone

from tests.helpers.deliveries import stored
from tests.host.models import Effect


def effect_of(receiver):
    """A receiver that writes one row a call."""

    def write(event, **arguments):
        Effect.objects.create(receiver=receiver, event_id=event.vendor_event_id)

    return write


def effects(receiver=None):
    rows = Effect.objects.filter(receiver=receiver) if receiver else Effect.objects.all()
    return sorted(rows.values_list("event_id", flat=True))


def outcome(name):
    return stored().receiver_results[name]


def later(seconds=3600):
    """The clock as it will be."""
    return time_machine.travel(timezone.now() + timedelta(seconds=seconds), tick=True)


def lose_connection(**arguments):
    connection.connection.close()
    connection.cursor().execute("SELECT 1")


def continue_after_a_failed_query(event, **arguments):
    """PostgreSQL takes no more of the transaction; the others have done what they could not, and know of no harm."""
    Effect.objects.create(receiver="harm" if connection.vendor == "postgresql" else "x", event_id="1")
    with suppress(DatabaseError):
        connection.cursor().execute("SELECT nonsense")
    if connection.vendor != "postgresql":
        raise LookupError


class Killed(BaseException):
    """As if the process had ended here: nothing of ours catches it."""
