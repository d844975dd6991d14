"""The base classes of the screens, and the field for keys."""

from collections.abc import Iterable
from typing import Any, cast

from django import forms
from django.contrib import admin
from django.contrib.admin.models import CHANGE, LogEntry
from django.db.models import Model, QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils.decorators import method_decorator
from django.views.decorators.debug import sensitive_post_parameters, sensitive_variables

from django_bi_integration.admin import deletion, selection
from django_bi_integration.admin.selection import NewestOnly, SelectionForm
from django_bi_integration.admin.values import EMPTY, shown
from django_bi_integration.keys import checked_key
from django_bi_integration.text import visible


def may_see_payload(request: HttpRequest) -> bool:
    """Return True if the user may see what the vendors report about students."""
    return request.user.has_perm("django_bi_integration.view_payload")


class KeyField(forms.CharField):
    """A field for a key that is never shown again; an empty value changes nothing."""

    def __init__(self, *, shortest: int = 1, **options: Any) -> None:
        self.shortest = shortest
        widget = forms.PasswordInput(attrs={"autocomplete": "off", "class": "vTextField", "spellcheck": "false"})
        super().__init__(required=False, max_length=1000, widget=widget, **options)

    def clean(self, value: Any) -> Any:
        key: str = super().clean(value)
        if not key:
            return key
        try:
            return checked_key(key, shortest=self.shortest)
        except ValueError as error:
            raise forms.ValidationError(str(error)) from None


class Screen(admin.ModelAdmin):  # type: ignore[type-arg]  # takes an argument in the stubs only
    """The base of the screens: it filters only by columns that it shows, and formats values alike.

    Django lets a URL filter by any column of the model: ``?body__contains=`` would reveal a body, guess by guess.
    """

    #: The columns that are not shown, or not to everyone who may see the screen.
    hidden: tuple[str, ...] = ()
    #: The column that has a greater value in newer rows.
    newest_by = "created_at"
    action_form = SelectionForm
    change_list_template = "django_bi_integration/admin/records.html"
    delete_selected_confirmation_template = "django_bi_integration/admin/delete_selected.html"
    empty_value_display = EMPTY

    class Media:
        css = {"all": ["django_bi_integration/admin.css"]}

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest) -> bool:
        return not lookup.startswith(self.hidden) and super().lookup_allowed(lookup, value, request)

    def get_list_display(self, request: HttpRequest) -> list[Any]:
        return [shown(self.model, name) for name in super().get_list_display(request)]

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        response = super().changelist_view(request, extra_context)
        context = getattr(response, "context_data", None) or {}
        if (form := context.get("action_form")) and (rows := context["cl"]).multi_page:
            until = selection.newest(rows.root_queryset, self.newest_by)
            form.initial = {"shown_count": rows.result_count, "shown_until": until}
        return response

    def response_action(  # type: ignore[override]  # Django 5.2 knows no option, 6.1 a location
        self, request: HttpRequest, queryset: QuerySet[Any], **options: Any
    ) -> HttpResponse | None:
        if not selection.is_across(request.POST):
            return super().response_action(request, queryset, **options)
        rows = selection.confirmed(queryset, request.POST, self.newest_by)
        response = super().response_action(request, queryset.filter(pk__in=rows), **options)
        if isinstance(response, TemplateResponse) and response.context_data is not None:
            # This page asks for a confirmation, which must apply to the same rows.
            response.context_data |= {"shown_count": len(rows), "shown_until": request.POST.get("shown_until", "")}
        return response

    def get_deleted_objects(self, objs: Any, request: HttpRequest) -> Any:
        return deletion.deleted_objects(objs, request, self.admin_site)

    def message_user(self, request: HttpRequest, message: Any, *arguments: Any, **options: Any) -> None:
        """Show the message with invisible characters made visible, because an error in it may quote the vendor."""
        text = message if hasattr(message, "__html__") else visible(str(message), lines=True)
        super().message_user(request, text, *arguments, **options)

    def log_changes(self, request: HttpRequest, rows: Iterable[Any], message: str) -> None:
        """Add a sentence to the history of each row."""
        LogEntry.objects.log_actions(cast("int", request.user.pk), rows, CHANGE, message)


class KeyAdmin(Screen):
    """The base of screens with a key: error reports contain neither the posted values nor any variable."""

    @method_decorator(sensitive_post_parameters())
    @sensitive_variables()
    def changeform_view(self, request: HttpRequest, *arguments: Any, **options: Any) -> HttpResponse:
        return super().changeform_view(request, *arguments, **options)


class RecordAdmin(Screen):
    """The base of screens for rows that the app writes: people can view them, but not add, change or delete them."""

    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER
    paginator = NewestOnly
    newest_by = "pk"

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        return [
            (title, {**options, "fields": [shown(self.model, name) for name in options["fields"]]})
            for title, options in super().get_fieldsets(request, obj)
        ]

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False
