"""The events that the vendors send, in their documented shape."""

import json
import time
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count
from typing import Any

#: Big Interview's own samples of an event id are digits. Counting on from a clock that runs faster than events can be
#: made keeps them unique over runs, too.
_numbers = count(time.time_ns() // 1000)

#: The exercise of Big Interview's own samples, "Top 10 Questions": what a retake starts again.
EXERCISE = 52

COMPANY = "3aabdfb8-3891-5011-ad35-8e2351c5fdaf"


@dataclass(frozen=True)
class Event:
    """One event, ready to be posted."""

    event_id: str
    name: str
    body: bytes


def interview_created(
    interview_id: int,
    partner_id: str | None,
    at: datetime,
    *,
    title: str,
    exercise: int = EXERCISE,
    event_id: str | None = None,
) -> Event:
    """A new interview, not completed yet; without an ``event_id`` it gets one of its own, as all events here do."""
    interview = interview_object(interview_id, title, completed=False, created_at=at, updated_at=at, exercise=exercise)
    return _big_interview("interview.created", interview_id, partner_id, interview, event_id)


def interview_updated(
    interview_id: int,
    partner_id: str | None,
    at: datetime,
    *,
    title: str,
    completed: bool,
    created_at: datetime | None = None,
    exercise: int = EXERCISE,
    event_id: str | None = None,
) -> Event:
    """An interview that changed ``at`` this time, and was created then, too, if nothing else is said."""
    interview = interview_object(
        interview_id, title, completed=completed, created_at=created_at or at, updated_at=at, exercise=exercise
    )
    return _big_interview("interview.updated", interview_id, partner_id, interview, event_id)


def interview_deleted(interview_id: int, partner_id: str | None, *, event_id: str | None = None) -> Event:
    """A delete has no object: its type is "None" and the field null ("The webhook object")."""
    return _big_interview("interview.deleted", interview_id, partner_id, None, event_id)


def interview_object(
    interview_id: int,
    title: str,
    *,
    completed: bool,
    created_at: datetime,
    updated_at: datetime,
    exercise: int = EXERCISE,
) -> dict[str, Any]:
    """An interview as webhooks carry it ("The webhook object"), with a link to take the same ``exercise`` again."""
    return {
        "id": interview_id,
        "title": title,
        "interviewer_name": "Jordan",
        "category": f"{title}: 1",
        "completed": completed,
        "created_at": iso(created_at),
        "updated_at": iso(updated_at),
        "links": {
            "review": f"/members/mock_interviews/{interview_id}",
            "retake": f"/members/mock_interviews/interview_info/{exercise}",
        },
    }


def course_completed(
    external_id: str | None, email: str, title: str, at: datetime, *, event_id: str | None = None
) -> Event:
    """A completion with the fields of the "Sample Payload"; its ids are UUIDs of version 5, as there."""
    event_id = event_id or str(uuid.uuid5(uuid.NAMESPACE_URL, f"completion {next(_numbers)}"))
    document = {
        "id": event_id,
        "source": "course_completed",
        "timestamp": iso(at),
        "type": "status_change",
        "user": email,
        "companyId": COMPANY,
        "event": "courseCompletion",
        "notifiableId": str(uuid.uuid5(uuid.NAMESPACE_URL, title)),
        "title": title,
        "userDetail": {
            "id": str(uuid.uuid5(uuid.NAMESPACE_URL, email)),
            "firstName": None,
            "lastName": None,
            "externalCustomerId": external_id,
            "sfContactId": None,
            "sfAccountId": None,
            "client": str(uuid.uuid5(uuid.NAMESPACE_URL, COMPANY)),
            "ref1": external_id,
            "ref2": None,
            "ref3": None,
        },
    }
    return Event(event_id, "courseComplete", json.dumps(document).encode())


def iso(moment: datetime) -> str:
    """UTC with milliseconds and a Z, as both vendors write times."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _big_interview(
    name: str, interview_id: int, partner_id: str | None, interview: dict[str, Any] | None, event_id: str | None
) -> Event:
    event_id = event_id or str(next(_numbers))
    webhook = {
        "id": event_id,
        "event_name": name,
        "partner_id": partner_id,
        "api_id": str(interview_id),
        "api_type": "Interview" if interview else "None",
        "api_object": interview,
    }
    return Event(event_id, name, json.dumps({"webhook": webhook}).encode())
