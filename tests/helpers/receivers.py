"""Receivers for tests, the rows that they wrote, and their recorded outcomes."""

from contextlib import suppress
from datetime import timedelta

import time_machine
from django.db import DatabaseError, connection
from django.utils import timezone

from tests.helpers.deliveries import stored
from tests.host.models import Effect


def effect_of(receiver):
    """Return a receiver that writes one Effect for each call, with ``receiver`` as its name."""

    def write(event, **arguments):
        Effect.objects.create(receiver=receiver, event_id=event.vendor_event_id)

    return write


def effects(receiver=None):
    """Return the event ids of all effects, or of one receiver's, sorted."""
    rows = Effect.objects.filter(receiver=receiver) if receiver else Effect.objects.all()
    return sorted(rows.values_list("event_id", flat=True))


def outcome(name):
    """Return the recorded outcome of a receiver of the only event."""
    return stored().receiver_results[name]


def later(seconds=3600):
    """Set the clock ``seconds`` ahead within the block."""
    return time_machine.travel(timezone.now() + timedelta(seconds=seconds), tick=True)


def lose_connection(**arguments):
    """Lose the database connection; a receiver."""
    connection.connection.close()
    connection.cursor().execute("SELECT 1")


def continue_after_a_failed_query(event, **arguments):
    """Write a row, and catch the error of a failed query; a receiver.

    PostgreSQL then rejects the rest of the transaction. Other databases go on, so the receiver itself raises there.
    """
    Effect.objects.create(receiver="harm" if connection.vendor == "postgresql" else "x", event_id="1")
    with suppress(DatabaseError):
        connection.cursor().execute("SELECT nonsense")
    if connection.vendor != "postgresql":
        raise LookupError


class Killed(BaseException):
    """Stands for the end of the process: no code of this project catches it."""
