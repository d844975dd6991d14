"""The portal's pages, and the fragments that keep them up to date."""

from typing import Any

from django.db.models import Count, Max, Prefetch, Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, render
from django.utils.translation import get_language
from django.views.decorators.cache import cache_control
from django.views.decorators.http import condition, require_safe

from django_bi_integration.models import ReceivedEvent
from example_project.portal.models import Activity, CompletionRecord, InterviewRecord, Student

STUDENTS_SHOWN = 24
ACTIVITIES_SHOWN = 30
RECORDS_PER_CARD = 3
RECORDS_PER_STUDENT = 100


def _version(request: HttpRequest, **kwargs: Any) -> str:
    """Return the fragments' ETag. Each event leads to an activity, so the newest one shows whether an event arrived."""
    newest = {"latest": Max("pk"), "total": Count("pk")}
    parts = (
        *Activity.objects.aggregate(**newest).values(),
        *Student.objects.aggregate(**newest).values(),
        get_language(),
        request.user.pk,
    )
    return '"{}"'.format("-".join(str(part or 0) for part in parts))


live = condition(etag_func=_version)


@require_safe
def overview(request: HttpRequest) -> HttpResponse:
    return render(request, "portal/overview.html", _overview())


@require_safe
@cache_control(no_cache=True)
@live
def overview_live(request: HttpRequest) -> HttpResponse:
    return render(request, "portal/overview_live.html", _overview())


@require_safe
def student(request: HttpRequest, pk: int) -> HttpResponse:
    return render(request, "portal/student.html", _student(request, pk))


@require_safe
@cache_control(no_cache=True)
@live
def student_live(request: HttpRequest, pk: int) -> HttpResponse:
    return render(request, "portal/student_live.html", _student(request, pk))


@require_safe
def about(request: HttpRequest) -> HttpResponse:
    return render(request, "portal/about.html")


def _overview() -> dict[str, Any]:
    student_count = Student.objects.count()
    students = (
        Student.objects.annotate(
            interview_count=Count("interviews", filter=Q(interviews__is_deleted=False), distinct=True),
            completion_count=Count("completions", distinct=True),
        )
        .order_by("-is_known", "name", "pk")  # Meta.ordering does not apply to GROUP BY queries
        .prefetch_related(
            Prefetch("interviews", InterviewRecord.objects.all()[:RECORDS_PER_CARD], to_attr="latest_interviews"),
            Prefetch("completions", CompletionRecord.objects.all()[:RECORDS_PER_CARD], to_attr="latest_completions"),
        )
    )
    return {
        "students": students[:STUDENTS_SHOWN],
        "student_count": student_count,
        "students_left_out": max(0, student_count - STUDENTS_SHOWN),
        "interviews": InterviewRecord.objects.filter(is_deleted=False).aggregate(
            total=Count("pk"), completed=Count("pk", filter=Q(completed=True))
        ),
        "completion_count": CompletionRecord.objects.count(),
        "event_count": ReceivedEvent.objects.count(),
        "activities": _feed(),
    }


def _student(request: HttpRequest, pk: int) -> dict[str, Any]:
    found = get_object_or_404(Student, pk=pk)
    return {
        "student": found,
        "page_url": found.get_absolute_url(),
        "is_me": found.user_id is not None and found.user_id == request.user.pk,
        "interviews": found.interviews.all()[:RECORDS_PER_STUDENT],
        "completions": found.completions.all()[:RECORDS_PER_STUDENT],
        "activities": _feed(student=found),
    }


def _feed(**conditions: Any) -> QuerySet[Activity]:
    # Audit rows only repeat what the event's own receiver wrote. The audit of an unknown event has another kind.
    rows = Activity.objects.filter(**conditions).exclude(kind=Activity.Kind.AUDIT).select_related("student", "event")
    # Bodies may be large, and the feed does not show them.
    return rows.defer("event__body", "event__conflicting_body")[:ACTIVITIES_SHOWN]
