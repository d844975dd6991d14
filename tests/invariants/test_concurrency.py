"""Concurrency: requests that race for the same event, and workers that race for the same interview."""

import random
import threading
from collections import Counter as Tally
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
import time_machine
from django.db import connection, connections
from django.db.models import F
from django.utils import timezone

from django_bi_integration.dispatch.queue import claim
from django_bi_integration.dispatch.worker import dispatch, dispatch_pending
from django_bi_integration.models import ObjectState, ReceivedEvent
from django_bi_integration.signals import event_received
from django_bi_integration.webhooks.receive import receive
from tests.helpers.deliveries import big_interview, deliver, interview_event, stored, subscribed
from tests.helpers.snapshot import open_transaction
from tests.helpers.waiting import wait_until
from tests.host.models import Counter, Effect, Note

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.database]

WORKERS = 4


def together(*calls):
    """Run each call in a separate thread, start all at the same instant, and return their results."""
    barrier = threading.Barrier(len(calls))

    def run(call):
        barrier.wait()
        try:
            return call()
        finally:
            connections.close_all()

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(run, calls))


def test_twenty_concurrent_deliveries_of_one_event_are_one_row(monkeypatch):
    """Invariant 3: the unique key ensures it, not a SELECT before the INSERT."""
    monkeypatch.setattr("django_bi_integration.webhooks.store.MAX_WAIT", 30)  # seconds; also enough on a slow machine
    to = big_interview()
    assert together(*[lambda: deliver(to).status_code] * 20) == [200] * 20
    assert stored().deliveries == 20


def test_concurrent_workers_call_each_receiver_once():
    to = big_interview()
    for number in range(40):
        receive(to, interview_event(str(number), interview=str(number % 10)))

    def effect(event, **arguments):
        Effect.objects.create(receiver="one", event_id=event.vendor_event_id)

    with subscribed(event_received, effect):
        together(*[dispatch_pending] * WORKERS)
        wait_until(lambda: dispatch_pending() is not None and not pending())
    assert sorted(map(int, Effect.objects.values_list("event_id", flat=True))) == list(range(40))


def pending():
    """Return the number of pending events."""
    return ReceivedEvent.objects.filter(status="pending").count()


def expected_states(events):
    """Return the newest time of each interview, and whether it was deleted."""
    states = {}
    for interview, name, at, _ in events:
        newest, deleted = states.get(interview, ("", False))
        states[interview] = (newest, True) if name == "interview.deleted" else (max(newest, at), deleted)
    return states


def shuffled_events(interviews, each, seed):
    """Return ``each`` events of several interviews in random order: (interview, name, time, body)."""
    made = []
    for interview in range(interviews):
        for step in range(each):
            name = "interview.created" if step == 0 else "interview.updated"
            if step == each - 1 and interview % 3 == 0:
                name = "interview.deleted"
            at = f"2020-01-01T{step // 60:02}:{step % 60:02}:00.000Z"
            body = interview_event(f"{interview}-{step}", name, str(interview), at)
            made.append((str(interview), name, at, body))
    random.Random(seed).shuffle(made)
    return made


@pytest.mark.parametrize("size", [(10, 10), pytest.param((50, 40), marks=pytest.mark.slow)], ids=["small", "large"])
def test_shuffled_events_of_an_interview_are_dispatched_one_at_a_time(size, request):
    """Invariant 7. An event is stale exactly if a newer one, or the deletion, was dispatched before it."""
    if connection.vendor == "sqlite" and size != (10, 10):
        pytest.skip("SQLite has one writer at a time anyway")
    events = shuffled_events(*size, seed=7)
    to = big_interview()
    running, overlaps, order = Tally(), [], []
    lock = threading.Lock()

    def watch(event, **arguments):
        with lock:
            running[event.object_id] += 1
            if running[event.object_id] > 1:
                overlaps.append(event)
            order.append((event.object_id, event.event_type, event.occurred_at, event.is_stale))
        Effect.objects.create(receiver="watch", event_id=event.vendor_event_id)
        with lock:
            running[event.object_id] -= 1

    arriving = iter(events)
    done = threading.Event()

    def feed():
        try:
            for _, _, _, body in arriving:
                receive(to, body)
        finally:
            done.set()

    def work():
        while not (done.is_set() and not pending()):
            dispatch_pending()

    with subscribed(event_received, watch):
        together(feed, *[work] * WORKERS)

    assert overlaps == []
    assert len(order) == len(events) == Effect.objects.count()
    seen = {}
    for interview, name, at, is_stale in order:
        newest, deleted = seen.get(interview, (None, False))
        older = newest is not None and at is not None and (at < newest or (at == newest and name.endswith("created")))
        assert is_stale == ((deleted and name != "interview.deleted") or older)
        if not is_stale:
            seen[interview] = (at or newest, deleted or name == "interview.deleted")
    for interview, (newest, deleted) in expected_states(events).items():
        state = ObjectState.objects.get(object_id=interview)
        assert state.is_deleted == deleted
        if not deleted:
            assert state.newest_at.strftime("%Y-%m-%dT%H:%M:%S.000Z") == newest


@pytest.mark.skipif("connection.vendor == 'sqlite'", reason="SQLite has one writer at a time")
@pytest.mark.parametrize("slow", [interview_event("slow"), b'{"id": "slow"}'], ids=["interview", "no object"])
def test_a_receiver_that_outlives_its_lease_runs_once_and_blocks_no_other_event(settings, slow):
    """After the lease, the worker still holds its locks, and other workers dispatch other events."""
    settings.BI_INTEGRATION = {"LEASE_SECONDS": 1}
    to = big_interview()
    deliver(to, slow)
    calls, lease_is_over = [], threading.Event()

    def receive_slowly(event, **arguments):
        calls.append(event.vendor_event_id)
        if event.vendor_event_id == "slow":
            assert lease_is_over.wait(30)

    with subscribed(event_received, receive_slowly), ThreadPoolExecutor(1) as pool:
        slow_worker = pool.submit(together, dispatch_pending)
        wait_until(lambda: calls)
        deliver(to, interview_event("quick", interview="7"))
        wait_until(lambda: ReceivedEvent.objects.due(timezone.now()).filter(vendor_event_id="slow").exists())
        assert dispatch_pending() == {"dispatched": 1}
        lease_is_over.set()
        assert slow_worker.result() == [{"dispatched": 1}]
    assert calls == ["slow", "quick"]
    assert set(ReceivedEvent.objects.values_list("status", "attempts")) == {("dispatched", 1)}


def test_a_clock_that_jumps_neither_loses_nor_repeats_an_event():
    """Leases and retries become due too early or too late, but locks and claims prevent a second effect."""
    to = big_interview()
    for number in range(60):
        receive(to, interview_event(str(number), interview=str(number % 20)))
    chance = random.Random(3)
    jumps_are_over = threading.Event()

    def effect(event, **arguments):
        Effect.objects.create(receiver="one", event_id=event.vendor_event_id)
        if chance.random() < 0.2:
            raise LookupError

    def work():
        while not jumps_are_over.is_set():
            dispatch_pending()

    with time_machine.travel(timezone.now(), tick=True) as clock, subscribed(event_received, effect):

        def jump():
            for _ in range(40):
                clock.shift(timedelta(seconds=chance.uniform(-7200, 7200)))
                jumps_are_over.wait(0.05)
            jumps_are_over.set()

        together(jump, *[work] * WORKERS)
        for _ in range(30):
            clock.shift(timedelta(days=1))
            dispatch_pending()
    assert pending() == 0
    done = ReceivedEvent.objects.filter(status="dispatched").values_list("vendor_event_id", flat=True)
    assert sorted(Effect.objects.values_list("event_id", flat=True)) == sorted(done)
    assert len(done) > 50


@pytest.mark.skipif("connection.vendor == 'sqlite'", reason="SQLite has one writer at a time")
@pytest.mark.parametrize("body", [interview_event("1"), b'{"id": "1"}'], ids=["interview", "no object"])
def test_a_duplicate_does_not_wait_for_receivers(monkeypatch, body):
    """If a worker locks the event's row, the duplicate is acknowledged without being counted.

    MariaDB locks it when a receiver inserts a row that refers to it. If the request waited, it would occupy a web
    process until the vendor gives up.
    """
    monkeypatch.setattr("django_bi_integration.webhooks.store.MAX_WAIT", 0.1)
    to = big_interview()
    deliver(to, body)
    with ThreadPoolExecutor(1) as pool:

        def slow(event, **arguments):
            Note.objects.create(event=event)
            assert pool.submit(together, lambda: deliver(to, body).status_code).result(30) == [200]

        with subscribed(event_received, slow):
            assert dispatch_pending() == {"dispatched": 1}
    is_counted = connection.vendor == "postgresql" and stored().object_id
    assert (stored().deliveries, Note.objects.count()) == (2 if is_counted else 1, 1)
    deliver(to, body)
    assert stored().deliveries == (3 if is_counted else 2)


def frozen_worker():
    """Hold the locks of a worker that is frozen after it has claimed every event, before the commit."""
    claim = f"UPDATE {ReceivedEvent._meta.db_table} SET attempts = attempts + 1"
    return open_transaction("BEGIN", claim)


@pytest.mark.skipif("connection.vendor == 'sqlite'", reason="SQLite has one writer at a time")
@pytest.mark.parametrize("body", [interview_event("1"), b'{"id": "1"}'], ids=["interview", "no object"])
def test_a_redelivery_does_not_wait_for_a_frozen_worker(monkeypatch, body):
    """A duplicate is acknowledged without being counted. A different body with the same id gets a 503.

    The different body cannot be stored meanwhile, so the vendor has to send it again.
    """
    monkeypatch.setattr("django_bi_integration.webhooks.store.MAX_WAIT", 0.1)
    to, other = big_interview(), body.replace(b"{", b"{ ", 1)
    deliver(to, body)
    with ThreadPoolExecutor(1) as pool, frozen_worker():
        for redelivered, status in [(body, 200), (other, 503)] * 2:
            answer = pool.submit(together, lambda body=redelivered: deliver(to, body))
            assert [response.status_code for response in answer.result(30)] == [status]
    assert (stored().deliveries, stored().conflicts) == (1, 0)
    assert [deliver(to, redelivered).status_code for redelivered in (body, other)] == [200, 200]
    assert (stored().deliveries, stored().conflicts, bytes(stored().conflicting_body)) == (3, 1, other)


@pytest.mark.skipif("connection.vendor == 'sqlite'", reason="SQLite has one writer at a time")
def test_a_deadlock_between_two_batches_counts_as_no_receivers_failure(batches):
    """Invariant 6: the receivers deadlock only because each batch shares one transaction."""
    rows = {"1": "a", "2": "b", "3": "b", "4": "a"}
    for name in "ab":
        Counter.objects.create(name=name)
    to = big_interview()
    for number in rows:
        deliver(to, interview_event(number, interview=number))
    batches = claim(2), claim(2)
    first_of_each, both_hold_a_lock = {"1", "3"}, threading.Barrier(2)

    def count(event, **arguments):
        Counter.objects.filter(name=rows[event.vendor_event_id]).update(value=F("value") + 1)
        if event.vendor_event_id in first_of_each:
            first_of_each.discard(event.vendor_event_id)
            both_hold_a_lock.wait(30)

    with subscribed(event_received, count, dispatch_uid="count"):
        assert together(*[lambda batch=batch: dispatch(*batch) for batch in batches]) == [["dispatched"] * 2] * 2
    assert dict(Counter.objects.values_list("name", "value")) == {"a": 2, "b": 2}
    assert {event.receiver_results["count"]["attempts"] for event in ReceivedEvent.objects.all()} == {1}
