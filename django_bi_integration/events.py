"""Typed event data: frozen dataclasses, and the names of the event types."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType

__all__ = [
    "COURSE_COMPLETE",
    "INTERVIEW_CREATED",
    "INTERVIEW_DELETED",
    "INTERVIEW_UPDATED",
    "CourseCompletion",
    "EventData",
    "Interview",
    "Learner",
]

INTERVIEW_CREATED = "interview.created"
INTERVIEW_UPDATED = "interview.updated"
INTERVIEW_DELETED = "interview.deleted"
COURSE_COMPLETE = "courseComplete"


@dataclass(frozen=True, slots=True)
class Interview:
    """A mock interview at Big Interview. Only the ids of a deleted interview are known.

    ``review_path`` and ``retake_path`` are paths on the organisation's own Big Interview host; opening
    ``retake_path`` there starts a new interview. A field that the vendor left out is None.
    """

    id: str | None
    partner_id: str | None
    title: str | None = None
    interviewer_name: str | None = None
    category: str | None = None
    completed: bool | None = None
    created_at: datetime | None = None
    updated_at: datetime | None = None
    review_path: str | None = None
    retake_path: str | None = None


@dataclass(frozen=True, slots=True)
class Learner:
    """The person who completed a course, as Innovative Educators knows them.

    ``external_customer_id`` is the identifier that the institution sent at single sign-on (leading zeros
    kept); ``refs`` holds the optional ``ref1`` … ``ref10`` that it sent along, except those that are null.
    ``sf_contact_id`` and ``sf_account_id`` are the institution's ids in Salesforce. Of all these, a ``repr`` shows only
    the identifier, and no name or e-mail address, so that no log contains them by accident.
    """

    id: str | None = None
    email: str | None = field(default=None, repr=False)
    first_name: str | None = field(default=None, repr=False)
    last_name: str | None = field(default=None, repr=False)
    external_customer_id: str | None = None
    sf_contact_id: str | None = field(default=None, repr=False)
    sf_account_id: str | None = field(default=None, repr=False)
    client: str | None = None
    refs: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}), repr=False)


@dataclass(frozen=True, slots=True)
class CourseCompletion:
    """A course that a learner completed at Innovative Educators.

    Only one of its event's two shapes has a ``course_sku``.
    """

    course_id: str | None
    course_title: str | None
    completed_at: datetime | None
    company_id: str | None
    learner: Learner
    course_sku: str | None = None


EventData = Interview | CourseCompletion


@dataclass(frozen=True, slots=True)
class ParsedEvent:
    """The columns that a vendor module parses from a delivery.

    ``event_id`` is None if the vendor sent none. ``event_type`` is the vendor's documented word, or an unknown one that
    it sent. Events with equal ``object_key`` are about the same interview, or the same learner in the same course, and
    are dispatched one at a time.
    """

    event_id: str | None
    event_type: str
    subject_id: str = field(default="", repr=False)
    object_type: str = ""
    object_id: str = ""
    object_key: tuple[str, ...] = field(default=(), repr=False)
    occurred_at: datetime | None = None
