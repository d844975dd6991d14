"""The example project's receivers, which newcomers copy: state, stale events, missing ids, e-mail on commit."""

import json
import os
import subprocess
import sys
from types import SimpleNamespace

import pytest

from tests.helpers.stack import ROOT

#: Runs in the example project on a separate database, and prints the rows that the receivers stored.
SCRIPT = """
import json
from datetime import UTC, datetime, timedelta
from django.conf import settings
from django.core import mail
from django_bi_integration.dispatch.worker import dispatch_pending
from django_bi_integration.models import ReceivedEvent, WebhookRegistration
from django_bi_integration.webhooks.receive import receive
from example_project.portal.models import Activity, CompletionRecord, InterviewRecord, Student
from fake_vendors import events

settings.EMAIL_BACKEND = "django.core.mail.backends.locmem.EmailBackend"
mail.outbox = []
interviews = WebhookRegistration.objects.create(name="x", vendor="big_interview")
courses = WebhookRegistration.objects.create(name="x", vendor="innovative_educators")
Student.objects.create(name="Student 1", partner_id="student-1", external_id="007", email="student-1@students.example")
noon = datetime(2026, 3, 1, 12, tzinfo=UTC)
one, two = noon + timedelta(hours=1), noon + timedelta(hours=2)

def deliver(registration, event):
    receive(registration, event.body)
    dispatch_pending()

deliver(interviews, events.interview_created(1, "student-1", noon, title="Nursing"))
deliver(interviews, events.interview_updated(1, "student-1", two, title="Nursing", completed=True))
deliver(interviews, events.interview_updated(1, "student-1", one, title="Old", completed=False))
deliver(interviews, events.interview_deleted(2, "student-2"))
deliver(interviews, events.interview_created(3, None, noon, title="Signed up at Big Interview"))
deliver(interviews, events.Event("9", "", b'{"webhook": {"id": "9", "event_name": "interview.shared"}}'))
for number, email in [("007", "student-1@students.example"), ("008", "student-3@students.example")]:
    for minutes in (0, 5):
        at = noon + timedelta(minutes=minutes)
        deliver(courses, events.course_completed(number, email, "Orientation", at))

print(json.dumps({
    "interviews": list(InterviewRecord.objects.values_list(
        "interview_id", "student__name", "title", "completed", "is_deleted").order_by("interview_id")),
    "completions": list(CompletionRecord.objects.values_list("student__name", "course_title").order_by("pk")),
    "activities": list(Activity.objects.values_list("receiver", "kind", "text").order_by("pk")),
    "mails": [(mail.to, mail.body) for mail in mail.outbox],
    "statuses": sorted(set(ReceivedEvent.objects.values_list("status", flat=True))),
}))
"""


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """Return the rows that the receivers stored."""
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("BI_", "CELERY_", "DATABASE_", "DJANGO_"))
    }
    environment["DEMO_DATA"] = str(tmp_path_factory.mktemp("portal"))

    def manage(*arguments):
        command = [sys.executable, "manage.py", *arguments]
        result = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120)
        assert result.returncode == 0, result.stderr
        return result.stdout

    manage("migrate", "--verbosity=0")
    return SimpleNamespace(**json.loads(manage("shell", "--no-imports", "-c", SCRIPT)))


def test_an_interview_has_the_state_of_the_newest_event(stored):
    assert stored.interviews[0] == ["1", "Student 1", "Nursing", True, False]


def test_a_stale_event_is_only_logged(stored):
    text = "worked on “Old” (this event came late, so newer data is kept)"
    assert ["interview_was_updated", "late", text] in stored.activities


def test_a_deletion_applies_to_an_unknown_interview_of_an_unknown_student(stored):
    assert stored.interviews[1] == ["2", "Unknown (student-2)", "", False, True]


def test_an_event_without_a_partner_id_is_only_logged(stored):
    text = "interview.created does not say who or what it is about, so it changes nothing"
    assert ["interview_was_created", "other", text] in stored.activities
    assert len(stored.interviews) == 2


def test_an_unknown_type_of_event_is_logged(stored):
    text = "Big Interview sent an event of an unknown type: interview.shared"
    assert ["audit", "other", text] in stored.activities


def test_a_student_who_completes_a_course_gets_one_email(stored):
    """A second completion of the same course sends none, and neither does that of an unknown student."""
    assert stored.completions == [["Student 1", "Orientation"], ["Unknown (008)", "Orientation"]]
    assert stored.mails == [[["student-1@students.example"], "You finished the course “Orientation”. Well done!"]]


def test_each_call_of_a_receiver_writes_one_activity(stored):
    receivers = [receiver for receiver, *_ in stored.activities]
    assert {receiver: receivers.count(receiver) for receiver in receivers} == {
        "audit": 10,
        "course_was_completed": 4,
        "interview_was_created": 2,
        "interview_was_deleted": 1,
        "interview_was_updated": 2,
    }
    assert stored.statuses == ["dispatched"]
