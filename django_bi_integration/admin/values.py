"""How the screens show values: text from outside, times, booleans, bodies."""

import json
from collections.abc import Callable, Mapping
from datetime import datetime
from functools import cache
from typing import Any

from django.contrib import admin
from django.core.exceptions import FieldDoesNotExist
from django.db import models
from django.template.loader import render_to_string
from django.utils.formats import date_format, number_format
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.timezone import localtime

from django_bi_integration.dispatch.outcomes import Outcome
from django_bi_integration.json_body import plain_object
from django_bi_integration.text import visible

EMPTY = "–"
#: Characters of a body on a page. Indented and escaped, a body of the permitted size can be 60 times as long.
BODY_LENGTH = 20_000
#: Characters of all tracebacks of an event on a page.
TRACEBACKS_LENGTH = 60_000

Show = Callable[[Any], object]


def exact_time(moment: datetime | None) -> str:
    """Format a time with seconds, which most languages' own formats omit, in the viewer's time zone."""
    return date_format(localtime(moment), "Y-m-d H:i:s") if moment else EMPTY


def isolated(text: str) -> SafeString | str:
    """Show text from outside: with its invisible characters, and without an effect on the direction of the rest."""
    return format_html("<bdi>{}</bdi>", visible(text)) if text else EMPTY


def shown(model: type[models.Model], name: Any) -> Any:
    """Return ``name``, or a function that shows the field's value if it is the name of a field of ``model``.

    The function has the field's name, label, help text and order.
    """
    if not isinstance(name, str):
        return name
    try:
        return _column(model._meta.get_field(name)) or name
    except FieldDoesNotExist:
        return name


@cache  # the admin expects the same object each time
def _column(field: Any) -> Show | None:
    show = _show(field)
    if show is None:
        return None

    def column(row: models.Model) -> object:
        return show(getattr(row, field.attname))

    column.__name__ = field.name
    return admin.display(column, description=field.verbose_name, ordering=field.name)


def _show(field: Any) -> Show | None:
    if isinstance(field, models.DateTimeField):
        return exact_time
    if isinstance(field, models.BooleanField):
        # Not the admin's icons: a red cross beside everything that is in order would look like a problem.
        return lambda value: field.verbose_name if value else EMPTY
    if isinstance(field, models.CharField | models.TextField) and not field.choices:
        return isolated
    return None


def preformatted(body: bytes, download_url: str = "") -> SafeString:
    """Show the beginning of a body, indented if it is plain JSON, and say so if that is not all of it.

    JSON that is not plain is shown as it came: an infinite number would hide the one that was sent.
    """
    text, is_whole = _beginning(body)
    context = {
        "text": text,
        "limit": None if is_whole else number_format(BODY_LENGTH, force_grouping=True),
        "size": number_format(len(body), force_grouping=True),
        "download_url": download_url,
    }
    return render_to_string("django_bi_integration/admin/body.html", context)


def _beginning(body: bytes) -> tuple[str, bool]:
    """Return the first characters to show, and whether they are all."""
    document = plain_object(body)
    if document:
        text, chunks = "", json.JSONEncoder(indent=2, ensure_ascii=False).iterencode(document)
        # Chunk by chunk: the whole text may be 16 MB.
        while len(text) <= BODY_LENGTH and (chunk := next(chunks, "")):
            text += chunk
    else:
        text = body.decode("utf-8", "replace").encode("utf-8", "backslashreplace").decode()
    seen = visible(text[: BODY_LENGTH + 1], lines=True)
    return seen[:BODY_LENGTH], len(seen) <= BODY_LENGTH


def receiver_rows(outcomes: Mapping[str, Outcome]) -> list[dict[str, Any]]:
    """Return the outcomes as the rows of a table; if there are many tracebacks, the end of each."""
    length = TRACEBACKS_LENGTH // max(1, sum(1 for outcome in outcomes.values() if outcome.traceback))
    return [
        {
            "name": visible(name),
            "outcome": outcome,
            "next_attempt": exact_time(outcome.next_attempt_at),
            "error": visible(outcome.error),
            "traceback": visible(outcome.traceback[-length:], lines=True),
            "is_cut": len(outcome.traceback) > length,
        }
        for name, outcome in outcomes.items()
    ]
