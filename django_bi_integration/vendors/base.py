"""What a vendor module answers, and the tolerant readers of single JSON values that they share."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django_bi_integration.events import EventData, ParsedEvent
from django_bi_integration.text import clean
from django_bi_integration.vendors.times import parse_moment

Document = Mapping[str, Any]

#: Below this, a float that is a whole number is exactly that number.
EXACT = 2**53


@dataclass(frozen=True)
class Vendor:
    """A sender of webhooks: how its deliveries are proven genuine, and how they are read.

    ``read`` takes any JSON object and never raises: what it cannot make out is left empty. Nor does ``read_data``,
    which makes of it what receivers are given: None where they know no such event. ``default_networks`` are the
    addresses that the vendor publishes as its own. ``sample`` makes the vendor's own documented sample for an event
    type, an event id, and a subject.
    """

    slug: str
    label: str
    documentation_url: str
    sends_key: bool
    default_networks: tuple[str, ...]
    event_types: tuple[str, ...]
    read: Callable[[Document], ParsedEvent]
    read_data: Callable[[Document], EventData | None]
    sample: Callable[[str, str, str], dict[str, Any]]


def as_mapping(value: object) -> Document:
    return value if isinstance(value, dict) else {}


def as_text(value: object) -> str | None:
    """Text, or a number as text; None for anything else, for text that is blank, and for infinity.

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
    """Text exactly as it is, or a whole number as text; None for anything else.

    Two ids that differ must not become one. A replaced character would merge them, and so would a float, even one
    that is a whole number: ``1.00000000000000000001`` is read as ``1.0``.
    """
    if isinstance(value, bool) or not isinstance(value, str | int):
        return None
    text = str(value)
    return None if text.isspace() else text or None


def as_flag(value: object) -> bool | None:
    return value if isinstance(value, bool) else None


def as_moment(value: object) -> datetime | None:
    """A time, or a Unix time as a number, in UTC; None if it is missing, invalid, ambiguous or outside 1970–9998."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    return parse_moment(str(value))
