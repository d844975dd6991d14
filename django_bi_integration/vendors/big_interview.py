"""Big Interview: mock interviews, authenticated by a static key that is sent bare in ``Authorization``.

Source: the partner documentation (github.com/biginterview/biginterview-docs, ``source/docs/partners``) and
its successor, the single sign-on article on support.biginterview.com.
"""

from datetime import datetime
from typing import Any

from django_bi_integration.events import (
    INTERVIEW_CREATED,
    INTERVIEW_DELETED,
    INTERVIEW_UPDATED,
    Interview,
    ParsedEvent,
)
from django_bi_integration.vendors.base import Document, Vendor
from django_bi_integration.vendors.json_values import as_datetime, as_event_id, as_flag, as_mapping, as_text

OBJECT_TYPE = "Interview"
INTERVIEW_EVENTS = (INTERVIEW_CREATED, INTERVIEW_UPDATED, INTERVIEW_DELETED)


def read(document: Document) -> ParsedEvent:
    """Parse a delivery with any kind of event."""
    webhook = _webhook(document)
    event_type = as_text(webhook.get("event_name")) or ""
    object_id = _object_id(webhook)
    known = event_type in INTERVIEW_EVENTS
    return ParsedEvent(
        event_id=as_event_id(webhook.get("id")),
        event_type=event_type,
        subject_id=as_text(webhook.get("partner_id")) or "",
        # A deletion has the object type "None", so the event's name decides.
        object_type=OBJECT_TYPE if known else as_text(webhook.get("api_type")) or "",
        object_id=object_id or "",
        object_key=(OBJECT_TYPE, object_id) if known and object_id else (),
        occurred_at=_changed_at(as_mapping(webhook.get("api_object"))) if known else None,
    )


def read_data(document: Document) -> Interview | None:
    """Return the interview that a delivery is about; None if the event type is unknown."""
    webhook = _webhook(document)
    if as_text(webhook.get("event_name")) not in INTERVIEW_EVENTS:
        return None
    partner_id = as_text(webhook.get("partner_id"))
    return read_interview(_object_id(webhook), partner_id, as_mapping(webhook.get("api_object")))


def _webhook(document: Document) -> Document:
    """Return the fields under their current names. The reference shows them both under ``webhook`` and at the top."""
    webhook = as_mapping(document.get("webhook")) or document
    return webhook if as_text(webhook.get("event_name")) else _renamed(webhook)


def _renamed(draft: Document) -> Document:
    """Return the draft of July 2015, which has ``event``, ``user`` and ``object``, under the current names."""
    about = as_mapping(draft.get("object"))
    current = {
        "event_name": draft.get("event"),
        "partner_id": as_mapping(draft.get("user")).get("partner_id"),
        "api_type": about.get("type"),
        "api_object": about.get("data"),
    }
    return {**draft, **{name: value for name, value in current.items() if value is not None}}


def _object_id(webhook: Document) -> str | None:
    """Return the interview's id. The reference calls ``api_id`` an integer, but its sample has a string."""
    return as_text(webhook.get("api_id")) or as_text(as_mapping(webhook.get("api_object")).get("id"))


def _changed_at(interview: Document) -> datetime | None:
    return as_datetime(interview.get("updated_at")) or as_datetime(interview.get("created_at"))


def read_interview(object_id: str | None, partner_id: str | None, fields: Document) -> Interview:
    """Parse an interview object, which is the same in webhooks and in the Partner API."""
    links = as_mapping(fields.get("links"))
    return Interview(
        id=object_id,
        partner_id=partner_id,
        title=as_text(fields.get("title")),
        interviewer_name=as_text(fields.get("interviewer_name")),
        category=as_text(fields.get("category")),
        completed=as_flag(fields.get("completed")),
        created_at=as_datetime(fields.get("created_at")),
        updated_at=as_datetime(fields.get("updated_at")),
        review_path=as_text(links.get("review")),
        retake_path=as_text(links.get("retake")),
    )


def sample(event_type: str, event_id: str, subject_id: str) -> dict[str, Any]:
    """Return the sample of "Handling webhooks"; a deletion has no object, as "The webhook object" says."""
    interview = {
        "id": 95607,
        "title": "Top 10 Questions",
        "interviewer_name": "Jordan",
        "category": "Top 10 Questions: 1",
        "completed": True,
        "created_at": "2015-05-18T16:37:13.000Z",
        "updated_at": "2015-05-18T16:37:13.000Z",
        "links": {
            "review": "/members/mock_interviews/95607",
            "retake": "/members/mock_interviews/interview_info/52",
        },
    }
    deleted = event_type == INTERVIEW_DELETED
    return {
        "webhook": {
            "id": event_id,
            "event_name": event_type,
            "partner_id": subject_id,
            "api_id": "95607",
            "api_type": "None" if deleted else OBJECT_TYPE,
            "api_object": None if deleted else interview,
        }
    }


BIG_INTERVIEW = Vendor(
    slug="big_interview",
    label="Big Interview",
    documentation_url="https://support.biginterview.com/en/article/legacy-single-sign-on-6cnptv",
    sends_key=True,
    default_networks=(),
    event_types=INTERVIEW_EVENTS,
    read=read,
    read_data=read_data,
    sample=sample,
)
