"""What the screens share."""

import json
from datetime import datetime
from typing import Any, cast

from django import forms
from django.contrib import admin
from django.core.paginator import Paginator
from django.db.models import Model, QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils.decorators import method_decorator
from django.utils.formats import date_format
from django.utils.functional import cached_property
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.timezone import localtime
from django.utils.translation import gettext_lazy as _
from django.views.decorators.debug import sensitive_post_parameters, sensitive_variables

from django_bi_integration.keys import checked_key
from django_bi_integration.text import plain_object


def may_see_payload(request: HttpRequest) -> bool:
    """Whether the user may read what the vendors say of students."""
    return request.user.has_perm("django_bi_integration.view_payload")


def exact_time(moment: datetime | None) -> str:
    """With seconds, which the formats of most languages leave out."""
    return date_format(localtime(moment), "Y-m-d H:i:s") if moment else "–"


def preformatted(body: bytes) -> SafeString:
    """The body, indented where it is plain JSON; what no page could carry stands there escaped.

    Indented, deep nesting would grow by its square, and an infinite number would hide the one that came.
    """
    document = plain_object(body)
    text = json.dumps(document, indent=2, ensure_ascii=False) if document else body.decode("utf-8", "replace")
    return format_html('<pre class="bi-body">{}</pre>', text.encode("utf-8", "backslashreplace").decode())


class KeyField(forms.CharField):
    """A key that goes in and never comes out again; left empty, it changes nothing."""

    def __init__(self, *, shortest: int = 1, **options: Any) -> None:
        self.shortest = shortest
        widget = forms.PasswordInput(attrs={"autocomplete": "off", "class": "vTextField", "spellcheck": "false"})
        super().__init__(required=False, max_length=1000, widget=widget, **options)

    def clean(self, value: Any) -> Any:
        key: str = super().clean(value)
        if not key:
            return key
        if not key.isascii():
            raise forms.ValidationError(_("The key has characters that no HTTP header can carry. Copy it again."))
        try:
            return checked_key(key, shortest=self.shortest)
        except ValueError as error:
            raise forms.ValidationError(str(error)) from None


class Screen(admin.ModelAdmin):  # type: ignore[type-arg]  # takes an argument in the stubs only
    """A screen that does not answer questions about what it does not show.

    Django lets a URL filter by any column of the model: ``?body__contains=`` would tell, guess by guess, what is in it.
    """

    #: The columns that are not shown, or not to all who may see the screen.
    hidden: tuple[str, ...] = ()

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest) -> bool:
        return not lookup.startswith(self.hidden) and super().lookup_allowed(lookup, value, request)


class KeyAdmin(Screen):
    """A screen that a key is typed into: the report of an error has neither what was posted nor any variable."""

    @method_decorator(sensitive_post_parameters())
    @sensitive_variables()
    def changeform_view(self, request: HttpRequest, *arguments: Any, **options: Any) -> HttpResponse:
        return super().changeform_view(request, *arguments, **options)


class NewestOnly(Paginator):  # type: ignore[type-arg]  # takes an argument in the stubs only
    """Pages of the first 10,000 rows: to count every row of a large table takes longer than to show a page of it."""

    LIMIT = 10_000

    @cached_property
    def _count_to_one_more(self) -> int:
        rows = cast("QuerySet[Model]", self.object_list)
        return rows.order_by()[: self.LIMIT + 1].count()

    @property
    def count(self) -> int:
        return min(self._count_to_one_more, self.LIMIT)

    @property
    def is_cut(self) -> bool:
        """Whether there are more rows."""
        return self._count_to_one_more > self.LIMIT


class RecordAdmin(Screen):
    """A screen for rows that the app writes: people look at them, and neither add, change nor delete them."""

    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER
    paginator = NewestOnly
    change_list_template = "django_bi_integration/admin/records.html"

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False
