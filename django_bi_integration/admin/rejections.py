"""The screen of rejections: why, how often and from where deliveries were rejected."""

import json

from django.contrib import admin
from django.template.loader import render_to_string
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _

from django_bi_integration.admin.base import RecordAdmin
from django_bi_integration.admin.values import EMPTY, exact_time, isolated
from django_bi_integration.models import Rejection
from django_bi_integration.webhooks.client_address import possible_settings


@admin.register(Rejection)
class RejectionAdmin(RecordAdmin):
    list_display = ["latest", "count", "reason", "address", "way", "registration", "since"]
    list_filter = ["reason", "last_at", "registration"]
    list_select_related = ["registration"]
    search_fields = ["address__exact", "peer__exact", "forwarded_for"]
    search_help_text = _("A complete address, or a part of X-Forwarded-For.")
    fieldsets = [
        (None, {"fields": ["registration", "reason", "count", "since", "latest"]}),
        (_("From where"), {"fields": ["address", "peer", "forwarded_for", "possible_settings"]}),
    ]

    @admin.display(description=_("latest"), ordering="last_at")
    def latest(self, rejection: Rejection) -> str:
        return exact_time(rejection.last_at)

    @admin.display(description=_("since"), ordering="first_at")
    def since(self, rejection: Rejection) -> str:
        return exact_time(rejection.first_at)

    @admin.display(description=_("as seen"))
    def way(self, rejection: Rejection) -> SafeString | str:
        return isolated(rejection.way)

    @admin.display(description=_("the address for each TRUSTED_PROXIES"))
    def possible_settings(self, rejection: Rejection) -> SafeString | str:
        if not rejection.peer:
            return EMPTY
        found = [
            (json.dumps(proxies, default=str), address)
            for proxies, address in possible_settings(rejection.forwarded_for, rejection.peer)
        ]
        return render_to_string("django_bi_integration/admin/possible_settings.html", {"possible_settings": found})
