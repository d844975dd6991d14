"""Receiving: what is stored, how the view responds, and that an event is one row however often it is delivered."""

import json

import pytest
from django.db import InterfaceError, OperationalError, ProgrammingError, connection

from django_bi_integration.models import ReceivedEvent, WebhookRegistration
from django_bi_integration.webhooks.receive import receive
from tests.helpers.deliveries import (
    COMPLETED,
    COMPLETED_WITH_COMMENTS,
    CREATED,
    KEY,
    big_interview,
    deliver,
    deliver_completion,
    innovative_educators,
    interview_event,
    registration,
    stored,
)

pytestmark = [pytest.mark.django_db, pytest.mark.database]


def test_the_documented_interview_is_stored_as_received():
    """Invariants 1 and 3: 200 means stored, and the bytes are the source of truth."""
    response = deliver(big_interview())
    event = stored()
    assert (response.status_code, response.json()) == (200, {"status": "stored"})
    assert bytes(event.body) == CREATED
    assert event.payload == json.loads(CREATED)
    assert (event.vendor, event.vendor_event_id, event.event_type) == (
        "big_interview",
        "123456789",
        "interview.created",
    )
    assert (event.subject_id, event.object_type, event.object_id) == ("{partner_id}", "Interview", "95607")
    assert event.occurred_at.isoformat() == "2015-05-18T16:37:13+00:00"
    assert (event.status, event.deliveries, event.origin) == ("pending", 1, "webhook")


def test_an_event_that_a_project_stores_again_has_the_origin_replay():
    receive(big_interview(), CREATED, origin=ReceivedEvent.Origin.REPLAY)
    assert (stored().origin, bytes(stored().body)) == ("replay", CREATED)


def test_the_documented_completion_is_stored_as_received():
    assert deliver_completion(innovative_educators()).status_code == 200
    event = stored()
    assert bytes(event.body) == COMPLETED
    assert (event.event_type, event.subject_id) == ("courseComplete", "111222333444")
    assert event.object_id == "7670fdbe-15ed-504b-a680-d404fa4b0eb4"


def test_the_vendors_published_sample_with_its_comments_is_a_400():
    """Comments are not valid JSON."""
    assert deliver_completion(innovative_educators(), COMPLETED_WITH_COMMENTS).status_code == 400
    assert not ReceivedEvent.objects.exists()


def test_six_deliveries_of_one_event_are_one_row():
    """Invariant 3: Big Interview delivers an event up to six times."""
    to = big_interview()
    assert {deliver(to).status_code for _ in range(6)} == {200}
    assert stored().deliveries == 6


def test_the_same_id_with_another_body_keeps_the_first_and_flags_the_conflict():
    to = big_interview()
    deliver(to, interview_event("1"))
    other = interview_event("1", at="2020-01-01T00:00:00.000Z")
    assert deliver(to, other).status_code == 200
    event = stored()
    assert (bytes(event.body), event.deliveries, event.conflicts) == (interview_event("1"), 2, 1)
    assert bytes(event.conflicting_body) == other


def test_an_id_sent_as_a_number_is_the_same_event():
    to = big_interview()
    deliver(to, '{"webhook": {"id": 7, "event_name": "interview.created"}}')
    deliver(to, '{"webhook": {"id": "7", "event_name": "interview.created"}}')
    assert stored().deliveries == 2


def test_equal_ids_of_two_registrations_are_two_events():
    deliver(big_interview())
    deliver(registration())
    assert ReceivedEvent.objects.count() == 2


def test_events_without_an_id_are_recognised_by_their_body():
    to = innovative_educators()
    for body in ('{"a": 1}', '{"a": 1}', '{"a": 2}'):
        assert deliver_completion(to, body).status_code == 200
    assert sorted(ReceivedEvent.objects.values_list("deliveries", flat=True)) == [1, 2]


@pytest.mark.parametrize("body", ["{}", '{"test": true}', '{"webhook": null}', '{"webhook": {"event_name": "x.y"}}'])
def test_an_unknown_event_is_stored(body):
    """Invariant 8: neither a new event type nor a vendor's test notification is lost."""
    assert deliver(big_interview(), body).status_code == 200
    assert bytes(stored().body) == body.encode()


@pytest.mark.parametrize("content_type", ["", "text/plain", "application/x-www-form-urlencoded", "a/b; charset=utf-16"])
@pytest.mark.parametrize("accept", ["application/xml", "garbage", "text/html;q=0.1"])
def test_neither_content_type_nor_accept_is_a_reason_to_reject(content_type, accept):
    response = deliver(big_interview(), content_type=content_type, headers={"accept": accept})
    assert (response.status_code, response["content-type"]) == (200, "application/json")


@pytest.mark.parametrize("query", ["?format=xml", "?format=api", "?_method=PUT"])
def test_the_query_string_has_no_effect(query):
    to = big_interview()
    assert deliver(to, path=to.get_absolute_url() + query).status_code == 200


def test_the_path_works_without_its_last_slash():
    """Invariant 1: a vendor would count a redirect to the other form as delivered."""
    to = big_interview()
    assert deliver(to, path=to.get_absolute_url().rstrip("/")).status_code == 200
    assert to.get_absolute_url().endswith("/")


def test_a_body_over_the_limit_is_a_413(settings):
    settings.BI_INTEGRATION = {"MAX_BODY_BYTES": 100}
    assert deliver(big_interview(), b"{" + b" " * 99 + b"}").status_code == 413
    assert deliver(big_interview(), b"{" + b" " * 98 + b"}").status_code == 200


def test_a_chunked_body_without_a_length_is_a_411():
    """WSGI shows such a body as empty, so its content is unknown and must not be acknowledged."""
    response = deliver(big_interview(), b"", CONTENT_LENGTH="", headers={"transfer-encoding": "chunked"})
    assert response.status_code == 411


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "BREW"])
def test_another_method_is_a_405(client, method):
    response = client.generic(method, big_interview().get_absolute_url(), CREATED, headers={"authorization": KEY})
    assert (response.status_code, response["allow"]) == (405, "POST")
    assert not ReceivedEvent.objects.exists()


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("others", [0, 30])
def test_a_delivery_costs_one_statement(django_assert_num_queries, others):
    """Invariant 11: an INSERT. A SELECT comes first in a process's first delivery, and always except on PostgreSQL."""
    connection.close()  # a connection that stays open prepares the statement once
    for number in range(others):
        deliver(registration(), interview_event(str(number)))
    to = big_interview()
    with django_assert_num_queries(2):
        deliver(to, interview_event("first"))
    with django_assert_num_queries(1 if connection.vendor == "postgresql" else 2):
        deliver(to, interview_event("second"))


@pytest.mark.database
def test_every_digest_can_be_stored():
    """MariaDB rejects most UUIDs that are only random bits."""
    to = big_interview()
    assert {deliver(to, interview_event(str(number))).status_code for number in range(64)} == {200}


@pytest.mark.django_db(transaction=True)
def test_a_duplicate_costs_at_most_one_statement_more(django_assert_max_num_queries):
    """Except on MariaDB, which needs more so that it does not wait for a lock."""
    connection.close()
    to = big_interview()
    deliver(to)
    with django_assert_max_num_queries({"mysql": 6, "postgresql": 2}.get(connection.vendor, 3)):
        deliver(to)
    assert stored().deliveries == 2


@pytest.mark.django_db(transaction=True)
def test_a_cached_registration_rejects_the_key_that_was_replaced():
    to = big_interview()
    assert deliver(to, interview_event("accepted")).status_code == 200
    WebhookRegistration.objects.filter(pk=to.pk).update(key_digest="0" * 64)
    assert deliver(to, interview_event("rejected")).status_code == 401
    assert stored().vendor_event_id == "accepted"


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("name", ["sqlstate", "pgcode"], ids=["psycopg", "psycopg2"])
def test_a_delivery_is_stored_after_a_deadlock_with_either_driver(name):
    """The statement is repeated."""
    to, deadlocks = big_interview(), iter([type("DeadlockDetected", (Exception,), {name: "40P01"})])

    def deadlock_once(execute, sql, params, many, context):
        for cause in deadlocks if sql.startswith("INSERT") else ():
            raise OperationalError("deadlock detected") from cause()
        return execute(sql, params, many, context)

    with connection.execute_wrapper(deadlock_once):
        assert deliver(to).status_code == 200
    assert next(deadlocks, None) is None
    assert stored().deliveries == 1


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("failure", [OperationalError, InterfaceError, ProgrammingError])
def test_an_unavailable_database_is_a_503_with_retry_after(failure):
    """Invariant 1: an event that could not be stored is not acknowledged."""
    to = big_interview()

    def unreachable(execute, sql, params, many, context):
        raise failure("server closed the connection unexpectedly")

    with connection.execute_wrapper(unreachable):
        response = deliver(to)
    assert (response.status_code, response["retry-after"]) == (503, "30")
    assert deliver(to).status_code == 200
    assert stored().deliveries == 1
