"""Each shape of an event in the vendors' documents, drafts and streams is posted, and each of its fields is checked."""

import json
from datetime import UTC, datetime
from operator import attrgetter
from types import SimpleNamespace

import pytest

from django_bi_integration.dispatch.worker import dispatch_pending
from django_bi_integration.signals import event_received
from django_bi_integration.vendors import BIG_INTERVIEW, INNOVATIVE_EDUCATORS
from tests.helpers.deliveries import (
    CREATED,
    Recorder,
    big_interview,
    deliver,
    deliver_completion,
    innovative_educators,
    stored,
    subscribed,
)

pytestmark = pytest.mark.django_db

FIELDS = json.loads(CREATED)["webhook"] | {"event_name": "interview.updated", "partner_id": "abc123"}
INTERVIEW = FIELDS["api_object"]
INTERVIEW["updated_at"] = "2015-05-19T16:37:13.000Z"
DRAFT = {
    "id": "123456789",
    "event": "interview.updated",
    "user": {"partner_id": "abc123"},
    "object": {"type": "Interview", "data": INTERVIEW},
}
DELETED = FIELDS | {"event_name": "interview.deleted", "api_type": "None", "api_object": None}

#: Big Interview: the current reference, and the draft of July 2015.
OF_AN_INTERVIEW = {
    "under webhook": {"webhook": FIELDS},
    "bare": FIELDS,
    "with a number for api_id": {"webhook": FIELDS | {"api_id": 95607}},
    "with a fraction of zero": {"webhook": FIELDS | {"api_id": 95607.0, "api_object": INTERVIEW | {"id": 95607.0}}},
    "without api_id": {"webhook": {name: value for name, value in FIELDS.items() if name != "api_id"}},
    "the draft": DRAFT,
    "the draft under webhook": {"webhook": DRAFT},
}
READ_OF_AN_INTERVIEW = {
    "event.event_type": "interview.updated",
    "event.vendor_event_id": "123456789",
    "event.subject_id": "abc123",
    "event.object_type": "Interview",
    "event.object_id": "95607",
    "event.occurred_at": datetime(2015, 5, 19, 16, 37, 13, tzinfo=UTC),
    "data.id": "95607",
    "data.partner_id": "abc123",
    "data.title": "Top 10 Questions",
    "data.interviewer_name": "Jordan",
    "data.category": "Top 10 Questions: 1",
    "data.completed": True,
    "data.created_at": datetime(2015, 5, 18, 16, 37, 13, tzinfo=UTC),
    "data.updated_at": datetime(2015, 5, 19, 16, 37, 13, tzinfo=UTC),
    "data.review_path": "/members/mock_interviews/95607",
    "data.retake_path": "/members/mock_interviews/interview_info/52",
}

OF_A_DELETION = {
    "type None": {"webhook": DELETED},
    "type null": {"webhook": DELETED | {"api_type": None}},
    "without type and object": {"webhook": {k: v for k, v in DELETED.items() if k not in ("api_type", "api_object")}},
    "with the interview": {"webhook": DELETED | {"api_type": "Interview", "api_object": INTERVIEW}},
    "the draft's deletion": DRAFT | {"event": "interview.deleted"},
}
READ_OF_A_DELETION = {
    "event.event_type": "interview.deleted",
    "event.subject_id": "abc123",
    "event.object_type": "Interview",
    "event.object_id": "95607",
    "data.id": "95607",
    "data.partner_id": "abc123",
}

DETAIL = {
    "id": "61149b2c-3f37-5032-be63-f5d984de10b6",
    "firstName": "Bob",
    "lastName": "Johnson",
    "externalCustomerId": "0042",
    "sfContactId": "0033k00003abcde",
    "sfAccountId": "0013k00002fghij",
    "client": "00f928f4-8718-5043-9164-32398b165c60",
    "ref1": "the first",
    "ref4": "four",
    "ref10": "ten",
    "state": "Colorado",
    "country": "US",
}
COMPLETION = {
    "id": "32ed16df-27cb-5f72-90ff-4eaf39346f86",
    "source": "course_completed",
    "timestamp": "2019-10-17T20:50:53.103Z",
    "type": "status_change",
    "user": "Bob@example.edu",
    "companyId": "3aabdfb8-3891-5011-ad35-8e2351c5fdaf",
    "event": "courseCompletion",
    "notifiableId": "7670fdbe-15ed-504b-a680-d404fa4b0eb4",
    "title": "New Student Orientation",
    "license": "lic-1",
    "updatedAt": "2019-10-18T00:00:00.000Z",
    "userDetail": DETAIL,
}
WITHOUT_NAME = {name: value for name, value in COMPLETION.items() if name != "event"}
ACTION = {name: value for name, value in WITHOUT_NAME.items() if name != "title"}
ACTION |= {"courseTitle": "New Student Orientation"}
FLAT = {name: value for name, value in COMPLETION.items() if name != "userDetail"}
FLAT |= {f"userDetail.{name}": value for name, value in DETAIL.items()}
E_MAIL_INSIDE = {name: value for name, value in COMPLETION.items() if name != "user"}
E_MAIL_INSIDE |= {"userDetail": DETAIL | {"email": "Bob@example.edu", "telephone": "1", "stripeCustomerId": "cus_1"}}

#: Innovative Educators: the documented sample, real streams, the platform's courseAction, and its nightly files.
OF_A_COMPLETION = {
    "courseCompletion": COMPLETION,
    "courseComplete": COMPLETION | {"event": "courseComplete"},
    "without a name": WITHOUT_NAME,
    "with null for a name": COMPLETION | {"event": None},
    "courseAction": ACTION,
    "of a nightly file": FLAT,
    "with the address in userDetail": E_MAIL_INSIDE,
}
READ_OF_A_COMPLETION = {
    "event.event_type": "courseComplete",
    "event.vendor_event_id": "32ed16df-27cb-5f72-90ff-4eaf39346f86",
    "event.subject_id": "0042",
    "event.object_type": "CourseCompletion",
    "event.object_id": "7670fdbe-15ed-504b-a680-d404fa4b0eb4",
    "event.occurred_at": datetime(2019, 10, 17, 20, 50, 53, 103_000, tzinfo=UTC),
    "data.course_id": "7670fdbe-15ed-504b-a680-d404fa4b0eb4",
    "data.course_title": "New Student Orientation",
    "data.completed_at": datetime(2019, 10, 17, 20, 50, 53, 103_000, tzinfo=UTC),
    "data.company_id": "3aabdfb8-3891-5011-ad35-8e2351c5fdaf",
    "data.learner.id": "61149b2c-3f37-5032-be63-f5d984de10b6",
    "data.learner.email": "Bob@example.edu",
    "data.learner.first_name": "Bob",
    "data.learner.last_name": "Johnson",
    "data.learner.external_customer_id": "0042",
    "data.learner.sf_contact_id": "0033k00003abcde",
    "data.learner.sf_account_id": "0013k00002fghij",
    "data.learner.client": "00f928f4-8718-5043-9164-32398b165c60",
    "data.learner.refs": {"ref1": "the first", "ref4": "four", "ref10": "ten"},
}

FAMILIES = [
    (BIG_INTERVIEW, OF_AN_INTERVIEW, READ_OF_AN_INTERVIEW),
    (BIG_INTERVIEW, OF_A_DELETION, READ_OF_A_DELETION),
    (INNOVATIVE_EDUCATORS, OF_A_COMPLETION, READ_OF_A_COMPLETION),
]
ROWS = [
    pytest.param(vendor, document, field, expected, id=f"{shape}: {field}")
    for vendor, shapes, read in FAMILIES
    for shape, document in shapes.items()
    for field, expected in read.items()
]


def received(vendor, document):
    """Deliver the document, dispatch it, and return the event and the typed data that a receiver gets."""
    recorder = Recorder()
    with subscribed(event_received, recorder):
        if vendor is BIG_INTERVIEW:
            assert deliver(big_interview(), json.dumps(document)).status_code == 200
        else:
            assert deliver_completion(innovative_educators(), json.dumps(document)).status_code == 200
        dispatch_pending()
    return SimpleNamespace(event=stored(), data=recorder.data)


@pytest.mark.parametrize(("vendor", "document", "field", "expected"), ROWS)
def test_each_field_has_the_same_value_in_every_shape(vendor, document, field, expected):
    assert attrgetter(field)(received(vendor, document)) == expected


def test_the_typed_data_of_a_course_action_contains_its_sku():
    """Other shapes of a completion have no SKU."""
    assert received(INNOVATIVE_EDUCATORS, ACTION | {"courseSku": "NSO-101"}).data.course_sku == "NSO-101"


def test_the_repr_of_typed_data_contains_neither_salesforce_ids_nor_refs():
    """So that a log with typed data does not contain them."""
    shown = repr(received(INNOVATIVE_EDUCATORS, COMPLETION).data)
    assert not [value for name, value in DETAIL.items() if name.startswith(("sf", "ref")) and value in shown]


@pytest.mark.parametrize(
    ("vendor", "document", "subject"),
    [
        (BIG_INTERVIEW, FIELDS | {"event_name": "resume.scored"}, "abc123"),
        (BIG_INTERVIEW, DRAFT | {"event": "resume.scored"}, "abc123"),
        (INNOVATIVE_EDUCATORS, {"notifiableId": "c-1", "user": "Bob@example.edu", "userDetail": DETAIL}, "0042"),
        (INNOVATIVE_EDUCATORS, COMPLETION | {"event": "courseView", "userDetail": None}, "bob@example.edu"),
        (INNOVATIVE_EDUCATORS, COMPLETION | {"event": "login", "user": None, "userDetail": {"id": "u-1"}}, "u-1"),
    ],
    ids=["reference", "draft", "view without a name", "view", "login"],
)
def test_an_unknown_event_has_the_id_of_its_person_but_neither_typed_data_nor_an_object(vendor, document, subject):
    """So that everything that is stored about a person can be found."""
    found = received(vendor, document)
    assert (found.event.subject_id, found.data, found.event.object_key) == (subject, None, None)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (INTERVIEW | {"id": 1041}, INTERVIEW | {"id": 1041.0}),
        (INTERVIEW | {"id": "1041"}, INTERVIEW | {"id": 1041.0}),
        (INTERVIEW | {"id": 2**53 - 1}, INTERVIEW | {"id": float(2**53 - 1)}),
    ],
)
def test_an_objects_id_may_be_written_as_a_string_an_integer_or_a_float(first, second):
    """1041 and 1041.0 are the same JSON number, so an older update with the other one is stale."""
    to, recorder = big_interview(), Recorder()
    with subscribed(event_received, recorder):
        for number, (interview, day) in enumerate([(first, 20), (second, 19)]):
            moved = interview | {"updated_at": f"2015-05-{day}T00:00:00Z"}
            fields = {name: value for name, value in FIELDS.items() if name != "api_id"}
            deliver(to, json.dumps(fields | {"id": str(number), "api_object": moved}))
            dispatch_pending()
    assert [call["event"].is_stale for call in recorder.calls] == [False, True]


def test_a_persons_id_that_is_a_whole_float_is_read_as_an_integer():
    assert received(BIG_INTERVIEW, FIELDS | {"partner_id": 42.0}).event.subject_id == "42"


@pytest.mark.parametrize("number", ["1041.5", str(float(2**53)), "1e22"])
def test_an_id_that_is_not_a_whole_number_or_may_be_rounded_is_kept_as_a_float(number):
    """A float from 2**53 on may stand for several whole numbers."""
    body = json.dumps(FIELDS | {"api_id": 0}).replace('"api_id": 0', f'"api_id": {number}')
    deliver(big_interview(), body)
    assert stored().object_id == str(float(number))
