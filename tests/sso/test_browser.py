"""Launches in a real browser: a link, a form or a new tab starts one, and an embedded URL does not."""

import pytest
from django.http import HttpResponse
from django.urls import include, path
from playwright.sync_api import expect

from django_bi_integration.models import SSOSession
from tests.helpers.partner_api import partner_api_for_any_user
from tests.helpers.sign_on import big_interview_account, client_of, new_student

pytestmark = pytest.mark.django_db(transaction=True)

LOGIN = "/bi/sso/login/"
EMBEDDED = {
    "image": f'<img src="{LOGIN}">',
    "script": f'<script src="{LOGIN}"></script>',
    "embed": f'<embed src="{LOGIN}">',
    "frame": f'<iframe src="{LOGIN}"></iframe>',
    "object": f'<object data="{LOGIN}"></object>',
    "fetch": f'<script>fetch("{LOGIN}")</script>',
    "prefetch": f'<link rel="prefetch" href="{LOGIN}">',
}
FOLLOWED = {
    "link": f'<a href="{LOGIN}">Practise</a>',
    "form": f'<form action="{LOGIN}"><button>Practise</button></form>',
    "new tab": f'<a href="{LOGIN}" target="_blank">Practise</a>',
    "tab without a referrer": f'<a href="{LOGIN}" target="_blank" rel="noreferrer noopener">Practise</a>',
}


@pytest.fixture
def api(settings):
    with partner_api_for_any_user(settings, {"API_BUDGET_SECONDS": 5}) as running:
        big_interview_account()
        yield running


@pytest.fixture
def portal(page, live_server, api):
    """Return a function that shows HTML as a page of the site, to a student who is logged in."""
    session = client_of(new_student()).cookies["sessionid"].value
    page.context.add_cookies([{"name": "sessionid", "value": session, "url": live_server.url}])

    def show(html):
        page.route("**/portal/", lambda route: route.fulfill(content_type="text/html", body=f"<!DOCTYPE html>{html}"))
        page.goto(f"{live_server.url}/portal/")
        return page

    return show


@pytest.mark.parametrize("html", EMBEDDED.values(), ids=EMBEDDED)
def test_an_embedded_link_starts_no_launch(page, portal, api, html):
    with page.expect_response(lambda response: LOGIN in response.url) as answer:
        portal(html)
    assert answer.value.status in (403, 503)
    assert (api.requests, SSOSession.objects.exists()) == ([], False)


@pytest.mark.parametrize("html", FOLLOWED.values(), ids=FOLLOWED)
def test_a_link_that_someone_follows_starts_a_launch(portal, api, html):
    page = portal(html)
    opened = page.context.expect_page if "_blank" in html else page.expect_navigation
    with opened() as navigation:
        page.get_by_text("Practise").click()
    tab = navigation.value if "_blank" in html else page
    tab.wait_for_url(f"{api.url}/sso/login?token=*")
    assert [session.status for session in SSOSession.objects.all()] == ["redirected"]


SERVICE_WORKER = """
self.addEventListener("install", (event) => self.skipWaiting());
self.addEventListener("activate", (event) => event.waitUntil(clients.claim()));
self.addEventListener("fetch", (event) => event.respondWith(fetch(event.request)));
"""


def test_a_link_works_on_a_site_with_a_service_worker(portal, api, settings):
    """The service worker passes the navigation on with an empty destination."""
    script = path("worker.js", lambda request: HttpResponse(SERVICE_WORKER, content_type="text/javascript"))
    settings.ROOT_URLCONF = (script, path("bi/", include("django_bi_integration.urls")))
    page = portal(f"<script>navigator.serviceWorker.register('/worker.js')</script>{FOLLOWED['link']}")
    page.wait_for_function("navigator.serviceWorker.controller")
    assert page.evaluate("fetch('/bi/sso/login/').then((answer) => answer.status)") == 403
    page.get_by_text("Practise").click()
    page.wait_for_url(f"{api.url}/sso/login?token=*")
    assert SSOSession.objects.count() == 1


def test_a_frame_shows_a_link_that_opens_a_new_tab(portal, api):
    """So that the button also works in a portal that a learning platform shows in a frame."""
    page = portal(EMBEDDED["frame"])
    frame = page.frame_locator("iframe")
    expect(frame.get_by_text("cannot be shown inside another page")).to_be_visible()
    with page.context.expect_page() as opened:
        frame.get_by_role("link", name="Open Big Interview in a new tab").click()
    opened.value.wait_for_url(f"{api.url}/sso/login?token=*")
    assert SSOSession.objects.count() == 1


def test_the_page_of_a_launch_without_a_free_slot_tries_again_by_itself(portal, api, settings):
    settings.BI_INTEGRATION = settings.BI_INTEGRATION | {"MAX_CONCURRENT_LAUNCHES": 0}
    page = portal(FOLLOWED["link"])
    page.get_by_text("Practise").click()
    expect(page.get_by_text("Many people are opening Big Interview right now")).to_be_visible()
    settings.BI_INTEGRATION = settings.BI_INTEGRATION | {"MAX_CONCURRENT_LAUNCHES": 1}
    page.wait_for_url(f"{api.url}/sso/login?token=*")
    assert SSOSession.objects.count() == 1
