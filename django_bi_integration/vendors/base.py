"""The class of which each vendor module provides one instance."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from django_bi_integration.events import EventData, ParsedEvent

Document = Mapping[str, Any]


@dataclass(frozen=True)
class Vendor:
    """A sender of webhooks: how its deliveries are authenticated, and how they are parsed.

    ``read`` parses the columns of an event, and leaves those empty that it cannot interpret. ``read_data`` returns the
    typed data for receivers, or None for an unknown event. Both accept any JSON object and never raise an exception.
    ``default_networks`` are the addresses that the vendor publishes. ``sample`` returns the vendor's documented sample
    for an event type, an event id and a subject.
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
