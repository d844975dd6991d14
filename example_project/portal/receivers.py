"""The receivers: what this host project does with each event. Every call leaves one Activity row.

An event may come twice, late or in the wrong order, so each receiver states what is, rather than adding to
it. The package runs each one in a transaction of its own: its changes and its Activity row stand or fall together.
"""

from typing import Any

from django.dispatch import receiver
from django.utils.translation import gettext as _

from django_bi_integration.events import CourseCompletion, EventData, Interview
from django_bi_integration.models import ReceivedEvent
from django_bi_integration.signals import (
    BY_EVENT_TYPE,
    course_completed,
    event_received,
    interview_created,
    interview_deleted,
    interview_updated,
)
from example_project.portal.models import Activity, CompletionRecord, InterviewRecord, Student
from example_project.portal.students import student_by_external_id, student_by_partner_id

Kind = Activity.Kind


@receiver(interview_created)
def interview_was_created(sender: type, event: ReceivedEvent, data: Interview, **kwargs: Any) -> None:
    log = _Log("interview_was_created", event)
    if not data.id or not data.partner_id:
        log.write(Kind.OTHER, _("An interview was started, but the event does not say which or whose"))
        return
    log.student = student_by_partner_id(_text(data.partner_id))
    if event.is_stale:
        log.write(Kind.LATE, _("started “%(title)s”, an event that came late: what is newer is kept") % _title(data))
        return
    _save_interview(log.student, data)
    log.write(Kind.STARTED, _("started “%(title)s”") % _title(data))


@receiver(interview_updated)
def interview_was_updated(sender: type, event: ReceivedEvent, data: Interview, **kwargs: Any) -> None:
    log = _Log("interview_was_updated", event)
    if not data.id or not data.partner_id:
        log.write(Kind.OTHER, _("An interview was updated, but the event does not say which or whose"))
        return
    log.student = student_by_partner_id(_text(data.partner_id))
    if event.is_stale:
        log.write(Kind.LATE, _("worked on “%(title)s”, an event that came late: what is newer is kept") % _title(data))
        return
    _save_interview(log.student, data)
    if data.completed:
        log.write(Kind.COMPLETED, _("completed “%(title)s”") % _title(data))
    else:
        log.write(Kind.UPDATED, _("worked on “%(title)s”") % _title(data))


@receiver(interview_deleted)
def interview_was_deleted(sender: type, event: ReceivedEvent, data: Interview, **kwargs: Any) -> None:
    log = _Log("interview_was_deleted", event)
    if not data.id or not data.partner_id:
        log.write(Kind.OTHER, _("An interview was deleted, but the event does not say which or whose"))
        return
    log.student = student_by_partner_id(_text(data.partner_id))
    # A delete carries the ids alone: the title is the one that is known here. It is the last word on an
    # interview, so that it applies even to one that is not known yet.
    record, _created = InterviewRecord.objects.update_or_create(
        interview_id=_text(data.id),
        defaults={"is_deleted": True},
        create_defaults={"is_deleted": True, "student": log.student},
    )
    log.write(Kind.DELETED, _("deleted “%(title)s”") % {"title": record})


@receiver(course_completed)
def course_was_completed(sender: type, event: ReceivedEvent, data: CourseCompletion, **kwargs: Any) -> None:
    log = _Log("course_was_completed", event)
    title = {"title": _text(data.course_title) or _text(data.course_id)}
    if not data.course_id or not data.learner.external_customer_id:
        log.write(Kind.OTHER, _("A course was completed, but the event does not say which or by whom"))
        return
    log.student = student_by_external_id(_text(data.learner.external_customer_id), email=_text(data.learner.email))
    if event.is_stale:
        log.write(
            Kind.LATE, _("finished the course “%(title)s”, an event that came late: what is newer is kept") % title
        )
        return
    CompletionRecord.objects.update_or_create(
        student=log.student,
        course_id=_text(data.course_id),
        defaults={"course_title": _text(data.course_title), "completed_at": data.completed_at},
    )
    log.write(Kind.COURSE, _("finished the course “%(title)s”") % title)


@receiver(event_received)
def audit(sender: type, event: ReceivedEvent, data: EventData | None, **kwargs: Any) -> None:
    log = _Log("audit", event)
    if event.event_type in BY_EVENT_TYPE:
        log.write(Kind.AUDIT, _("Received %(type)s") % {"type": event.event_type})
    else:
        kind = event.event_type or "?"
        log.write(
            Kind.OTHER,
            _("%(vendor)s sent an event that is unknown here: %(type)s")
            % {"vendor": event.get_vendor_display(), "type": kind},
        )


class _Log:
    """Writes the one Activity row of a receiver's call."""

    def __init__(self, receiver: str, event: ReceivedEvent) -> None:
        self.receiver = receiver
        self.event = event
        self.student: Student | None = None

    def write(self, kind: Activity.Kind, text: str) -> None:
        Activity.objects.create(
            receiver=self.receiver, event=self.event, student=self.student, kind=kind, text=text[:500]
        )


def _save_interview(student: Student, data: Interview) -> None:
    # None is what the vendor left out: what is known of it stays.
    told = {
        "title": data.title and _text(data.title),
        "category": data.category and _text(data.category, 200),
        "completed": data.completed,
        "started_at": data.created_at,
        "updated_at": data.updated_at,
    }
    InterviewRecord.objects.update_or_create(
        interview_id=_text(data.id),
        defaults={"student": student, "is_deleted": False}
        | {name: value for name, value in told.items() if value is not None},
    )


def _title(data: Interview) -> dict[str, InterviewRecord]:
    return {"title": InterviewRecord(interview_id=_text(data.id), title=_text(data.title))}


def _text(value: str | None, length: int = 255) -> str:
    """What a vendor sent, as every database can hold it: no NUL, no lone surrogate, not too long."""
    return (value or "").replace("\0", "").encode("utf-8", "replace").decode()[:length]
