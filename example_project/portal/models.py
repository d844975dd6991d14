"""What the portal knows: students, their interviews and completed courses, and a log of receiver calls."""

from datetime import timedelta

from django.conf import settings
from django.db import models
from django.urls import reverse
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from django_bi_integration.models import ReceivedEvent

#: How many avatar colours the style sheet has.
TONES = 6


class Student(models.Model):
    """A student, or somebody whom only a vendor's event has mentioned so far (``is_known`` is False)."""

    name = models.CharField(_("name"), max_length=200)
    # Null where unknown: several students may lack an identifier, and a unique "" would forbid that.
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
        help_text=_("Who they are when they are signed in."),
    )
    is_known = models.BooleanField(_("enrolled here"), default=True)

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
        """Which of the style sheet's avatar colours is theirs; always the same one."""
        return self.pk % TONES


class InterviewRecord(models.Model):
    """A mock interview, as the newest event about it said."""

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
        """The category, or nothing where it only repeats the title with a number: “Top 10 Questions: 1”."""
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
    """One call of one receiver: exactly one row each, so that calls can be counted."""

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
        """Milliseconds from the webhook's arrival until this row; None once the event is deleted."""
        if self.event is None:
            return None
        return max(0, round((self.created_at - self.event.received_at) / timedelta(milliseconds=1)))
