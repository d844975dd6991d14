"""What a vendor module answers, and the tolerant readers of single JSON values that they share."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from django_bi_integration.events import EventData, Reading
from django_bi_integration.text import clean

Document = Mapping[str, Any]


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
    read: Callable[[Document], Reading]
    read_data: Callable[[Document], EventData | None]
    sample: Callable[[str, str, str], dict[str, Any]]


def as_mapping(value: object) -> Document:
    return value if isinstance(value, dict) else {}


def as_text(value: object) -> str | None:
    """Text, or a number as text; None for anything else, for text that is blank, and for infinity.

    What no database can hold (NUL, a lone surrogate) is replaced.
    """
    if isinstance(value, bool) or not isinstance(value, str | int | float) or value in (math.inf, -math.inf):
        return None
    text = clean(str(value))
    return None if text.isspace() else text or None


def as_event_id(value: object) -> str | None:
    """Text exactly as it is, or a whole number as text; None for anything else.

    Two ids that differ must not become one: a fraction loses digits, as a replaced character would.
    """
    if isinstance(value, bool) or not isinstance(value, str | int):
        return None
    text = str(value)
    return None if text.isspace() else text or None


def as_flag(value: object) -> bool | None:
    return value if isinstance(value, bool) else None


def as_moment(value: object) -> datetime | None:
    """An ISO 8601 time in UTC; None where there is none, or one that no calendar in use would hold."""
    if not isinstance(value, str):
        return None
    try:
        moment = datetime.fromisoformat(value.strip())
    except ValueError:
        return None
    if not 1970 <= moment.year < 9999:
        return None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
