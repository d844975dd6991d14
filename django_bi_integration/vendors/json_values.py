"""Tolerant readers of single JSON values, which vendors send in more types than they document."""

import math
from datetime import datetime

from django_bi_integration.text import clean
from django_bi_integration.vendors.base import Document
from django_bi_integration.vendors.times import parse_time

#: Below this, a float that is a whole number is exactly that number.
EXACT = 2**53


def as_mapping(value: object) -> Document:
    """Return ``value`` if it is a JSON object, or else an empty one."""
    return value if isinstance(value, dict) else {}


def as_text(value: object) -> str | None:
    """Return text, or a number as text; None for anything else, for blank text, and for infinity.

    A float that is a whole number is that number: ``1041.0`` and ``1041`` are the same object or person. Characters
    that no database can hold (NUL, a lone surrogate) are replaced.
    """
    if isinstance(value, bool) or not isinstance(value, str | int | float) or value in (math.inf, -math.inf):
        return None
    if isinstance(value, float) and value.is_integer() and abs(value) < EXACT:
        value = int(value)
    text = clean(str(value))
    return None if text.isspace() else text or None


def as_event_id(value: object) -> str | None:
    """Return text exactly as it is, or a whole number as text; None for anything else.

    Two different ids must not become one. A replaced character would merge them, and so would a float, even one that is
    a whole number: ``1.00000000000000000001`` is parsed as ``1.0``.
    """
    if isinstance(value, bool) or not isinstance(value, str | int):
        return None
    text = str(value)
    return None if text.isspace() else text or None


def as_flag(value: object) -> bool | None:
    """Return true or false; None for anything else."""
    return value if isinstance(value, bool) else None


def as_datetime(value: object) -> datetime | None:
    """Return a time in UTC, from text or from a Unix time as a number.

    Return None if it is missing, invalid, ambiguous or outside 1970–9998.
    """
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    return parse_time(str(value))
