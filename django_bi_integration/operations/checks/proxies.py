"""Checks of proxies and allowlists: is the client's address certain, and does an allowlist stop anybody?"""

import os
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from itertools import pairwise
from typing import Any

from django.conf import settings as django_settings
from django.core.checks import CheckMessage, Error, Warning
from django.core.exceptions import ValidationError
from django.db import Error as DatabaseFailure
from django.db import router

from django_bi_integration.conf import NAMESPACE
from django_bi_integration.models import WebhookRegistration
from django_bi_integration.models.registration import NAMES_A_PROXY, validate_networks
from django_bi_integration.networks import UNIX_SOCKET, Network, is_vast, look_like_one_hop, read_hops, read_network
from django_bi_integration.operations.checks.base import PREFIX, configured, valid


def check_trusted_proxies(**kwargs: Any) -> list[CheckMessage]:
    """E004: trusted proxies are addresses or networks; E005: no network is so wide that it contains visitors."""
    hops = read_hops(valid("TRUSTED_PROXIES"))
    # A list without an address cannot be a hop, so it is reported as an invalid entry.
    return [message for hop in hops for proxy in hop or ([],) for message in _check_trusted_proxy(proxy)]


def _check_trusted_proxy(proxy: object) -> list[CheckMessage]:
    if proxy == UNIX_SOCKET:
        return []
    try:
        network = read_network(proxy)
    except ValueError as error:
        return [
            Error(
                f"{NAMESPACE}['TRUSTED_PROXIES']: {proxy!r} is neither an address nor a network: {error}.",
                hint=f"Write for example '10.0.0.5' or '10.0.0.0/24'; {UNIX_SOCKET!r} for a Unix socket; a list of them"
                " for one hop with several addresses.",
                id=f"{PREFIX}.E004",
            )
        ]
    if not is_vast(network):
        return []
    return [
        Error(
            f"{NAMESPACE}['TRUSTED_PROXIES']: {proxy!r} trusts a large part of the internet.",
            hint="A trusted proxy chooses the address that the allowlist is compared with. Name only your proxies.",
            id=f"{PREFIX}.E005",
        )
    ]


def check_hops(**kwargs: Any) -> list[CheckMessage]:
    """W008: no two neighbouring entries look like addresses of one hop."""
    found = next(_pairs_of_one_hop(valid("TRUSTED_PROXIES")), None)
    if found is None:
        return []
    one, other = found
    return [
        Warning(
            f"{NAMESPACE}['TRUSTED_PROXIES']: {one!r} and {other!r} look like addresses of one hop, but each entry is a"
            " hop. If they are one hop, no delivery has a known address, and allowlists reject every delivery.",
            hint=f"Write the addresses of one hop as one entry, a list: [{one!r}, {other!r}, …]. If they are two hops,"
            f" write each as a list: [{one!r}], [{other!r}].",
            id=f"{PREFIX}.W008",
        )
    ]


def _pairs_of_one_hop(entries: Sequence[object]) -> Iterator[tuple[str, str]]:
    """Yield neighbours that look like one hop. An entry that is a list already says what belongs to its hop."""
    networks = [_network_or_none(entry) for entry in entries]
    for place, (one, other) in enumerate(pairwise(networks)):
        if one is None or other is None:
            continue
        around = networks[max(place - 1, 0) : place + 3]
        in_a_row = sum(network is not None and network.num_addresses > 1 for network in around) >= 3
        if look_like_one_hop(one, other) or (in_a_row and one.num_addresses > 1 < other.num_addresses):
            yield str(entries[place]), str(entries[place + 1])


def _network_or_none(entry: object) -> Network | None:
    try:
        return read_network(entry)
    except ValueError:
        return None


def check_proxy_hint(**kwargs: Any) -> list[CheckMessage]:
    """W002: a project whose settings say that it is behind a proxy names the proxy."""
    behind = getattr(django_settings, "SECURE_PROXY_SSL_HEADER", None) or getattr(
        django_settings, "USE_X_FORWARDED_HOST", False
    )
    if not behind or configured().get("TRUSTED_PROXIES"):
        return []
    return [
        Warning(
            "The project is behind a proxy, but TRUSTED_PROXIES is empty, so every delivery seems to come from the"
            " proxy.",
            hint=f"Set {NAMESPACE}['TRUSTED_PROXIES'] to your proxies' addresses, outermost first.",
            id=f"{PREFIX}.W002",
        )
    ]


def check_forwarded_allow_ips(**kwargs: Any) -> list[CheckMessage]:
    """W009: the environment does not make uvicorn trust every client's forwarding headers."""
    entries = [entry.strip() for entry in os.environ.get("FORWARDED_ALLOW_IPS", "").split(",")]
    if find_spec("uvicorn") is None or not any(_is_everybody(entry) for entry in entries):
        return []
    return [
        Warning(
            "FORWARDED_ALLOW_IPS makes uvicorn believe whatever address a client claims, so allowlists stop nobody.",
            hint="Unset it, start uvicorn with --no-proxy-headers, and name your proxies in"
            f" {NAMESPACE}['TRUSTED_PROXIES']. If another server runs the project, silence this check.",
            id=f"{PREFIX}.W009",
        )
    ]


def _is_everybody(entry: str) -> bool:
    if entry == "*":
        return True
    try:
        return is_vast(read_network(entry))
    except ValueError:
        return False


def check_allowlists(databases: Sequence[str] | None = None, **kwargs: Any) -> list[CheckMessage]:
    """E014: no allowlist names a trusted proxy; E015: the admin's form would accept each allowlist.

    Rows can be older than the settings, or were not written by the form. They are read only if a command names their
    database, as ``migrate`` and ``check --database default`` do.
    """
    if router.db_for_write(WebhookRegistration) not in (databases or []):
        return []
    try:
        rows = list(WebhookRegistration.objects.values_list("name", "allowed_networks"))
    except DatabaseFailure:
        return []  # its table, or the database, does not exist yet
    return [message for name, networks in rows for message in _check_allowlist(name, networks)]


def _check_allowlist(name: str, networks: object) -> list[CheckMessage]:
    try:
        validate_networks(networks)
    except ValidationError as error:
        names_a_proxy = error.code == NAMES_A_PROXY
        return [
            Error(
                f"The allowlist of the registration {name!r}: {' '.join(error.messages)}",
                hint="Correct TRUSTED_PROXIES, or the allowlist in the admin."
                if names_a_proxy
                else "Correct it in the admin.",
                id=f"{PREFIX}.E014" if names_a_proxy else f"{PREFIX}.E015",
            )
        ]
    return []
