"""The whole path on real servers: gunicorn, PostgreSQL and Redis, MariaDB and RabbitMQ, a Celery worker of its own."""

import json
from urllib.parse import urlsplit

import pytest

from fake_vendors import campaign
from fake_vendors.events import Event
from fake_vendors.vendors import big_interview, innovative_educators
from tests.helpers.deliveries import COMPLETED, CREATED, KEY
from tests.helpers.rooms import execute
from tests.helpers.waiting import wait_until

#: Ten minutes become a tenth of a second.
TIME_SCALE = 6000

LOOK = """
import json
from django_bi_integration.models import ReceivedEvent, Rejection
from example_project.portal.models import Activity
print(json.dumps({
    "events": list(ReceivedEvent.objects.values("vendor_event_id", "event_type", "status", "deliveries")),
    "calls": list(Activity.objects.values_list("receiver", "event__vendor_event_id")),
    "rejected": sorted(set(Rejection.objects.values_list("reason", flat=True))),
}))
"""
CLEAR = """
from django_bi_integration.models import ObjectState, ReceivedEvent
from example_project.portal.models import Activity
for model in (Activity, ObjectState, ReceivedEvent):
    model.objects.all().delete()
"""


@pytest.fixture
def site(live_stack):
    """The deployment without events."""
    live_stack.manage("shell", "--no-imports", "-c", CLEAR)
    return live_stack


def look(site):
    return json.loads(site.manage("shell", "--no-imports", "-c", LOOK))


def register(site, *arguments, stdin=None):
    """The URL to give to the vendor, as an operator makes it."""
    return site.url + json.loads(site.manage("bi_register", "--name", "x", *arguments, stdin=stdin))["path"]


def interviews(site):
    return register(site, "--vendor", "big_interview", "--key", "-", stdin=f"{KEY}\n")


def dispatched(site):
    """What is stored, once nothing waits any more."""

    def seen():
        found = look(site)
        return found if all(event["status"] != "pending" for event in found["events"]) else None

    return wait_until(seen, timeout=60)


def sample(body, event_id):
    return Event(event_id, "", body)


def test_the_documented_requests_reach_their_receivers_once(site):
    """Six deliveries are one event and one call of each receiver."""
    interview = big_interview(interviews(site), KEY)
    course = innovative_educators(
        register(site, "--vendor", "innovative_educators", "--allow", "127.0.0.2"), source_address="127.0.0.2"
    )
    for _ in range(6):
        assert interview.attempt(sample(CREATED, "123456789")).status == 200
    assert course.attempt(sample(COMPLETED, "32ed16df-27cb-5f72-90ff-4eaf39346f86")).status == 200
    found = dispatched(site)
    assert sorted((event["event_type"], event["status"], event["deliveries"]) for event in found["events"]) == [
        ("courseComplete", "dispatched", 1),
        ("interview.created", "dispatched", 6),
    ]
    assert sorted(map(tuple, found["calls"])) == [
        ("audit", "123456789"),
        ("audit", "32ed16df-27cb-5f72-90ff-4eaf39346f86"),
        ("course_was_completed", "32ed16df-27cb-5f72-90ff-4eaf39346f86"),
        ("interview_was_created", "123456789"),
    ]


def test_strangers_are_rejected_and_leave_nothing(site):
    """A wrong key, no key, a foreign address, a forged header."""
    url, course_url = interviews(site), register(site, "--vendor", "innovative_educators")
    open_to_nobody = register(site, "--vendor", "big_interview")
    event = sample(CREATED, "1")
    assert big_interview(url, KEY[:-1]).attempt(event).status == 401
    assert innovative_educators(url).attempt(event).status == 401
    assert big_interview(open_to_nobody, KEY).attempt(event).status == 403
    assert innovative_educators(course_url).attempt(event).status == 403
    forger = innovative_educators(course_url)
    forger.headers["X-Forwarded-For"] = "54.243.7.71"
    assert forger.attempt(event).status == 403
    assert look(site)["events"] == []


def test_without_its_database_the_vendor_is_told_to_come_again(site):
    """503, and the event arrives with a retry."""
    if site.database.kind != "postgres":
        pytest.skip("only PostgreSQL closes one database and leaves the others open")
    url = interviews(site)
    name = urlsplit(site.environment["DATABASE_URL"]).path[1:]
    execute(site.database, f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
    execute(site.database, f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'")
    answers = []

    def open_after_two(attempt):
        answers.append(attempt.status)
        if len(answers) == 2:
            execute(site.database, f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")

    vendor = big_interview(url, KEY, time_scale=TIME_SCALE)
    log = campaign.run([(vendor, sample(CREATED, "123456789"))], on_attempt=open_after_two)
    assert answers == [503, 503, 200]
    assert log.given_up == set()
    assert [event["deliveries"] for event in dispatched(site)["events"]] == [1]
