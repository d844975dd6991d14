"""The screen of received events: what arrived, and the outcome of each receiver."""

from functools import partial
from typing import Any

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import Q, QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.template.loader import render_to_string
from django.urls import path, reverse
from django.utils.formats import number_format
from django.utils.safestring import SafeString
from django.utils.translation import gettext, ngettext
from django.utils.translation import gettext_lazy as _
from django.views.decorators.http import require_safe

from django_bi_integration.admin.base import RecordAdmin, may_see_payload
from django_bi_integration.admin.values import EMPTY, exact_time, isolated, preformatted, receiver_rows
from django_bi_integration.dispatch import outcomes
from django_bi_integration.models import ReceivedEvent
from django_bi_integration.models.event import digest
from django_bi_integration.recovery import dispatch_conflicting, retry_failed
from django_bi_integration.signals import BY_EVENT_TYPE

#: The columns that can be downloaded, and the names of their URLs.
DOWNLOADS = {
    "body": "django_bi_integration_receivedevent_body",
    "conflicting_body": "django_bi_integration_receivedevent_conflicting_body",
}


class EventTypeFilter(admin.SimpleListFilter):
    """Filter by the known types: finding out which types the table contains would read all of it."""

    title = _("event type")
    parameter_name = "event_type"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return [*((name, name) for name in BY_EVENT_TYPE), ("other", _("others"))]

    def queryset(self, request: HttpRequest, queryset: QuerySet[ReceivedEvent]) -> QuerySet[ReceivedEvent]:
        if self.value() == "other":
            return queryset.exclude(event_type__in=BY_EVENT_TYPE)
        return queryset.filter(event_type=self.value()) if self.value() else queryset


class ConflictFilter(admin.SimpleListFilter):
    """Filter the events under whose id another body was delivered: the genuine one, if the first was forged."""

    title = _("conflicting deliveries")
    parameter_name = "conflicts"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return [("yes", _("with conflicts"))]

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        return queryset.conflicting() if self.value() else queryset


def _reports(swapped: int, busy: int, unreadable: int) -> list[tuple[int, int, str]]:
    """Return the message for each group of ``SwapResult``, with its level and number."""
    done = ngettext(
        "The other body of %d event will be dispatched.", "The other bodies of %d events will be dispatched.", swapped
    )
    waits = ngettext(
        "%d event was skipped because a worker is processing it. Try again in a minute.",
        "%d events were skipped because workers are processing them. Try again in a minute.",
        busy,
    )
    stays = ngettext(
        "%d event was skipped because its conflicting body cannot be parsed.",
        "%d events were skipped because their conflicting bodies cannot be parsed.",
        unreadable,
    )
    return [
        (messages.SUCCESS, swapped, done),
        (messages.WARNING, busy, waits),
        (messages.WARNING, unreadable, stays),
    ]


@admin.register(ReceivedEvent)
class ReceivedEventAdmin(RecordAdmin):
    list_display = [
        "received_at",
        "event_type",
        "status",
        "subject_id",
        "deliveries",
        "is_stale",
        "registration_name",
    ]
    # Not a date_hierarchy, which fails on a MariaDB without time zone tables.
    list_filter = ["status", EventTypeFilter, "vendor", "received_at", "is_stale", ConflictFilter]
    list_select_related = ["registration"]
    search_fields = ["subject_id__exact", "object_id__exact"]
    search_help_text = _("A complete event id, subject (partner id, learner id, e-mail) or object id.")
    ordering = ["-pk"]
    hidden = ("body", "conflicting_body", "event_digest")
    actions = ["retry", "dispatch_conflicting"]

    fieldsets = [
        (
            None,
            {"fields": ["registration", "event_type", "vendor_event_id", "subject_id", "object_type", "object_id"]},
        ),
        (_("Times"), {"fields": ["occurred_at", "received_at", "dispatched_at"]}),
        (_("Deliveries"), {"fields": ["deliveries", "last_delivery_at", "conflicts", "origin"]}),
        (_("Dispatch"), {"fields": ["status", "is_stale", "attempts", "next_attempt", "receiver_table"]}),
        (_("Content"), {"fields": ["body_text", "conflicting_body_text"]}),
    ]

    def get_queryset(self, request: HttpRequest) -> QuerySet[ReceivedEvent]:
        # A page of a hundred rows would read a hundred bodies.
        return super().get_queryset(request).defer("body", "conflicting_body")

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[ReceivedEvent], search_term: str
    ) -> tuple[QuerySet[ReceivedEvent], bool]:
        """Search for one id, spaces included. A vendor's event id is found by its digest, as a delivery finds it."""
        term = search_term.strip()
        if not term:
            return queryset, False
        by_column = Q(*((name, term) for name in self.search_fields), _connector=Q.OR)
        return queryset.filter(by_column | Q(event_digest=digest("id", term))), False

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        fieldsets = list(super().get_fieldsets(request, obj))
        return fieldsets if may_see_payload(request) else fieldsets[:-1]

    @admin.action(description=_("Run the failed receivers again"), permissions=["retry"])
    def retry(self, request: HttpRequest, queryset: QuerySet[ReceivedEvent]) -> None:
        selected = queryset.count()
        entry = gettext("Scheduled the failed receivers to run again.")
        count = retry_failed(queryset, record=partial(self.log_changes, request, message=entry))
        if not count:
            self.message_user(request, _("None of the selected events has failed."), messages.WARNING)
            return
        text = ngettext("%s event will be dispatched again.", "%s events will be dispatched again.", count)
        text %= number_format(count, force_grouping=True)
        if others := selected - count:
            rest = ngettext(
                "The other selected event had not failed.", "The other %s selected events had not failed.", others
            )
            text += " " + (rest % number_format(others, force_grouping=True) if "%s" in rest else rest)
        self.message_user(request, text, messages.SUCCESS)

    @admin.action(description=_("Dispatch the conflicting body instead"), permissions=["retry"])
    def dispatch_conflicting(self, request: HttpRequest, queryset: QuerySet[ReceivedEvent]) -> None:
        entry = gettext("Replaced the body by the conflicting one, and scheduled it to be dispatched.")
        swaps = dispatch_conflicting(queryset, record=partial(self.log_changes, request, message=entry))
        for level, count, text in _reports(*map(len, swaps)):
            if count:
                self.message_user(request, text % count, level)
        if not any(swaps):
            self.message_user(
                request, _("None of the selected events has a conflicting body to dispatch."), messages.WARNING
            )

    def has_retry_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("django_bi_integration.change_receivedevent")

    @admin.display(description=_("registration"), ordering="registration__name")
    def registration_name(self, event: ReceivedEvent) -> SafeString | str:
        return isolated(event.registration.name)

    @admin.display(description=_("next attempt"))
    def next_attempt(self, event: ReceivedEvent) -> Any:
        if event.next_attempt_at is None:
            return _("none")
        return exact_time(event.next_attempt_at)

    @admin.display(description=_("receivers"))
    def receiver_table(self, event: ReceivedEvent) -> SafeString:
        rows = receiver_rows(outcomes.load(event))
        return render_to_string("django_bi_integration/admin/receivers.html", {"rows": rows})

    @admin.display(description=_("body"))
    def body_text(self, event: ReceivedEvent) -> SafeString:
        return preformatted(bytes(event.body), self._download_url(event, "body"))

    @admin.display(description=_("latest conflicting body"))
    def conflicting_body_text(self, event: ReceivedEvent) -> SafeString | str:
        if not event.conflicting_body:
            return EMPTY
        return preformatted(bytes(event.conflicting_body), self._download_url(event, "conflicting_body"))

    def _download_url(self, event: ReceivedEvent, which: str) -> str:
        return reverse(f"{self.admin_site.name}:{DOWNLOADS[which]}", args=[event.pk])

    def get_urls(self) -> list[Any]:
        downloads = [
            path(
                f"<int:pk>/{which.replace('_', '-')}/",
                self.admin_site.admin_view(require_safe(self.download)),
                {"which": which},
                name=name,
            )
            for which, name in DOWNLOADS.items()
        ]
        return [*downloads, *super().get_urls()]

    def download(self, request: HttpRequest, pk: int, which: str) -> HttpResponse:
        """Send the bytes as the vendor sent them."""
        event = self.get_object(request, str(pk))
        if not (self.has_view_permission(request, event) and may_see_payload(request)):
            raise PermissionDenied
        if event is None or getattr(event, which) is None:
            raise Http404
        headers = {
            "Content-Disposition": f'attachment; filename="event-{pk}-{which.replace("_", "-")}.json"',
            "X-Content-Type-Options": "nosniff",
        }
        return HttpResponse(bytes(getattr(event, which)), content_type="application/octet-stream", headers=headers)
