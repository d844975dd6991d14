"""The client's address, which never depends on what the client claims."""

from collections.abc import Collection, Iterator

from django.http import HttpRequest

from django_bi_integration.conf import settings
from django_bi_integration.networks import PEER, UNIX_SOCKET, Address, lies_in, read_address, read_hops

FORWARDED_FOR = "HTTP_X_FORWARDED_FOR"


def client_address(request: HttpRequest) -> Address | None:
    """Return the client's address, or None if it is not certain.

    Without trusted proxies this is the connection's peer. With n hops of them it is the n-th entry of
    ``X-Forwarded-For`` from the right, and only if the peer and every hop after that entry are in the networks that
    ``TRUSTED_PROXIES`` names for them, in their order. Entries further left may be written by the client, and are
    ignored, like every other header.
    """
    trusted = read_hops(settings.TRUSTED_PROXIES)
    hops = _hops(forwarded_for(request), peer(request))
    client, *proxies = hops[-len(trusted) - 1 :]
    if len(proxies) < len(trusted):
        return None
    if all(_is_one_of(hop, networks) for hop, networks in zip(proxies, trusted, strict=True)):
        return read_address(client)
    return None


def possible_settings(forwarded_for: str, peer: str) -> Iterator[tuple[list[object], Address | None]]:
    """Yield each ``TRUSTED_PROXIES`` that would fit a request, with the client's address that results.

    A hop that the current setting contains is suggested as it is written there, with all its networks.
    """
    hops = _hops(forwarded_for, peer) if forwarded_for else [peer]
    for count in range(len(hops)):
        client, *proxies = hops[-count - 1 :]
        yield (
            [_entry_for(proxy, place) for proxy, place in zip(proxies, range(-count, 0), strict=True)],
            read_address(client),
        )
        if not (client == UNIX_SOCKET or read_address(client)):
            return


def _entry_for(hop: str, place: int) -> object:
    """Return the entry of the current setting that covers the hop, preferably at the same place; else its address."""
    setting = settings.TRUSTED_PROXIES if isinstance(settings.TRUSTED_PROXIES, list | tuple) else ()
    for entry in (*setting[place : place + 1 or None], *setting):
        if any(_is_one_of(hop, networks) for networks in read_hops([entry])):
            return entry
    return str(read_address(hop) or hop)


def _hops(forwarded_for: str, peer: str) -> list[str]:
    return [*(hop.strip() for hop in forwarded_for.split(",")), peer]


def forwarded_for(request: HttpRequest) -> str:
    """Return the header ``X-Forwarded-For``; servers join several of them with commas."""
    header: str = request.META.get(FORWARDED_FOR, "")
    return header


def peer(request: HttpRequest) -> str:
    """Return the connection's peer. For a Unix socket, this is ``unix:``, as nginx writes it, instead of an address."""
    return request.META.get(PEER) or UNIX_SOCKET


def _is_one_of(hop: str, networks: Collection[object]) -> bool:
    if hop == UNIX_SOCKET:
        return UNIX_SOCKET in networks
    address = read_address(hop)
    return any(lies_in(address, network) for network in networks)
