"""Parse IP addresses and networks, and compare them."""

import ipaddress
from functools import lru_cache
from types import SimpleNamespace

from ipware import get_client_ip

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

#: IPv6 networks whose last 32 bits are an IPv4 address: mapped ones (RFC 4291), and NAT64's own prefix (RFC 6052).
OF_IPV4 = (ipaddress.IPv6Network("::ffff:0:0/96"), ipaddress.IPv6Network("64:ff9b::/96"))
PEER = "REMOTE_ADDR"
#: A peer without an address, written as nginx writes it.
UNIX_SOCKET = "unix:"


def read_address(text: str) -> Address | None:
    """Return the address in ``text``, which may have a port or brackets; None if it is invalid or has a zone id.

    django-ipware parses it. It gets only this value, as the peer's, with every option given, so that the rest of the
    request and the project's ``IPWARE_*`` settings have no effect. An IPv4 address inside an IPv6 address becomes the
    IPv4 address.
    """
    lone_peer = SimpleNamespace(META={PEER: text})
    found, _ = get_client_ip(
        lone_peer,  # type: ignore[arg-type]  # only META is read
        request_header_order=[PEER],
        proxy_count=0,
        strict=True,
        algorithm="modern",
    )
    # ipware would parse the address after "for=" in "for=…;by=…", which no X-Forwarded-For has.
    return ipaddress.ip_address(found) if found and not {"%", "="} & set(text) else None


def read_network(text: object) -> Network:
    """Return the network or address in ``text``, IPv4 inside IPv6 as IPv4. Raise ValueError if it has neither."""
    if not isinstance(text, str) or "%" in text:
        raise ValueError(f"{text!r} does not appear to be an address or a network")
    return _parse_network(text)


@lru_cache(maxsize=1_000)  # each delivery compares the same ones, and a CDN has dozens
def _parse_network(text: str) -> Network:
    found = ipaddress.ip_network(text)
    for prefix in OF_IPV4:
        if isinstance(found, ipaddress.IPv6Network) and found.subnet_of(prefix):
            return ipaddress.IPv4Network((int(found.network_address) & 0xFFFFFFFF, found.prefixlen - 96))
    return found


def read_hops(setting: object) -> list[tuple[object, ...]]:
    """Return the networks of each hop in ``TRUSTED_PROXIES``, outermost first.

    Nothing is raised, because not every server runs the checks. A setting that is not a list is one hop without a
    network: no proxy is that hop, so no address is certain.
    """
    if not isinstance(setting, list | tuple):
        return [()]
    return [tuple(entry) if isinstance(entry, list | tuple) else (entry,) for entry in setting]


def lies_in(address: Address | None, network: object) -> bool:
    """Return True if the address is in the network; False if one of them is invalid (not every server runs checks)."""
    try:
        return address is not None and address in read_network(network)
    except ValueError:
        return False


def overlap(network: Network, other: object) -> bool:
    """Return True if an address is in both networks; False if ``other`` is not a valid network."""
    try:
        return network.version == (read := read_network(other)).version and network.overlaps(read)
    except ValueError:
        return False


def is_vast(network: Network) -> bool:
    """Return True if the network is a large part of the internet: wider than /8, or than /16 for IPv6."""
    return network.prefixlen < (8 if network.version == 4 else 16)


def look_like_one_hop(one: Network, other: Network) -> bool:
    """Return True if two networks probably belong to one proxy.

    They do if they are IPv4 and IPv6, near subnets of one size, or overlapping. Equal networks do not, because nobody
    would name the same network twice for one proxy.
    """
    if one.version != other.version:
        return True
    return one != other and (overlap(one, str(other)) or _around(one) == _around(other))


def _around(network: Network) -> tuple[int, Network]:
    return network.prefixlen, network.supernet(min(8, network.prefixlen))
