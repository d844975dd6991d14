"""Post to the webhook from outside, as a vendor would, and report what blocks the delivery."""

from collections.abc import Mapping
from functools import partial
from http.client import responses
from itertools import islice
from urllib.parse import urljoin, urlsplit

import requests
from django.urls import NoReverseMatch

from django_bi_integration.json_body import read_object
from django_bi_integration.operations.findings import Finding, Level, within
from django_bi_integration.operations.middleware import BODY, webhook_path
from django_bi_integration.partner_api.transport import NoRedirectSession
from django_bi_integration.text import end_of
from django_bi_integration.webhooks.rejections import UnknownURL

#: Seconds that Innovative Educators waits for a response ("Integration Details"); Big Interview waits 30.
VENDOR_TIMEOUT = 15.0


def public_url(url: str) -> Finding | None:
    """Does a delivery reach the webhook from outside, through everything in front of the project?"""
    try:
        path = webhook_path()
    except NoReverseMatch:
        return None  # a system check reports it
    for target in (urljoin(url, path), urljoin(url, path.rstrip("/"))):
        if problem := _probe(target):
            return Finding(Level.FAIL, "public URL", *problem)
    return Finding(Level.OK, "public URL", f"the webhook answers at {url}, with and without the trailing slash")


def _probe(url: str) -> tuple[str, str] | None:
    """Return the reason why a delivery to the URL does not reach our view, and the remedy; None if it does."""
    try:
        response, body = within(VENDOR_TIMEOUT, partial(post, url))
    except requests.exceptions.SSLError as error:
        return (
            f"No TLS connection to {url}: {_reason(error)}.",
            "Serve a certificate for this host that is valid, with its chain.",
        )
    except (requests.exceptions.Timeout, TimeoutError):
        return (
            f"{url} did not answer within {VENDOR_TIMEOUT:g} seconds.",
            "Check firewalls and the proxy's timeouts.",
        )
    except requests.exceptions.RequestException as error:
        return f"Nothing answers at {url}: {_reason(error)}.", "Check DNS, firewalls, and whether the server runs."
    if report_in(response, body) is not None:
        return None
    location = end_of(response.headers.get("Location", ""), 200)
    answer = f"{response.status_code} {responses.get(response.status_code, '')}{f' to {location}' if location else ''}"
    return f"POST {url} does not reach the webhook: the response is {answer}.", _public_remedy(response)


def post(url: str, headers: Mapping[str, str] | None = None) -> tuple[requests.Response, bytes]:
    """Return the response, and only the beginning of its body: any server may be behind the URL."""
    headers = {"Content-Type": "application/json; charset=utf-8", **(headers or {})}
    with NoRedirectSession() as session:
        response = session.post(url, BODY, headers=headers, allow_redirects=False, timeout=VENDOR_TIMEOUT, stream=True)
        return response, b"".join(islice(response.iter_content(1024), 4))


def _reason(error: requests.exceptions.RequestException) -> object:
    """Return the transport's reason, without the words of requests around it."""
    return getattr(error.args[0], "reason", error) if error.args else error


def report_in(response: requests.Response, body: bytes) -> str | None:
    """Return the report in our view's response, "" if it has none; None if the response is not our view's.

    Our view knows no registration with this id, and accepts only POST.
    """
    try:
        content = read_object(body)
    except ValueError:
        return None
    report = content.pop("report", "")
    expected = (UnknownURL.status_code, "POST", {"detail": UnknownURL.default_detail})
    return str(report) if (response.status_code, response.headers.get("Allow"), content) == expected else None


REMEDIES = {
    400: "Is the host in ALLOWED_HOSTS, and does the proxy pass it on (proxy_set_header Host $host)?",
    401: "A login is required before the webhook, by the proxy or by middleware. Let the webhook's path pass.",
    403: "An access rule or a firewall blocks the webhook. Let its path pass, for POST from anywhere.",
    404: "Another site serves this host, the proxy changes the path, or the app is mounted elsewhere.",
    405: "The proxy, or what serves this path, does not accept POST.",
    503: "This is a maintenance page, or the web process cannot reach the database. A vendor retries for some hours.",
}


def _public_remedy(response: requests.Response) -> str:
    if not response.is_redirect:
        return REMEDIES.get(response.status_code, "Look at the logs of the proxy and of the web process.")
    if response.headers["Location"] in (response.url, urlsplit(response.url).path):
        return (
            "It is redirected to itself, because Django does not know that it came by https. Set"
            " SECURE_PROXY_SSL_HEADER, and let the proxy send that header."
        )
    return (
        "Innovative Educators counts a redirect as delivered, and the event is lost. Give the vendors the URL that it"
        " leads to, or let the path pass without a redirect in the proxy or in middleware."
    )
