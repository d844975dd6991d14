"""Long lists: pages of the first rows, and a "Select all" that selects the rows the page counted, not newer ones."""

from typing import Any, cast

from django import forms
from django.contrib.admin.helpers import ActionForm
from django.core.exceptions import SuspiciousOperation, ValidationError
from django.core.paginator import Paginator
from django.db.models import Model, QuerySet
from django.http import QueryDict
from django.utils.functional import cached_property


class NewestOnly(Paginator):  # type: ignore[type-arg]  # takes an argument in the stubs only
    """Pages of the first 10,000 rows: counting every row of a large table takes longer than showing a page of it."""

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
        """True if there are more rows."""
        return self._count_to_one_more > self.LIMIT


class SelectionForm(ActionForm):
    """Remember the rows that "Select all" means on this page: how many it counted, and which was the newest."""

    shown_count = forms.IntegerField(label="", required=False, widget=forms.HiddenInput)
    shown_until = forms.CharField(label="", required=False, widget=forms.HiddenInput)


def is_across(data: QueryDict) -> bool:
    """Return True if "Select all" was chosen, as the admin itself reads the form."""
    return bool(forms.BooleanField(required=False).to_python(data.get("select_across")))


def newest(rows: QuerySet[Any], newest_by: str) -> str:
    """Return the newest row's value of the column ``newest_by``, so that later rows are not selected."""
    found: Any = rows.order_by(f"-{newest_by}").values_list(newest_by, flat=True).first()
    return found.isoformat() if hasattr(found, "isoformat") else str(found or "")


def confirmed(rows: QuerySet[Any], data: QueryDict, newest_by: str) -> list[Any]:
    """Return the primary keys of the rows that "Select all" showed: no more than it counted, in the list's order.

    Raise SuspiciousOperation if the form was not sent by one of our pages.
    """
    count, until = data.get("shown_count", ""), data.get("shown_until", "")
    try:
        limit = min(int(count), NewestOnly.LIMIT) if count else NewestOnly.LIMIT
        if until:
            rows = rows.filter(**{f"{newest_by}__lte": until})
        return list(rows.values_list("pk", flat=True)[:limit])
    except (ValueError, ValidationError) as error:
        raise SuspiciousOperation("The selection is not one of ours.") from error
