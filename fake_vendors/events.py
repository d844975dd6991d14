"""The events that the vendors send, in the documented shape."""

import json
import time
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count
from typing import Any

#: Event ids are digits, as in Big Interview's samples. The counter starts at a clock that is faster than events can be
#: made, so ids are unique across runs.
_numbers = count(time.time_ns() // 1000)

#: The exercise in Big Interview's samples, "Top 10 Questions". A retake starts it again.
EXERCISE = 52

COMPANY = "3aabdfb8-3891-5011-ad35-8e2351c5fdaf"


@dataclass(frozen=True)
class Event:
    """One event, ready to be sent."""

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
    """Return the event of a new interview. Without an ``event_id``, all functions here choose a unique one."""
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
    """Return the event of an interview that changed ``at`` this time; ``created_at`` defaults to the same time."""
    interview = interview_object(
        interview_id, title, completed=completed, created_at=created_at or at, updated_at=at, exercise=exercise
    )
    return _big_interview("interview.updated", interview_id, partner_id, interview, event_id)


def interview_deleted(interview_id: int, partner_id: str | None, *, event_id: str | None = None) -> Event:
    """Return the event of a deletion, which has no object: type "None", value null ("The webhook object")."""
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
    """Return an interview as in a webhook ("The webhook object"), with a link that starts the ``exercise`` again."""
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
    """Return a completion with the fields of the "Sample Payload", whose ids are UUIDs of version 5."""
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
    """Format a time as both vendors do: UTC, with milliseconds and a Z."""
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
