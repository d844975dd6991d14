"""The whole path under gunicorn with a separate Celery worker, on PostgreSQL and Redis, and on MariaDB and RabbitMQ."""

import json
from urllib.parse import urlsplit

import pytest

from fake_vendors import campaign
from fake_vendors.events import Event
from fake_vendors.vendors import big_interview, innovative_educators
from tests.helpers.deliveries import COMPLETED, CREATED, KEY
from tests.helpers.shared_servers import execute
from tests.helpers.waiting import wait_until

#: The vendor's wait of ten minutes takes a tenth of a second.
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
    """Delete all events of the deployment, and return it."""
    live_stack.manage("shell", "--no-imports", "-c", CLEAR)
    return live_stack


def look(site):
    """Return the events, the receivers' calls and the reasons of rejections from the deployment's database."""
    return json.loads(site.manage("shell", "--no-imports", "-c", LOOK))


def register(site, *arguments, stdin=None):
    """Create a registration with ``bi_register``, and return the URL to give to the vendor."""
    return site.url + json.loads(site.manage("bi_register", "--name", "x", *arguments, stdin=stdin))["path"]


def interviews(site):
    """Create a registration for Big Interview, and return its URL."""
    return register(site, "--vendor", "big_interview", "--key", "-", stdin=f"{KEY}\n")


def dispatched(site):
    """Wait until no event is pending, and return the same as ``look``."""

    def seen():
        found = look(site)
        return found if all(event["status"] != "pending" for event in found["events"]) else None

    return wait_until(seen, timeout=60)


def sample(body, event_id):
    """Return an event with this body to send."""
    return Event(event_id, "", body)


def test_the_documented_requests_reach_their_receivers_once(site):
    """Six deliveries of one event store one row and call each receiver once."""
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


def test_deliveries_without_valid_credentials_are_rejected_and_not_stored(site):
    """Deliveries with a wrong key, without a key, from another address, or with a forged X-Forwarded-For."""
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


def test_without_a_database_the_vendor_is_asked_to_retry(site):
    """The response is 503, and the event is stored with a retry."""
    if site.database.kind != "postgres":
        pytest.skip("only PostgreSQL can reject connections to a single database")
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
