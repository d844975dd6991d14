"""What a vendor module provides."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from django_bi_integration.events import EventData, ParsedEvent

Document = Mapping[str, Any]


@dataclass(frozen=True)
class Vendor:
    """A sender of webhooks: how its deliveries are authenticated, and how they are parsed.

    ``read`` accepts any JSON object and never raises: what it cannot interpret is left empty. Nor does ``read_data``,
    which returns the typed data for receivers, and None for an event that it does not know. ``default_networks`` are
    the addresses that the vendor publishes as its own. ``sample`` makes the vendor's documented sample for an event
    type, an event id and a subject.
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
