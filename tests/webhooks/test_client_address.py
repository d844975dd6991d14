"""The client address, whatever headers the client sends: without a proxy, behind one and behind two.

The tests look from outside: a registration whose allowlist is the address in question accepts or rejects the delivery,
and a rejection is counted with the address.
"""

import pytest

from django_bi_integration.models import ReceivedEvent, Rejection
from django_bi_integration.webhooks.client_address import possible_settings
from tests.helpers.deliveries import (
    COMPLETED,
    VENDOR_ADDRESS,
    deliver,
    deliver_completion,
    innovative_educators,
    registration,
)

pytestmark = pytest.mark.django_db

VENDOR = VENDOR_ADDRESS
STRANGER = "203.0.113.9"
EDGE, INNER = "192.0.2.1", "10.0.0.5"
OPEN, ONE, TWO = [], [INNER], [EDGE, INNER]
UNIX = ["unix:"]


@pytest.mark.parametrize("address", ["54.243.7.71", "3.83.213.76", "::ffff:54.243.7.71"])
def test_the_vendors_published_addresses_are_accepted(address):
    assert deliver_completion(innovative_educators(), REMOTE_ADDR=address).status_code == 200


@pytest.mark.parametrize("address", [STRANGER, "54.243.7.72", "127.0.0.1", "2001:db8::1"])
def test_another_address_is_a_403(address):
    response = deliver_completion(innovative_educators(), REMOTE_ADDR=address)
    assert (response.status_code, response.json()) == (403, {"detail": "Forbidden."})
    assert not ReceivedEvent.objects.exists()


def xff(*entries):
    """Return the header as servers pass it to Django, which join several of them with commas."""
    return {"HTTP_X_FORWARDED_FOR": ", ".join(entries)}


#: Forged addresses, in headers that some proxies use.
CLAIMS = [
    {name: value}
    for name, value in {
        "HTTP_X_REAL_IP": VENDOR,
        "HTTP_FORWARDED": f"for={VENDOR}",
        "HTTP_X_FORWARDED": VENDOR,
        "HTTP_FORWARDED_FOR": VENDOR,
        "HTTP_CLIENT_IP": VENDOR,
        "HTTP_X_CLIENT_IP": VENDOR,
        "HTTP_X_CLUSTER_CLIENT_IP": VENDOR,
        "HTTP_CF_CONNECTING_IP": VENDOR,
        "HTTP_TRUE_CLIENT_IP": VENDOR,
        "HTTP_FASTLY_CLIENT_IP": VENDOR,
        "HTTP_FLY_CLIENT_IP": VENDOR,
        "X_FORWARDED_FOR": VENDOR,
        "X-REAL-IP": VENDOR,
    }.items()
]

OPEN_INTERNET = [
    # Only the peer, in each of its forms.
    (OPEN, VENDOR, {}, VENDOR),
    (OPEN, VENDOR, xff(STRANGER), VENDOR),
    (OPEN, f"::ffff:{VENDOR}", {}, VENDOR),
    (OPEN, f"64:ff9b::{VENDOR}", {}, VENDOR),
    (OPEN, "2001:db8::1", {}, "2001:db8::1"),
    (OPEN, "2001:DB8:0::1", {}, "2001:db8::1"),
    (OPEN, "", {}, None),
    (OPEN, "unix:", {}, None),
    (OPEN, f"{VENDOR}, {VENDOR}", {}, None),
    (OPEN, f"junk, {VENDOR}", {}, None),
    # No header of the client counts.
    *((OPEN, STRANGER, claim, STRANGER) for claim in CLAIMS),
    (OPEN, STRANGER, xff(VENDOR), STRANGER),
    (OPEN, STRANGER, xff(VENDOR, INNER), STRANGER),
    (OPEN, STRANGER, xff("junk") | CLAIMS[0], STRANGER),
    (OPEN, "", xff(VENDOR), None),
]

BEHIND_ONE = [
    # The address that the proxy appended counts.
    (ONE, INNER, xff(VENDOR), VENDOR),
    (ONE, f"::ffff:{INNER}", xff(VENDOR), VENDOR),
    (["::ffff:10.0.0.5"], INNER, xff(VENDOR), VENDOR),
    (["::ffff:10.0.0.0/120"], INNER, xff(VENDOR), VENDOR),
    (["10.0.0.0/24"], INNER, xff(VENDOR), VENDOR),
    (["2001:db8::/64"], "2001:db8::9", xff(VENDOR), VENDOR),
    # As proxies write it.
    (ONE, INNER, xff(f"{VENDOR}:4711"), VENDOR),
    (ONE, INNER, xff(f"::ffff:{VENDOR}"), VENDOR),
    (ONE, INNER, xff(f"[::ffff:{VENDOR}]:443"), VENDOR),
    (ONE, INNER, xff(f"64:ff9b::{VENDOR}"), VENDOR),
    (ONE, INNER, xff("[2001:db8::1]:443"), "2001:db8::1"),
    (ONE, INNER, xff("[2001:db8::1]"), "2001:db8::1"),
    (ONE, INNER, xff("2001:db8::1"), "2001:db8::1"),
    (ONE, INNER, {"HTTP_X_FORWARDED_FOR": f" {STRANGER} ,{VENDOR} "}, VENDOR),
    # The entries that the client wrote are further left.
    (ONE, INNER, xff(VENDOR, STRANGER), STRANGER),
    (ONE, INNER, xff(VENDOR, INNER, STRANGER), STRANGER),
    (ONE, INNER, xff(VENDOR, "", "", STRANGER), STRANGER),
    (ONE, INNER, xff("junk", VENDOR), VENDOR),
    (ONE, INNER, xff('"', VENDOR), VENDOR),
    (ONE, INNER, xff(f'"{VENDOR}', f'{STRANGER}"'), STRANGER),
    *((ONE, INNER, xff(STRANGER) | claim, STRANGER) for claim in CLAIMS),
    # No usable address, and no other header is read instead.
    *((ONE, INNER, claim, None) for claim in CLAIMS),
    *((ONE, INNER, xff(VENDOR, junk) | CLAIMS[0], None) for junk in ["unknown", "unix:", "", "_hidden", "54.243.7"]),
    (ONE, INNER, xff("054.243.7.71"), None),
    (ONE, INNER, xff("0x36.243.7.71"), None),
    (ONE, INNER, xff("0x36f30747"), None),
    (ONE, INNER, xff("921896775"), None),
    (ONE, INNER, xff("54.243.7.71/32"), None),
    (ONE, INNER, xff("54.243.7.71:port"), None),
    (ONE, INNER, xff("[54.243.7.71"), None),
    (ONE, INNER, xff("５４.243.7.71"), None),
    (ONE, INNER, xff("2001:db8::1%eth0"), None),
    (ONE, INNER, xff("::ffff:54.243.7.71%eth0"), None),
    (ONE, INNER, xff("for=54.243.7.71"), None),
    (ONE, INNER, xff("0.0.0.0"), None),
    # A client that bypasses the proxy.
    (ONE, STRANGER, xff(VENDOR), None),
    (ONE, STRANGER, xff(VENDOR, INNER), None),
    (ONE, STRANGER, {}, None),
    (ONE, "", xff(VENDOR), None),
    (ONE, f"{INNER}%eth0", xff(VENDOR), None),
    # A misspelt setting trusts no proxy, because not every server runs the checks.
    (["proxy.example.edu"], INNER, xff(VENDOR), None),
]

BEHIND_TWO = [
    (TWO, INNER, xff(VENDOR, EDGE), VENDOR),
    (TWO, INNER, xff(VENDOR, f"{EDGE}:50000"), VENDOR),
    (TWO, INNER, xff(VENDOR, f"::ffff:{EDGE}"), VENDOR),
    (TWO, INNER, xff(STRANGER, VENDOR, EDGE), VENDOR),
    (TWO, INNER, xff(VENDOR, STRANGER, EDGE), STRANGER),
    (["2001:db8::1", INNER], INNER, xff(VENDOR, "2001:db8::1"), VENDOR),
    # Junk in the place of a proxy or the client.
    *((TWO, INNER, xff(VENDOR, junk, EDGE), None) for junk in ["unknown", "", "unix:"]),
    *((TWO, INNER, xff(VENDOR, EDGE, junk), None) for junk in ["unknown", "", "unix:"]),
    (TWO, INNER, xff(VENDOR) | CLAIMS[0], None),
    *((TWO, INNER, xff(STRANGER, EDGE) | claim, STRANGER) for claim in CLAIMS),
    # A client that bypasses the outer proxy, then both; proxies in the wrong order.
    (TWO, INNER, xff(VENDOR, STRANGER), None),
    (TWO, INNER, xff(VENDOR, EDGE, STRANGER), None),
    (TWO, STRANGER, xff(VENDOR, EDGE), None),
    (TWO, STRANGER, xff(VENDOR, EDGE, INNER), None),
    (TWO, EDGE, xff(VENDOR, INNER), None),
    (TWO, EDGE, xff(VENDOR), None),
]

BEHIND_A_SOCKET = [
    (UNIX, "", xff(VENDOR), VENDOR),
    (UNIX, "", xff(VENDOR, STRANGER), STRANGER),
    (UNIX, "", {}, None),
    (UNIX, STRANGER, xff(VENDOR), None),
    (UNIX, STRANGER, xff(VENDOR, "unix:"), None),
    (UNIX, "127.0.0.1", xff(VENDOR), None),
    ([EDGE, "unix:"], "", xff(VENDOR, EDGE), VENDOR),
    ([EDGE, "unix:"], "", xff(VENDOR, STRANGER), None),
    # nginx writes "unix:" for a client that connects to it through a socket.
    (["unix:", INNER], INNER, xff(VENDOR, "unix:"), VENDOR),
    (["unix:", INNER], INNER, xff(VENDOR, ""), None),
]


LOOPBACK = [["127.0.0.1", "::1"]]
CDN = [["198.51.100.0/24", "2001:db8:cd::/48"], ("10.0.1.0/24", "10.0.2.0/24")]

HOPS_WITH_SEVERAL_NETWORKS = [
    (LOOPBACK, "127.0.0.1", xff(VENDOR), VENDOR),
    (LOOPBACK, "::1", xff(VENDOR), VENDOR),
    (LOOPBACK, "::1", xff(VENDOR, "127.0.0.1"), "127.0.0.1"),
    (LOOPBACK, "10.0.0.5", xff(VENDOR), None),
    (CDN, "10.0.1.9", xff(VENDOR, "198.51.100.9"), VENDOR),
    (CDN, "10.0.2.9", xff(VENDOR, "2001:db8:cd::9"), VENDOR),
    (CDN, "10.0.2.9", xff(VENDOR, STRANGER, "198.51.100.9"), STRANGER),
    (CDN, "10.0.3.9", xff(VENDOR, "198.51.100.9"), None),
    (CDN, "10.0.1.9", xff(VENDOR, STRANGER), None),
    (CDN, "10.0.1.9", xff(VENDOR), None),
    (CDN, "198.51.100.9", xff(VENDOR, "10.0.1.9"), None),
    ([["unix:", "127.0.0.1"]], "", xff(VENDOR), VENDOR),
    ([["unix:", "127.0.0.1"]], "127.0.0.1", xff(VENDOR), VENDOR),
    ([[INNER, "proxy.example.edu"]], INNER, xff(VENDOR), VENDOR),
]

#: Not every server runs the checks, so an invalid setting trusts no proxy and causes no server error.
NONSENSE = [
    *(
        (setting, INNER, xff(VENDOR), None)
        for setting in (None, 5, True, {INNER: 1}, {INNER}, b"10.0.0.5", "", object())
    ),
    *(([entry], INNER, xff(VENDOR), None) for entry in (None, 5, {INNER}, b"10.0.0.5", [], [[INNER]], [None], [5, {}])),
    (INNER, INNER, xff(VENDOR), VENDOR),  # a string is a list of that one entry
]


@pytest.mark.parametrize(
    ("proxies", "peer", "headers", "client"),
    [*OPEN_INTERNET, *BEHIND_ONE, *BEHIND_TWO, *BEHIND_A_SOCKET, *HOPS_WITH_SEVERAL_NETWORKS, *NONSENSE],
)
def test_the_client_address_is_decided_hop_by_hop(settings, proxies, peer, headers, client):
    """Invariant 10: an address of the header counts only if each hop after it is a trusted proxy."""
    settings.BI_INTEGRATION = {"TRUSTED_PROXIES": proxies}
    request = {"body": COMPLETED, "key": None, "REMOTE_ADDR": peer, **headers}
    for address in {VENDOR, STRANGER, EDGE, INNER, client or VENDOR}:
        status = 200 if address == client else 403
        assert deliver(registration(key="", networks=(address,)), **request).status_code == status
    assert Rejection.objects.earliest("pk").address == (client or "")


@pytest.mark.parametrize(
    "allowed", ["::ffff:54.243.7.71", "::ffff:54.243.7.0/120", "64:ff9b::54.243.7.71", "54.243.7.0/24"]
)
def test_an_allowlist_may_contain_an_ipv4_address_in_any_notation(allowed):
    to = registration(key="", networks=(allowed,))
    assert deliver(to, key=None, REMOTE_ADDR=VENDOR).status_code == 200
    assert deliver(to, key=None, REMOTE_ADDR=STRANGER).status_code == 403


def test_an_allowlist_entry_that_is_not_a_network_matches_no_address():
    """The form rejects such an entry, but other code may store one."""
    to = registration(key="", networks=("vendor.example", VENDOR))
    assert deliver(to, key=None, REMOTE_ADDR=VENDOR).status_code == 200
    assert deliver(to, key=None, REMOTE_ADDR=STRANGER).status_code == 403


IPWARE = {
    "IPWARE_ALGORITHM": "legacy",  # the algorithm whose settings override arguments
    "IPWARE_META_PRECEDENCE_ORDER": ["HTTP_X_FORWARDED_FOR"],
    "IPWARE_META_PROXY_COUNT": 1,
    "IPWARE_STRICT": False,
}


@pytest.mark.parametrize("names", [[name] for name in IPWARE] + [list(IPWARE)], ids=" ".join)
@pytest.mark.parametrize(
    ("proxies", "peer", "headers", "client"),
    [
        (OPEN, STRANGER, xff(VENDOR), STRANGER),
        (OPEN, VENDOR, {}, VENDOR),
        (OPEN, f"64:ff9b::{VENDOR}", {}, VENDOR),
        (OPEN, f"junk, {VENDOR}", {}, None),
        (ONE, INNER, xff(VENDOR, STRANGER), STRANGER),
        (ONE, INNER, xff(VENDOR, "unknown"), None),
        (TWO, INNER, xff(VENDOR, EDGE), VENDOR),
    ],
)
def test_the_host_projects_ipware_settings_have_no_effect(settings, names, proxies, peer, headers, client):
    for name in names:
        setattr(settings, name, IPWARE[name])
    test_the_client_address_is_decided_hop_by_hop(settings, proxies, peer, headers, client)


def suggested(forwarded_for, peer):
    """Return the settings that would fit, each with the client address that it yields, as text."""
    return [(setting, str(client)) for setting, client in possible_settings(forwarded_for, peer)]


@pytest.mark.parametrize("setting", ["10.0.0.2", {"10.0.0.2"}, None, 7, []], ids=repr)
def test_the_settings_that_would_fit_are_suggested_even_if_the_current_one_is_unusable(settings, setting):
    settings.BI_INTEGRATION = {"TRUSTED_PROXIES": setting}
    assert suggested("203.0.113.7, 10.0.0.1", "10.0.0.2") == [
        ([], "10.0.0.2"),
        (["10.0.0.2"], "10.0.0.1"),
        (["10.0.0.1", "10.0.0.2"], "203.0.113.7"),
    ]


def test_a_suggestion_reuses_the_current_settings_entries_at_the_same_place_if_possible(settings):
    wide, narrow = ["10.0.0.0/8"], "10.0.0.0/24"
    settings.BI_INTEGRATION = {"TRUSTED_PROXIES": [wide, narrow]}
    assert suggested("203.0.113.7, 10.0.0.1", "10.0.0.2") == [
        ([], "10.0.0.2"),
        ([narrow], "10.0.0.1"),
        ([wide, narrow], "203.0.113.7"),
    ]
    # A proxy that does not match the entry at its place may still match another one.
    assert suggested("203.0.113.7, 10.0.0.1", "10.1.0.2")[2] == ([wide, wide], "203.0.113.7")


@pytest.mark.parametrize("hop", ["unknown", "garbage"])
def test_no_setting_beyond_a_hop_that_is_not_an_address_is_suggested(settings, hop):
    settings.BI_INTEGRATION = {"TRUSTED_PROXIES": []}
    assert suggested(f"203.0.113.7, {hop}", "10.0.0.2") == [([], "10.0.0.2"), (["10.0.0.2"], "None")]
