"""The content of a deletion page: rows that may be very many are counted, instead of loaded and listed."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from django.contrib.admin import AdminSite
from django.contrib.admin.utils import NestedObjects
from django.db import models, router
from django.http import HttpRequest
from django.utils.formats import number_format
from django.utils.text import capfirst
from django.utils.translation import gettext, ngettext

from django_bi_integration.models import ObjectState, ReceivedEvent, Rejection, SSOSession

#: Rows that are deleted together with their registration, and never by themselves.
GO_ALONG = (ObjectState, Rejection)
COUNTED = (*GO_ALONG, ReceivedEvent, SSOSession)
#: How many of the other rows are listed.
LISTED = 100
#: Protected rows are counted up to this number: more of them change nothing, and counting them all may take long.
MOST = 10_000


class Collector(NestedObjects):
    """Collect the rows that are deleted together, and count those of this package."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.counts: Counter[type[models.Model]] = Counter()
        self.model_objs: Any  # by model; the stubs say by name

    def related_objects(self, related_model: Any, related_fields: Any, objs: Any) -> Any:
        found = super().related_objects(related_model, related_fields, objs)
        if related_model not in COUNTED:
            return found
        counted = found[: MOST + 1] if related_model is ReceivedEvent else found
        self.counts[related_model] += counted.count()
        return found.none()


def deleted_objects(objs: Sequence[Any], request: HttpRequest, site: AdminSite) -> tuple[Any, Any, set[Any], list[Any]]:
    """Return the same as ``ModelAdmin.get_deleted_objects``: the listed rows, counts, permissions, protected rows."""
    if not objs:
        return [], {}, set(), []
    collector = Collector(using=router.db_for_write(objs[0]._meta.model), origin=objs)
    collector.collect(objs)
    events = collector.counts.pop(ReceivedEvent, 0)
    unlisted = +collector.counts
    counts = {model: len(rows) for model, rows in collector.model_objs.items()} | unlisted
    missing = {model._meta.verbose_name for model in counts if not _may_delete(model, collector, request, site)}
    listed = collector.nested(_described)
    if len(listed) > LISTED:
        listed[LISTED:] = [gettext("… and more: see the numbers in the summary.")]
    listed += [f"{capfirst(model._meta.verbose_name_plural)}: {number}" for model, number in unlisted.items()]
    protected = [_described(row) for row in list(collector.protected)[:LISTED]]
    if events:
        protected.append(_events(events))
    return listed, {model._meta.verbose_name_plural: number for model, number in counts.items()}, missing, protected


def _may_delete(model: type[models.Model], collector: Collector, request: HttpRequest, site: AdminSite) -> bool:
    if model in GO_ALONG or not site.is_registered(model):
        return True
    may_delete = site.get_model_admin(model).has_delete_permission
    return may_delete(request) and all(may_delete(request, row) for row in collector.model_objs.get(model, ()))


def _described(row: models.Model) -> str:
    return f"{capfirst(row._meta.verbose_name)}: {row}"


def _events(number: int) -> str:
    if number > MOST:
        return gettext("more than %s received events") % number_format(MOST, force_grouping=True)
    text = ngettext("%s received event", "%s received events", number)
    return text % number_format(number, force_grouping=True)
