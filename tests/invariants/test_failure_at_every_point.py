"""Every database call and every broker call fails once: acknowledged events are stored, and take effect once."""

from contextlib import suppress
from datetime import timedelta
from itertools import count

import pytest
import time_machine
from django.db import DatabaseError
from django.db.models import F
from django.utils import timezone

from django_bi_integration.dispatch.notify import Notifier, notifier
from django_bi_integration.dispatch.queue import claim
from django_bi_integration.dispatch.worker import dispatch_pending
from django_bi_integration.models import ObjectState, ReceivedEvent
from django_bi_integration.signals import event_received, interview_created
from django_bi_integration.webhooks.registration_cache import with_registration
from tests.helpers.deliveries import big_interview, deliver, interview_event, subscribed
from tests.helpers.faults import Interruption, failing
from tests.host.models import Counter, Effect

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.database]

#: More calls than any delivery or dispatch makes. A test fails if a fault still happens at this number.
MOST = 200


def count_one(event, **arguments):
    Counter.objects.filter(name="one").update(value=F("value") + 1)
    Effect.objects.create(receiver="one", event_id=event.vendor_event_id)


def count_two(event, **arguments):
    Counter.objects.filter(name="two").update(value=F("value") + 1)


@pytest.fixture(autouse=True)
def receivers():
    for name in ("one", "two"):
        Counter.objects.create(name=name)
    with (
        subscribed(interview_created, count_one, dispatch_uid="one"),
        subscribed(event_received, count_two, dispatch_uid="two"),
    ):
        yield


def delete_everything():
    """Delete the events and their effects."""
    for model in (ObjectState, ReceivedEvent, Effect):
        model.objects.all().delete()
    Counter.objects.update(value=0)


def sweep():
    """Dispatch until no event is pending, one day later each time, so that leases and back-offs have ended."""
    for attempt in range(1, 20):
        if not ReceivedEvent.objects.filter(status="pending").exists():
            return
        with time_machine.travel(timezone.now() + timedelta(days=attempt)):
            dispatch_pending()


def assert_one_effect():
    """Check that there is one event, that it is dispatched, and that each receiver took effect once."""
    (event,) = ReceivedEvent.objects.all()
    assert event.status == "dispatched"
    assert dict(Counter.objects.values_list("name", "value")) == {"one": 1, "two": 1}
    assert Effect.objects.count() == 1
    assert ObjectState.objects.get().newest_event == event


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("is_cached", [False, True], ids=["new registration", "cached registration"])
def test_a_delivery_is_stored_or_not_acknowledged(after, is_cached):
    """Invariant 1. The vendor's retry then stores one row."""
    for number in range(1, MOST):
        delete_everything()
        to = big_interview()
        if is_cached:
            with_registration(to.pk, lambda *cached: None)
        with failing(number, after=after) as faults:
            status = deliver(to).status_code
        assert status in (200, 503)
        assert status == 503 or ReceivedEvent.objects.count() == 1
        if status == 503:
            assert deliver(to).status_code == 200
        sweep()
        assert_one_effect()
        if not faults.happened:
            break
    assert number > 1, "no database call failed"
    assert not faults.happened


@pytest.mark.parametrize("interrupt", [False, True], ids=["connection lost", "interrupted"])
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_dispatch_takes_effect_once(after, interrupt):
    """Invariant 5: a later worker completes what was lost, and repeats nothing."""
    to = big_interview()
    for number in range(1, MOST):
        delete_everything()
        deliver(to)
        with failing(number, after=after, interrupt=interrupt) as faults, suppress(DatabaseError, Interruption):
            dispatch_pending()
        sweep()
        assert_one_effect()
        if not faults.happened:
            break
    assert number > 10, "too few database calls for the claim, the effects and their record"
    assert not faults.happened


@pytest.mark.parametrize("interrupt", [False, True], ids=["connection lost", "interrupted"])
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_dispatch_of_an_event_whose_worker_died_takes_effect_once(after, interrupt):
    """Invariant 5: each receiver then runs in a separate transaction."""
    to = big_interview()
    for number in count(1):
        delete_everything()
        deliver(to)
        assert len(claim()) == 1  # and this worker dies
        lease_is_over = time_machine.travel(timezone.now() + timedelta(seconds=100))
        with (
            lease_is_over,
            failing(number, after=after, interrupt=interrupt) as faults,
            suppress(DatabaseError, Interruption),
        ):
            dispatch_pending()
        sweep()
        assert_one_effect()
        if not faults.happened:
            break
    assert number > 20, "too few database calls for two receivers in separate transactions"


@pytest.mark.parametrize("interrupt", [False, True], ids=["connection lost", "interrupted"])
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_dispatch_of_several_events_takes_effect_once_each(after, interrupt, batches):
    """Invariant 5: the events share a transaction; if it fails, each gets a separate one."""
    to = big_interview()
    for number in count(1):
        delete_everything()
        for event_id in "123":
            deliver(to, interview_event(event_id, "interview.created", interview=event_id))
        with failing(number, after=after, interrupt=interrupt) as faults, suppress(DatabaseError, Interruption):
            dispatch_pending()
        sweep()
        assert dict(Counter.objects.values_list("name", "value")) == {"one": 3, "two": 3}
        assert sorted(Effect.objects.values_list("event_id", flat=True)) == ["1", "2", "3"]
        assert ReceivedEvent.objects.filter(status="dispatched").count() == 3
        if not faults.happened:
            break
    assert number > 20, "too few database calls for three events"
    assert batches[-1] == 3
    assert batches.count(3) > 15, "too few faults hit the shared transaction"


def test_a_notification_that_fails_loses_no_event(monkeypatch):
    """Invariant 4: if the n-th message to the broker fails, the sweep still dispatches every event."""
    to = big_interview()
    own = Notifier()
    own.use(notifier.app)
    monkeypatch.setattr("django_bi_integration.dispatch.notify.notifier", own)
    for number in range(1, 4):
        delete_everything()
        publishes = count(1)

        def publish(*arguments, publishes=publishes, number=number, **options):
            if next(publishes) == number:
                raise ConnectionError("the broker is gone")

        monkeypatch.setattr(notifier.app, "send_task", publish)
        assert [deliver(to).status_code for _ in range(3)] == [200, 200, 200]
        assert own.wait(60)
        sweep()
        assert_one_effect()
