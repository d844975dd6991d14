"""What the portal stores: students, their interviews and finished courses, and the feed of what receivers did."""

from datetime import timedelta

from django.conf import settings
from django.db import models
from django.urls import reverse
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from django_bi_integration.models import ReceivedEvent

#: The number of avatar colours in portal.css.
TONES = 6


class StudentManager(models.Manager["Student"]):
    """Finds students by a vendor's id, and adds a placeholder for an unknown id, so that no event is lost."""

    def with_partner_id(self, partner_id: str) -> "Student":
        defaults = {"name": _placeholder(partner_id), "is_known": False}
        return self.get_or_create(partner_id=partner_id[:255], defaults=defaults)[0]

    def with_external_id(self, external_id: str, *, email: str) -> "Student":
        defaults = {"name": _placeholder(external_id), "email": email[:255], "is_known": False}
        return self.get_or_create(external_id=external_id[:255], defaults=defaults)[0]


def _placeholder(identifier: str) -> str:
    return (gettext("Unknown (%(identifier)s)") % {"identifier": identifier})[:200]


class Student(models.Model):
    """A student, or a placeholder for an id that only a vendor's event has mentioned (``is_known`` is False)."""

    name = models.CharField(_("name"), max_length=200)
    # Null if unknown: the ids are unique, and several students may lack one.
    partner_id = models.CharField(_("Big Interview partner id"), max_length=255, unique=True, null=True, blank=True)
    external_id = models.CharField(
        _("Innovative Educators customer id"), max_length=255, unique=True, null=True, blank=True
    )
    email = models.CharField(_("e-mail"), max_length=255, blank=True)
    user = models.OneToOneField(
        settings.AUTH_USER_MODEL,
        null=True,
        blank=True,
        on_delete=models.SET_NULL,
        related_name="student",
        verbose_name=_("user"),
        help_text=_("The account that the student signs in with."),
    )
    is_known = models.BooleanField(_("enrolled here"), default=True)

    objects = StudentManager()

    class Meta:
        verbose_name = _("student")
        verbose_name_plural = _("students")
        ordering = ["-is_known", "name", "pk"]

    def __str__(self) -> str:
        return self.name

    def get_absolute_url(self) -> str:
        return reverse("portal:student", args=[self.pk])

    @property
    def initials(self) -> str:
        if not self.is_known:
            return "?"
        words = self.name.split() or ["?"]
        return (words[0][:1] + (words[-1][:1] if len(words) > 1 else "")).upper()

    @property
    def tone(self) -> int:
        """The number of the student's avatar colour in portal.css."""
        return self.pk % TONES


class InterviewRecord(models.Model):
    """A mock interview, in the state that the newest event about it reported."""

    student = models.ForeignKey(Student, on_delete=models.CASCADE, related_name="interviews", verbose_name=_("student"))
    interview_id = models.CharField(_("interview id"), max_length=255, unique=True)
    title = models.CharField(_("title"), max_length=300, blank=True)
    category = models.CharField(_("category"), max_length=200, blank=True)
    completed = models.BooleanField(_("completed"), default=False)
    started_at = models.DateTimeField(_("started"), null=True, blank=True)
    updated_at = models.DateTimeField(_("updated"), null=True, blank=True)
    is_deleted = models.BooleanField(_("deleted"), default=False)
    changed_at = models.DateTimeField(_("changed here"), auto_now=True)

    class Meta:
        verbose_name = _("interview")
        verbose_name_plural = _("interviews")
        ordering = ["-changed_at", "-pk"]

    def __str__(self) -> str:
        return self.title or gettext("Interview %(id)s") % {"id": self.interview_id}

    @property
    def own_category(self) -> str:
        """The category, or "" if it is only the title with a number, such as “Top 10 Questions: 1”."""
        rest = self.category.removeprefix(self.title).strip(" :0123456789")
        return self.category if rest else ""


class CompletionRecord(models.Model):
    """A course that a student completed."""

    student = models.ForeignKey(
        Student, on_delete=models.CASCADE, related_name="completions", verbose_name=_("student")
    )
    course_id = models.CharField(_("course id"), max_length=255)
    course_title = models.CharField(_("course"), max_length=300, blank=True)
    completed_at = models.DateTimeField(_("completed"), null=True, blank=True)
    changed_at = models.DateTimeField(_("changed here"), auto_now=True)

    class Meta:
        verbose_name = _("course completion")
        verbose_name_plural = _("course completions")
        ordering = ["-changed_at", "-pk"]
        constraints = [
            models.UniqueConstraint(fields=["student", "course_id"], name="portal_one_completion_per_course")
        ]

    def __str__(self) -> str:
        return self.course_title or gettext("Course %(id)s") % {"id": self.course_id}


class Activity(models.Model):
    """What one call of one receiver did. Each call writes exactly one row, so the rows count the calls."""

    class Kind(models.TextChoices):
        STARTED = "started", _("Interview started")
        UPDATED = "updated", _("Interview updated")
        COMPLETED = "completed", _("Interview completed")
        DELETED = "deleted", _("Interview deleted")
        COURSE = "course", _("Course completed")
        LATE = "late", _("Late event")
        OTHER = "other", _("Other event")
        AUDIT = "audit", _("Audit")

    student = models.ForeignKey(
        Student,
        on_delete=models.CASCADE,
        related_name="activities",
        null=True,
        blank=True,
        verbose_name=_("student"),
    )
    event = models.ForeignKey(
        ReceivedEvent, on_delete=models.SET_NULL, related_name="+", null=True, blank=True, verbose_name=_("event")
    )
    receiver = models.CharField(_("receiver"), max_length=100)
    kind = models.CharField(_("kind"), max_length=20, choices=Kind)
    text = models.CharField(_("text"), max_length=500)
    created_at = models.DateTimeField(_("at"), auto_now_add=True)

    class Meta:
        verbose_name = _("activity")
        verbose_name_plural = _("activities")
        ordering = ["-pk"]

    def __str__(self) -> str:
        return f"{self.receiver}: {self.text}"

    @property
    def delay_ms(self) -> int | None:
        """Milliseconds from the receipt of the webhook to this row; None if the event has been deleted."""
        if self.event is None:
            return None
        return max(0, round((self.created_at - self.event.received_at) / timedelta(milliseconds=1)))
