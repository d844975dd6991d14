"""Receivers whose effects can be counted, and one that fails in the way that the event's title names."""

import os
import time

from django.db import connection
from django.db.models import F
from django.dispatch import receiver

from django_bi_integration.signals import event_received
from tests.chaos.models import Count, Seen


@receiver(event_received, dispatch_uid="count")
def count(event, **arguments):
    Count.objects.filter(name="events").update(value=F("value") + 1)


@receiver(event_received, dispatch_uid="harm")
def harm(event, data, **arguments):
    deeds = {"raise": fail, "hang": hang, "exit": end_process, "lose connection": lose_connection}
    deeds.get(getattr(data, "title", None), lambda: None)()


@receiver(event_received, dispatch_uid="see")
def see(event, **arguments):
    Seen.objects.create(event_id=event.vendor_event_id)


def fail():
    raise LookupError("as asked")


def hang():
    time.sleep(600)


def end_process():
    os._exit(1)


def lose_connection():
    connection.connection.close()
    connection.cursor().execute("SELECT 1")


async def in_a_coroutine(event, data, **arguments):
    await Seen.objects.acreate(event_id=event.vendor_event_id)
    if getattr(data, "title", None) == "raise in a coroutine":
        fail()


if os.environ.get("TEST_STACK_COROUTINES"):
    event_received.connect(in_a_coroutine, dispatch_uid="in a coroutine")
