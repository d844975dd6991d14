"""What this project does with the vendors' events. Copy from here.

* A receiver sets a state (``update_or_create``) instead of adding to one, so a replayed event changes nothing.
* It ignores a stale event (``event.is_stale``): a newer event about the same object was dispatched before.
* It expects any field of ``data`` to be None, because the vendors leave out what they do not know.
* It sends e-mail from ``transaction.on_commit``, because a rollback cannot undo an e-mail.

The package runs each receiver in a savepoint, and commits its changes together with the record that it is done. So each
call leaves exactly one ``Activity``, even if the worker is killed halfway through.
"""

from functools import partial
from typing import Any

from django.core.mail import send_mail
from django.db import transaction
from django.dispatch import receiver
from django.utils.translation import gettext as _

from django_bi_integration.events import CourseCompletion, EventData, Interview
from django_bi_integration.models import ReceivedEvent
from django_bi_integration.signals import (
    course_completed,
    event_received,
    interview_created,
    interview_deleted,
    interview_updated,
)
from example_project.portal.activities import ReceiverLog
from example_project.portal.models import Activity, CompletionRecord, InterviewRecord, Student

Kind = Activity.Kind


@receiver(interview_created)
def interview_was_created(sender: type, event: ReceivedEvent, data: Interview, **kwargs: Any) -> None:
    log = ReceiverLog("interview_was_created", event)
    if not data.id or not data.partner_id:
        log.incomplete()
        return
    student = Student.objects.with_partner_id(data.partner_id)
    text = _("started “%(title)s”") % {"title": data.title or data.id}
    if event.is_stale:
        log.late(text, student)
        return
    save_interview(student, data)
    log.write(Kind.STARTED, text, student)


@receiver(interview_updated)
def interview_was_updated(sender: type, event: ReceivedEvent, data: Interview, **kwargs: Any) -> None:
    log = ReceiverLog("interview_was_updated", event)
    if not data.id or not data.partner_id:
        log.incomplete()
        return
    student = Student.objects.with_partner_id(data.partner_id)
    text = _("completed “%(title)s”") if data.completed else _("worked on “%(title)s”")
    text %= {"title": data.title or data.id}
    if event.is_stale:
        log.late(text, student)
        return
    save_interview(student, data)
    log.write(Kind.COMPLETED if data.completed else Kind.UPDATED, text, student)


@receiver(interview_deleted)
def interview_was_deleted(sender: type, event: ReceivedEvent, data: Interview, **kwargs: Any) -> None:
    log = ReceiverLog("interview_was_deleted", event)
    if not data.id or not data.partner_id:
        log.incomplete()
        return
    student = Student.objects.with_partner_id(data.partner_id)
    # A deletion carries only ids and is never stale. It also applies to an interview that is not known here yet.
    interview, _created = InterviewRecord.objects.update_or_create(
        interview_id=data.id[:255],
        defaults={"is_deleted": True},
        create_defaults={"is_deleted": True, "student": student},
    )
    log.write(Kind.DELETED, _("deleted “%(title)s”") % {"title": interview}, student)


@receiver(course_completed)
def course_was_completed(sender: type, event: ReceivedEvent, data: CourseCompletion, **kwargs: Any) -> None:
    log = ReceiverLog("course_was_completed", event)
    learner = data.learner
    if not data.course_id or not learner.external_customer_id:
        log.incomplete()
        return
    student = Student.objects.with_external_id(learner.external_customer_id, email=learner.email or "")
    title = data.course_title or data.course_id
    text = _("finished the course “%(title)s”") % {"title": title}
    if event.is_stale:
        log.late(text, student)
        return
    _completion, is_new = CompletionRecord.objects.update_or_create(
        student=student,
        course_id=data.course_id[:255],
        defaults={"course_title": (data.course_title or "")[:300], "completed_at": data.completed_at},
    )
    log.write(Kind.COURSE, text, student)
    if is_new and student.is_known:
        transaction.on_commit(partial(congratulate, student, title))


@receiver(event_received)
def audit(sender: type, event: ReceivedEvent, data: EventData | None, **kwargs: Any) -> None:
    """See every event, including those of a type without a specific signal; ``data`` is None for these."""
    log = ReceiverLog("audit", event)
    if data is None:
        kind, text = Kind.OTHER, _("%(vendor)s sent an event of an unknown type: %(type)s")
    else:
        kind, text = Kind.AUDIT, _("%(vendor)s sent an event: %(type)s")
    log.write(kind, text % {"vendor": event.get_vendor_display(), "type": event.event_type or "?"})


def save_interview(student: Student, data: Interview) -> None:
    """Store the state of an interview. A field that the vendor left out keeps its value."""
    # Texts are cut to the length of their columns, because the vendors document no limit.
    state = {
        "title": data.title and data.title[:300],
        "category": data.category and data.category[:200],
        "completed": data.completed,
        "started_at": data.created_at,
        "updated_at": data.updated_at,
    }
    given = {name: value for name, value in state.items() if value is not None}
    InterviewRecord.objects.update_or_create(
        interview_id=(data.id or "")[:255], defaults={"student": student, "is_deleted": False, **given}
    )


def congratulate(student: Student, course_title: str) -> None:
    """Send an e-mail: at most once, and never if the process dies between the commit and this call."""
    message = _("You finished the course “%(title)s”. Well done!") % {"title": course_title}
    send_mail(_("Course finished"), message, None, [student.email])
