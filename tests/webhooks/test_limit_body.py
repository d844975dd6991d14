"""limit_body ends the bodies of webhooks early, under any URL prefix, and passes all other requests on unchanged."""

import asyncio
from uuid import UUID

import pytest
from django.conf.urls.i18n import i18n_patterns
from django.http import HttpResponse
from django.urls import include, path

from django_bi_integration.asgi import limit_body

LIMIT = 1_000
ID = UUID("0d1f3a52-5d7c-4b0e-9d5c-6a2f0c9f3e11")


class Prefixed:
    urlpatterns = i18n_patterns(path("büro/", include("django_bi_integration.urls")))


class Covered:
    """A URLconf in which a view of the host project comes before the package's."""

    urlpatterns = [
        path("bi/webhooks/<uuid:pk>/", lambda request, pk: HttpResponse()),
        path("bi/", include("django_bi_integration.urls")),
    ]


@pytest.fixture(autouse=True)
def _small_bodies(settings):
    settings.BI_INTEGRATION = {"MAX_BODY_BYTES": LIMIT}


def read_through(scope_path, *, length=None, pieces=20, urlconf=None, **scope):
    """Send a body in pieces of 100 bytes. Return the number of bytes the application got and of pieces it read."""
    headers = [] if length is None else [(b"content-length", str(length).encode())]
    scope = {"type": "http", "method": "POST", "path": scope_path, "headers": headers, **scope}
    asked, got = [], []

    async def receive():
        asked.append(1)
        return {"type": "http.request", "body": b"x" * 100, "more_body": len(asked) < pieces}

    async def application(scope, receive, send):
        more = True
        while more:
            message = await receive()
            got.append(message["body"])
            more = message["more_body"]

    asyncio.run(limit_body(application, urlconf=urlconf)(scope, receive, None))
    return sum(map(len, got)), len(asked)


UNLIMITED = (2_000, 20)
CUT = (LIMIT + 1, 11)


@pytest.mark.parametrize("end", ["/", ""])
def test_a_webhooks_body_ends_one_byte_above_the_limit(end):
    """The view sees by that byte that the body is too large."""
    assert read_through(f"/bi/webhooks/{ID}{end}") == CUT


def test_a_body_of_exactly_the_limit_is_passed_on_whole():
    assert read_through(f"/bi/webhooks/{ID}/", pieces=10) == (LIMIT, 10)
    assert read_through(f"/bi/webhooks/{ID}/", pieces=10, length=LIMIT) == (LIMIT, 10)


@pytest.mark.parametrize("length", [LIMIT + 1, 600_000_000, "9" * 5_000])
def test_a_body_whose_declared_length_is_over_the_limit_is_not_read(length):
    assert read_through(f"/bi/webhooks/{ID}/", length=length) == (0, 0)


@pytest.mark.parametrize("length", ["", "-1", "1e9", "abc", "\xb2"])
def test_with_an_invalid_content_length_the_limit_still_applies(length):
    assert read_through(f"/bi/webhooks/{ID}/", length=length) == CUT


@pytest.mark.parametrize(
    "other", ["/", "/bi/webhooks/", "/bi/webhooks/x/", f"/webhooks/{ID}/", f"/bi/webhooks/{ID}/x", "/bi/sso/launch/"]
)
def test_bodies_of_other_paths_are_passed_on_whole(other):
    assert read_through(other) == UNLIMITED


def test_a_body_for_a_view_of_the_host_project_at_a_webhooks_path_is_passed_on_whole(settings):
    settings.ROOT_URLCONF = Covered
    assert read_through(f"/bi/webhooks/{ID}/") == UNLIMITED
    assert read_through(f"/bi/webhooks/{ID}") == CUT


def test_webhooks_below_a_language_prefix_are_limited(settings):
    settings.ROOT_URLCONF = Prefixed
    settings.LANGUAGE_CODE = "en"
    settings.LANGUAGES = [("en", "English"), ("de", "Deutsch")]
    for language in ("en", "de"):
        assert read_through(f"/{language}/büro/webhooks/{ID}/") == CUT
    assert read_through(f"/fr/büro/webhooks/{ID}/") == UNLIMITED


def test_a_urlconf_other_than_root_urlconf_can_be_passed(settings):
    settings.ROOT_URLCONF = Prefixed
    assert read_through(f"/bi/webhooks/{ID}/") == UNLIMITED
    assert read_through(f"/bi/webhooks/{ID}/", urlconf="tests.urls") == CUT


def test_the_servers_path_prefix_is_ignored(settings):
    """It is the ASGI scope's ``root_path``, or FORCE_SCRIPT_NAME."""
    assert read_through(f"/portal/bi/webhooks/{ID}/", root_path="/portal") == CUT
    assert read_through(f"/portal/bi/webhooks/{ID}/") == UNLIMITED
    settings.FORCE_SCRIPT_NAME = "/portal"
    assert read_through(f"/portal/bi/webhooks/{ID}/") == CUT


def test_the_application_gets_the_disconnect_message_of_a_client_that_leaves():
    seen = []

    async def receive():
        return {"type": "http.disconnect"}

    async def application(scope, receive, send):
        seen.append((await receive())["type"])

    scope = {"type": "http", "method": "POST", "path": f"/bi/webhooks/{ID}/", "headers": []}
    asyncio.run(limit_body(application)(scope, receive, None))
    assert seen == ["http.disconnect"]


def test_other_protocols_are_passed_on():
    """For example, lifespan has no path."""
    seen = []

    async def application(scope, receive, send):
        seen.append(receive)

    asyncio.run(limit_body(application)({"type": "lifespan"}, len, None))
    assert seen == [len]
