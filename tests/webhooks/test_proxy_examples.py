"""With each TRUSTED_PROXIES example of docs/running.md, the vendor is accepted and a forged header is rejected."""

import json
import re
from pathlib import Path

import pytest
from django.core.checks import run_checks

from tests.helpers.deliveries import VENDOR_ADDRESS, deliver_completion, innovative_educators

PAGE = (Path(__file__).parent.parent.parent / "docs" / "running.md").read_text()
STRANGER = "203.0.113.9"
CLOUDFLARE, CLOUDFLARE_6 = "172.68.1.2", "2606:4700::6812:1"
CLOUDFRONT = "130.176.1.2"
#: The networks of CloudFront in a file like the one that AWS publishes.
RANGES = {
    "prefixes": [
        {"ip_prefix": "130.176.0.0/17", "service": "CLOUDFRONT_ORIGIN_FACING"},
        {"ip_prefix": "203.0.113.0/24", "service": "EC2"},
    ]
}

#: For each example, named by the words in bold before it: chains of proxies after the client. The last one connects.
CHAINS = {
    "One hop.": [["127.0.0.1"]],
    "One hop, two addresses.": [["127.0.0.1"], ["::1"]],
    "Two hops.": [["192.0.2.10", "10.0.0.5"]],
    "A Unix socket": [[""]],
    "Cloudflare, then nginx on the machine of gunicorn.": [[CLOUDFLARE, "127.0.0.1"], [CLOUDFLARE_6, "127.0.0.1"]],
    "An Application Load Balancer in two subnets.": [["10.0.1.7"], ["10.0.2.7"]],
    "CloudFront in front of the load balancer.": [[CLOUDFRONT, "10.0.1.7"], [CLOUDFRONT, "10.0.2.7"]],
    "An external Application Load Balancer.": [["203.0.113.80", "35.191.3.4"], ["203.0.113.80", "130.211.1.2"]],
    "ingress-nginx that sees the clients' addresses.": [["10.244.3.4"]],
    "ingress-nginx behind an HTTP load balancer": [["10.0.1.7", "10.244.3.4"], ["10.0.2.7", "10.244.3.4"]],
}


def examples():
    """Return the Python code of each example, by the words in bold before it."""
    found, title = {}, None
    for bold, code in re.findall(r"^\*\*(.+?)\*\*|^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL):
        title = bold or title
        if "TRUSTED_PROXIES" in code:
            found.setdefault(title, []).append(code)
    return {title: code for title, (code,) in found.items()}


EXAMPLES = examples()


@pytest.fixture
def example(request, settings, tmp_path):
    (tmp_path / "ip-ranges.json").write_text(json.dumps(RANGES))
    namespace = {"BASE_DIR": tmp_path}
    exec(EXAMPLES[request.param], namespace)
    settings.BI_INTEGRATION = namespace["BI_INTEGRATION"]


def test_every_example_on_the_page_is_tested():
    assert list(EXAMPLES) == list(CHAINS)


def status(hops, *claimed):
    """Return the response status of a completion that came through these hops.

    ``claimed`` are the entries that the client itself wrote into the header.
    """
    *forwarded, peer = hops
    header = {"HTTP_X_FORWARDED_FOR": ", ".join([*claimed, *forwarded])} if claimed or forwarded else {}
    return deliver_completion(innovative_educators(), REMOTE_ADDR=peer, **header).status_code


TRIED = [(title, hops) for title, chains in CHAINS.items() for hops in chains]


@pytest.mark.django_db
@pytest.mark.parametrize(("example", "hops"), TRIED, indirect=["example"])
def test_the_vendor_is_accepted_and_a_forged_header_is_rejected(example, hops):
    """The last entry is the proxy's; entries that the client wrote are further left."""
    assert status(hops, VENDOR_ADDRESS) == 200
    assert status(hops, STRANGER, VENDOR_ADDRESS) == 200
    assert status(hops, STRANGER) == 403
    assert status(hops, VENDOR_ADDRESS, STRANGER) == 403
    assert status(hops, VENDOR_ADDRESS, *hops[:-1], STRANGER) == 403
    # A client that bypasses some of the proxies or all of them.
    assert status([*hops[:-1], STRANGER], VENDOR_ADDRESS) == 403
    assert status([STRANGER, *hops[1:]], VENDOR_ADDRESS) == 403
    assert status([hops[-1]]) == 403


@pytest.mark.parametrize("example", EXAMPLES, indirect=True)
def test_the_system_checks_report_nothing_about_an_example(example):
    assert run_checks(tags=["django_bi_integration"]) == []
