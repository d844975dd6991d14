"""Who is really calling: the address of the client, never what the client says of itself."""

from collections.abc import Iterator, Sequence

from django.http import HttpRequest

from django_bi_integration.addresses import PEER, UNIX_SOCKET, Address, lies_in, read_address
from django_bi_integration.conf import settings

FORWARDED_FOR = "HTTP_X_FORWARDED_FOR"


def client_address(request: HttpRequest) -> Address | None:
    """The client's address, or None where it cannot be told for sure.

    With no trusted proxies this is the connection's own peer. With n of them it is the n-th entry of
    ``X-Forwarded-For`` from the right, and only if the peer and every hop after that entry are the
    proxies that ``TRUSTED_PROXIES`` names, in their order. Entries further left are whatever a client wrote,
    and are not looked at; nor is any other header.
    """
    trusted: Sequence[str] = settings.TRUSTED_PROXIES
    hops = _hops(forwarded_for(request), peer(request))
    client, *proxies = hops[-len(trusted) - 1 :]
    if len(proxies) < len(trusted):
        return None
    if all(_is_the(hop, proxy) for hop, proxy in zip(proxies, trusted, strict=True)):
        return read_address(client)
    return None


def readings(forwarded_for: str, peer: str) -> Iterator[tuple[list[str], Address | None]]:
    """What each ``TRUSTED_PROXIES`` that fits would make of a request: the setting, and the client's address."""
    hops = _hops(forwarded_for, peer) if forwarded_for else [peer]
    for count in range(len(hops)):
        client, *proxies = hops[-count - 1 :]
        yield [str(read_address(proxy) or proxy) for proxy in proxies], read_address(client)
        if not (client == UNIX_SOCKET or read_address(client)):
            return


def _hops(forwarded_for: str, peer: str) -> list[str]:
    return [*(hop.strip() for hop in forwarded_for.split(",")), peer]


def forwarded_for(request: HttpRequest) -> str:
    """The header ``X-Forwarded-For``; servers join several of them with commas."""
    header: str = request.META.get(FORWARDED_FOR, "")
    return header


def peer(request: HttpRequest) -> str:
    """Who the connection comes from. At a Unix socket that is no address but ``unix:``, as nginx writes it."""
    return request.META.get(PEER) or UNIX_SOCKET


def _is_the(hop: str, proxy: str) -> bool:
    return hop == UNIX_SOCKET if proxy == UNIX_SOCKET else lies_in(read_address(hop), proxy)
