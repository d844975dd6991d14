"""Innovative Educators: course completions, authenticated only by the address that they come from.

Source: "Live Event Webhooks", techdocs.innovativeeducators.org/data-integrations/webhooks.
"""

from types import MappingProxyType
from typing import Any

from django_bi_integration.events import COURSE_COMPLETE, CourseCompletion, Learner, ParsedEvent
from django_bi_integration.vendors.base import Document, Vendor
from django_bi_integration.vendors.json_values import as_datetime, as_event_id, as_mapping, as_text

OBJECT_TYPE = "CourseCompletion"
#: The page's heading says ``courseComplete``, its sample payload ``courseCompletion``.
COMPLETION_NAMES = ("courseComplete", "courseCompletion")
#: The page documents ref1 to ref3; real streams carry up to ref10.
REFS = tuple(f"ref{number}" for number in range(1, 11))
FLAT = "userDetail."


def read(document: Document) -> ParsedEvent:
    """Parse a delivery with a completion, or with anything else that the platform may send."""
    subject_id = _subject_id(_learner(document))
    if not _is_completion(document):
        return ParsedEvent(
            event_id=as_event_id(document.get("id")),
            event_type=as_text(document.get("event")) or as_text(document.get("type")) or "",
            subject_id=subject_id,
        )
    completion = _completion(document)
    return ParsedEvent(
        event_id=as_event_id(document.get("id")),
        event_type=COURSE_COMPLETE,
        subject_id=subject_id,
        object_type=OBJECT_TYPE,
        object_id=completion.course_id or "",
        object_key=(OBJECT_TYPE, completion.course_id, subject_id) if completion.course_id and subject_id else (),
        occurred_at=completion.completed_at,
    )


def read_data(document: Document) -> CourseCompletion | None:
    """Return the completion that a delivery is about; None if it is about something else."""
    return _completion(document) if _is_completion(document) else None


def _is_completion(document: Document) -> bool:
    event = as_text(document.get("event"))
    if event is not None:
        return event in COMPLETION_NAMES
    return document.get("type") == "status_change" and document.get("source") == "course_completed"


def _completion(document: Document) -> CourseCompletion:
    """Parse a completion in either shape. A ``courseAction`` has no event name, and calls the title ``courseTitle``."""
    return CourseCompletion(
        course_id=as_text(document.get("notifiableId")),
        course_title=as_text(document.get("title")) or as_text(document.get("courseTitle")),
        course_sku=as_text(document.get("courseSku")),
        completed_at=as_datetime(document.get("timestamp")),
        company_id=as_text(document.get("companyId")),
        learner=_learner(document),
    )


def _learner(document: Document) -> Learner:
    detail = _user_detail(document)
    refs = {name: text for name in REFS if (text := as_text(detail.get(name))) is not None}
    return Learner(
        id=as_text(detail.get("id")),
        email=as_text(document.get("user")) or as_text(detail.get("email")),
        first_name=as_text(detail.get("firstName")),
        last_name=as_text(detail.get("lastName")),
        external_customer_id=as_text(detail.get("externalCustomerId")),
        sf_contact_id=as_text(detail.get("sfContactId")),
        sf_account_id=as_text(detail.get("sfAccountId")),
        client=as_text(detail.get("client")),
        refs=MappingProxyType(refs),
    )


def _user_detail(document: Document) -> Document:
    """Return the learner's fields. Nightly files have flat columns such as ``userDetail.id``, webhooks an object."""
    flat = {name.removeprefix(FLAT): value for name, value in document.items() if name.startswith(FLAT)}
    return {**flat, **as_mapping(document.get("userDetail"))}


def _subject_id(learner: Learner) -> str:
    return learner.external_customer_id or (learner.email or "").lower() or learner.id or ""


def sample(event_type: str, event_id: str, subject_id: str) -> dict[str, Any]:
    """Return the "Sample Payload" of the webhook page, without its comments, which JSON does not allow."""
    return {
        "id": event_id,
        "source": "course_completed",
        "timestamp": "2019-10-17T20:50:53.103Z",
        "type": "status_change",
        "user": "learner@example.edu",
        "companyId": "3aabdfb8-3891-5011-ad35-8e2351c5fdaf",
        "event": "courseCompletion",
        "notifiableId": "7670fdbe-15ed-504b-a680-d404fa4b0eb4",
        "title": "New Student Orientation",
        "userDetail": {
            "id": "61149b2c-3f37-5032-be63-f5d984de10b6",
            "firstName": "Bob",
            "lastName": "Johnson",
            "externalCustomerId": subject_id,
            "sfContactId": None,
            "sfAccountId": None,
            "client": "00f928f4-8718-5043-9164-32398b165c60",
            "ref1": "111222333444",
            "ref2": "Department",
            "ref3": "...",
        },
    }


INNOVATIVE_EDUCATORS = Vendor(
    slug="innovative_educators",
    label="Innovative Educators",
    documentation_url="https://techdocs.innovativeeducators.org/data-integrations/webhooks",
    sends_key=False,
    default_networks=("54.243.7.71", "3.83.213.76"),
    event_types=(COURSE_COMPLETE,),
    read=read,
    read_data=read_data,
    sample=sample,
)
