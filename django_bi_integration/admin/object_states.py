"""The screen of object states: what is known about each interview and course completion."""

import json
from typing import Any

from django.contrib import admin
from django.http import HttpRequest
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _

from django_bi_integration.admin.base import RecordAdmin, may_see_payload
from django_bi_integration.admin.values import EMPTY, preformatted
from django_bi_integration.models import ObjectState


@admin.register(ObjectState)
class ObjectStateAdmin(RecordAdmin):
    list_display = ["__str__", "subject_id", "registration", "newest_at", "is_deleted"]
    list_filter = ["object_type", "is_deleted"]
    list_select_related = ["registration"]
    search_fields = ["subject_id__exact", "object_id__exact"]
    search_help_text = _("A complete subject or object id.")
    hidden = ("data",)

    fields = [
        "registration",
        "object_type",
        "object_id",
        "subject_id",
        "newest_at",
        "newest_event",
        "latest_data",
        "is_deleted",
    ]

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        fields = super().get_fields(request, obj)
        return fields if may_see_payload(request) else [name for name in fields if name != "latest_data"]

    @admin.display(description=_("latest data"))
    def latest_data(self, state: ObjectState) -> SafeString | str:
        return preformatted(json.dumps(state.data).encode()) if state.data is not None else EMPTY
