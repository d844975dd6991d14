"""The screen of single sign-ons: who went to Big Interview, who returned, and what went wrong."""

from django.contrib import admin
from django.contrib.auth import get_user_model
from django.db.models import Model
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _

from django_bi_integration.admin.base import RecordAdmin
from django_bi_integration.models import SSOSession


@admin.register(SSOSession)
class SSOSessionAdmin(RecordAdmin):
    list_display = ["requested_at", "reference", "user", "account", "status", "error", "failures"]
    list_filter = ["status", "account", "requested_at"]
    list_select_related = ["user", "account"]
    search_help_text = _("A complete reference, user name or partner id.")
    ordering = ["-requested_at"]
    newest_by = "requested_at"
    fieldsets = [
        (None, {"fields": ["reference", "user", "account", "partner_id", "status", "failures", "error"]}),
        (_("Pages"), {"fields": ["redirect_to", "return_url"]}),
        (
            _("Times"),
            {"fields": ["requested_at", "redirected_at", "returned_at", "last_failed_at", "token_expires_at"]},
        ),
    ]

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        # They are deleted with their user or account, which could not be deleted here otherwise.
        return admin.ModelAdmin.has_delete_permission(self, request, obj)

    def get_search_fields(self, request: HttpRequest) -> tuple[str, ...]:
        name = get_user_model().USERNAME_FIELD
        return ("id__istartswith", "partner_id__exact", f"user__{name}__exact")

    @admin.display(description=_("reference"))
    def reference(self, session: SSOSession) -> str:
        return session.reference
