"""Parsing what the vendors send, although their documents contradict each other."""

import json
from datetime import UTC, datetime, timedelta, timezone
from email.utils import format_datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from django_bi_integration.events import CourseCompletion, Interview, Learner, ParsedEvent
from django_bi_integration.vendors import BIG_INTERVIEW, INNOVATIVE_EDUCATORS, VENDORS
from tests.helpers.deliveries import COMPLETED, CREATED


def interview_document(**webhook: Any) -> dict[str, Any]:
    """Return Big Interview's sample with some of its fields replaced."""
    document = json.loads(CREATED)
    document["webhook"].update(webhook)
    return document


def completion_document(**fields: Any) -> dict[str, Any]:
    """Return Innovative Educators' sample with some of its fields replaced."""
    return {**json.loads(COMPLETED), **fields}


def interview(**webhook: Any) -> ParsedEvent:
    return BIG_INTERVIEW.read(interview_document(**webhook))


def completion(**fields: Any) -> ParsedEvent:
    return INNOVATIVE_EDUCATORS.read(completion_document(**fields))


def test_every_field_of_the_documented_interview_is_read():
    moment = datetime(2015, 5, 18, 16, 37, 13, tzinfo=UTC)
    document = interview_document(partner_id="abc123")
    assert BIG_INTERVIEW.read(document) == ParsedEvent(
        event_id="123456789",
        event_type="interview.created",
        subject_id="abc123",
        object_type="Interview",
        object_id="95607",
        object_key=("Interview", "95607"),
        occurred_at=moment,
    )
    assert BIG_INTERVIEW.read_data(document) == Interview(
        id="95607",
        partner_id="abc123",
        title="Top 10 Questions",
        interviewer_name="Jordan",
        category="Top 10 Questions: 1",
        completed=True,
        created_at=moment,
        updated_at=moment,
        review_path="/members/mock_interviews/95607",
        retake_path="/members/mock_interviews/interview_info/52",
    )


def test_every_field_of_the_documented_completion_is_read():
    moment = datetime(2019, 10, 17, 20, 50, 53, 103000, tzinfo=UTC)
    document = completion_document(user="bob@example.edu")
    assert INNOVATIVE_EDUCATORS.read(document) == ParsedEvent(
        event_id="32ed16df-27cb-5f72-90ff-4eaf39346f86",
        event_type="courseComplete",
        subject_id="111222333444",
        object_type="CourseCompletion",
        object_id="7670fdbe-15ed-504b-a680-d404fa4b0eb4",
        object_key=("CourseCompletion", "7670fdbe-15ed-504b-a680-d404fa4b0eb4", "111222333444"),
        occurred_at=moment,
    )
    assert INNOVATIVE_EDUCATORS.read_data(document) == CourseCompletion(
        course_id="7670fdbe-15ed-504b-a680-d404fa4b0eb4",
        course_title="New Student Orientation",
        completed_at=moment,
        company_id="3aabdfb8-3891-5011-ad35-8e2351c5fdaf",
        learner=Learner(
            id="61149b2c-3f37-5032-be63-f5d984de10b6",
            email="bob@example.edu",
            first_name="Bob",
            last_name="Johnson",
            external_customer_id="111222333444",
            client="00f928f4-8718-5043-9164-32398b165c60",
            refs={"ref1": "111222333444", "ref2": "Department", "ref3": "..."},
        ),
    )


@pytest.mark.parametrize("api_id", ["95607", 95607, None])
def test_the_interviews_id_may_be_text_or_a_number_or_only_in_the_object(api_id):
    assert interview(api_id=api_id).object_id == "95607"


def test_the_interview_may_come_without_its_wrapper():
    bare = json.loads(CREATED)["webhook"]
    assert BIG_INTERVIEW.read(bare) == BIG_INTERVIEW.read({"webhook": bare})


@pytest.mark.parametrize(
    "deleted",
    [
        {"api_type": "None", "api_object": None},
        {"api_type": None, "api_object": None},
        {"api_type": "Interview"},
        {"api_type": "None", "api_object": "gone"},
    ],
)
def test_a_deletion_is_recognised_only_by_its_event_name(deleted):
    """Its type and object differ between the vendor's documents."""
    document = interview_document(event_name="interview.deleted", **deleted)
    reading = BIG_INTERVIEW.read(document)
    assert (reading.object_type, reading.object_id) == ("Interview", "95607")
    assert BIG_INTERVIEW.read_data(document).id == "95607"


def test_an_unknown_interview_event_has_no_typed_data():
    document = interview_document(event_name="resume.scored")
    reading = BIG_INTERVIEW.read(document)
    assert (reading.event_type, reading.object_key) == ("resume.scored", ())
    assert BIG_INTERVIEW.read_data(document) is None


def test_a_change_of_an_interview_has_the_time_of_its_update():
    fields = {"created_at": "2020-01-01T00:00:00Z", "updated_at": "2020-01-02T01:00:00+01:00"}
    assert interview(api_object=fields).occurred_at == datetime(2020, 1, 2, tzinfo=UTC)
    del fields["updated_at"]
    assert interview(api_object=fields).occurred_at == datetime(2020, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize("value", ["yesterday", "", None, 5, "0001-01-01T00:00:00Z", "9999-12-31T23:59:59-14:00"])
def test_a_missing_invalid_or_implausible_time_is_read_as_none(value):
    assert interview(api_object={"updated_at": value}).occurred_at is None


FIRST, LAST = (datetime(*day, tzinfo=UTC).replace(tzinfo=None) for day in ((1970, 1, 2), (9998, 12, 30)))
offsets = st.integers(-1439, 1439).map(lambda minutes: timezone(timedelta(minutes=minutes)))
moments = st.datetimes(FIRST, LAST, timezones=offsets)
WRITTEN = {
    "RFC 3339": lambda moment: moment.isoformat(),
    "lower case": lambda moment: moment.astimezone(UTC).isoformat().replace("+00:00", "z").replace("T", "t"),
    "Ruby": lambda moment: f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S.%f} UTC",
    "blanks": lambda moment: f"{moment:%Y-%m-%d %H:%M:%S.%f %z}",
    "basic": lambda moment: f"{moment:%Y%m%dT%H%M%S,%f%z}",
    "nanoseconds": lambda moment: f"{moment.astimezone(UTC):%Y-%m-%dT%H:%M:%S.%f}999Z",
}


@pytest.mark.parametrize("write", WRITTEN.values(), ids=WRITTEN)
@given(moment=moments)
def test_a_time_is_the_same_in_every_format(write, moment):
    assert interview(api_object={"updated_at": write(moment)}).occurred_at == moment


@given(moment=moments)
def test_a_time_in_the_format_of_an_e_mails_date_is_read(moment):
    whole = moment.replace(microsecond=0)
    assert interview(api_object={"updated_at": format_datetime(whole)}).occurred_at == whole


@pytest.mark.parametrize("form", [int, str])
@given(milliseconds=st.integers(10**12, 10**13 - 1))
def test_unix_time_is_read_in_seconds_and_in_milliseconds(form, milliseconds):
    seconds = milliseconds // 1000
    read = [interview(api_object={"updated_at": form(number)}).occurred_at for number in (seconds, milliseconds)]
    since = datetime(1970, 1, 1, tzinfo=UTC)
    assert read == [since + timedelta(seconds=seconds), since + timedelta(milliseconds=milliseconds)]


@given(text=st.from_regex(r"[0-9TtZz:+\-., ]{0,30}", fullmatch=True) | st.integers().map(str))
def test_a_text_that_python_parses_is_read_as_the_same_time_or_as_none(text):
    """Except for 10 or 13 digits, which are Unix time in seconds or milliseconds."""
    read = interview(api_object={"updated_at": text}).occurred_at
    try:
        expected = datetime.fromisoformat(text.strip())
    except ValueError:
        return
    expected = expected if expected.tzinfo else expected.replace(tzinfo=UTC)
    assert read in (None, expected) or (text.strip().isdigit() and len(text.strip()) in (10, 13))


@pytest.mark.parametrize("event", ["courseComplete", "courseCompletion"])
def test_both_names_of_a_completion_are_one_event_type(event):
    assert completion(event=event).event_type == "courseComplete"


def test_a_completion_without_an_event_name_is_recognised_by_type_and_source():
    assert completion(event=None).event_type == "courseComplete"
    assert completion(event=None, source="course_viewed").event_type == "status_change"


@pytest.mark.parametrize(
    ("detail", "subject"),
    [
        ({"externalCustomerId": "0042"}, "0042"),
        ({"externalCustomerId": None}, "bob@example.edu"),
        ({"externalCustomerId": 42}, "42"),
    ],
)
def test_a_learner_is_identified_by_the_external_id_or_else_the_e_mail_address(detail, subject):
    """Leading zeros of an id are kept, and an address is stored in lower case."""
    assert completion(user="Bob@Example.edu", userDetail=detail).subject_id == subject


def test_a_learner_without_either_is_identified_by_the_platforms_id():
    assert completion(user=None, userDetail={"id": "u-1"}).subject_id == "u-1"


def test_refs_1_to_10_are_read_except_null_ones():
    detail = {"ref1": None, "ref4": "four", "ref10": "ten", "ref11": "eleven"}
    data = INNOVATIVE_EDUCATORS.read_data(completion_document(userDetail=detail))
    assert data.learner.refs == {"ref4": "four", "ref10": "ten"}


def test_another_event_of_the_platform_keeps_its_name_and_has_no_typed_data():
    document = completion_document(event="courseView")
    assert INNOVATIVE_EDUCATORS.read(document).event_type == "courseView"
    assert INNOVATIVE_EDUCATORS.read_data(document) is None


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)
KEYS = (
    *("webhook", "id", "event_name", "partner_id", "api_id", "api_type", "api_object", "links", "completed", "title"),
    *("created_at", "updated_at", "event", "type", "source", "timestamp", "user", "userDetail", "notifiableId"),
    *("companyId", "externalCustomerId", "ref1"),
)
VALUES = ("interview.created", "interview.deleted", "courseComplete", "status_change", "course_completed", "NaN")
names = st.sampled_from(KEYS)
documents = st.recursive(
    json_values | st.sampled_from(VALUES),
    lambda inner: st.dictionaries(names, inner, max_size=8),
    max_leaves=20,
).filter(lambda value: isinstance(value, dict))


@pytest.mark.parametrize("vendor", VENDORS.values(), ids=lambda vendor: vendor.slug)
@given(document=documents)
def test_any_json_object_can_be_read(vendor, document):
    """Parsing never raises, and the text fields of the event are always strings."""
    vendor.read_data(document)
    reading = vendor.read(document)
    assert isinstance(reading, ParsedEvent)
    assert all(isinstance(text, str) for text in (reading.event_type, reading.subject_id, reading.object_id))


@pytest.mark.parametrize("vendor", VENDORS.values(), ids=lambda vendor: vendor.slug)
def test_each_vendors_samples_are_read_with_the_given_type_id_and_person(vendor):
    for event_type in vendor.event_types:
        document = vendor.sample(event_type, "1", "me")
        reading = vendor.read(document)
        assert (reading.event_type, reading.event_id, reading.subject_id) == (event_type, "1", "me")
        assert vendor.read_data(document) is not None
