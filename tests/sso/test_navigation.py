"""Only a link that someone follows starts a launch, and no return URL leads into another launch."""

import pytest
from django.conf.urls.i18n import i18n_patterns
from django.core.checks import run_checks
from django.test.utils import override_script_prefix
from django.urls import include, path

from django_bi_integration.models import SSOSession
from tests.helpers.partner_api import partner_api_for_any_user
from tests.helpers.sign_on import big_interview_account, client_of, new_student

pytestmark = pytest.mark.django_db(transaction=True)

LOGIN, LAUNCH = "/bi/sso/login/", "/bi/sso/launch/"
ORIGIN = "https://app.example.edu"


@pytest.fixture
def api(settings):
    with partner_api_for_any_user(settings, {"API_BUDGET_SECONDS": 2, "RETURN_URL_ORIGINS": [ORIGIN]}) as running:
        big_interview_account()
        yield running


@pytest.fixture
def logged_in():
    return client_of(new_student())


@pytest.mark.parametrize(
    "destination", ["image", "script", "iframe", "frame", "embed", "object", "style", "empty", "video", "x"]
)
def test_a_request_other_than_a_navigation_starts_no_launch(logged_in, api, destination):
    headers = {"sec-fetch-dest": destination, "sec-fetch-mode": "cors" if destination == "empty" else "no-cors"}
    response = logged_in.get(LOGIN, {"to": "dashboard"}, headers=headers)
    assert response.status_code == 403
    assert "cannot be shown inside another page" in response.content.decode()
    assert f'<a href="{LOGIN}?to=dashboard" rel="nofollow noopener" target="_blank">' in response.content.decode()
    assert (api.requests, SSOSession.objects.exists()) == ([], False)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"sec-fetch-dest": "document", "sec-fetch-mode": "navigate"},
        {"sec-fetch-dest": "empty", "sec-fetch-mode": "navigate"},  # through a service worker
    ],
)
def test_a_navigation_starts_a_launch_in_old_and_new_browsers(logged_in, api, headers):
    assert logged_in.get(LOGIN, headers=headers).status_code == 302


def test_a_front_end_may_fetch_the_url(logged_in, api):
    assert logged_in.post(LAUNCH, headers={"sec-fetch-dest": "empty", "sec-fetch-mode": "cors"}).status_code == 200


@pytest.mark.parametrize("header", ["sec-purpose", "purpose", "x-moz"])
def test_a_prefetched_link_starts_no_launch(logged_in, api, header):
    assert logged_in.get(LOGIN, headers={header: "prefetch"}).status_code == 503
    assert (api.requests, SSOSession.objects.exists()) == ([], False)


#: Spellings of the paths of this package's views.
INTO_SIGN_ON = [
    "/bi/sso/login/",
    "/bi/sso/login",
    "/bi/sso/login/?to=dashboard",
    "/bi/sso/login/#top",
    "/bi/%73so/login/",
    "/bi/sso%2Flogin/",
    "/bi/%2573so/login/",
    "/bi/%252573so/login/",
    "/x/../bi/sso/login/",
    "/bi/./sso/login/",
    "/x/%2e%2e/bi/sso/login/",
    "/bi/sso/launch/",
    "/bi/sso/return/6f0d2c1e-6a0b-4f39-9d3b-0c8d2a7b1e55/",
    f"{ORIGIN}/bi/sso/login/",
    f"{ORIGIN}/bi/sso/login?account=xyz",
    f"{ORIGIN}//bi/sso/login/",
    f"{ORIGIN}/x/..%2Fbi/sso/login/",
]


@pytest.mark.parametrize("url", INTO_SIGN_ON)
def test_a_return_url_that_leads_into_sign_on_is_rejected(logged_in, api, url):
    """Logging out at Big Interview would log the student in again."""
    response = logged_in.get(LOGIN, {"return_url": url})
    assert response.status_code == 400
    assert "leads back into single sign-on" in response.content.decode()
    assert logged_in.post(LAUNCH, {"return_url": url}).json()["error"] == "not_allowed"
    assert (api.requests, SSOSession.objects.exists()) == ([], False)


@pytest.mark.parametrize(
    "url", ["/portal/", "/saml/sso/login/", "/portal/?next=/bi/sso/login/", f"{ORIGIN}/", f"{ORIGIN}", "/bi/", "/"]
)
def test_a_return_url_that_only_looks_similar_is_allowed(logged_in, api, url):
    assert logged_in.get(LOGIN, {"return_url": url}).status_code == 302


@pytest.mark.parametrize("language", ["en", "de"])
def test_a_return_url_that_leads_into_sign_on_below_a_language_prefix_is_rejected(logged_in, api, settings, language):
    settings.ROOT_URLCONF = tuple(i18n_patterns(path("bi/", include("django_bi_integration.urls"))))
    settings.MIDDLEWARE = [*settings.MIDDLEWARE, "django.middleware.locale.LocaleMiddleware"]
    options = {"return_url": f"/{language}/bi/sso/login/"}
    assert logged_in.get("/en/bi/sso/login/", options).status_code == 400


def test_a_return_url_that_leads_into_sign_on_below_the_script_prefix_is_rejected(logged_in, api):
    """Django sees paths without the prefix, but return URLs contain it."""
    with override_script_prefix("/careers/"):
        assert logged_in.get(LOGIN, {"return_url": "/careers/bi/sso/login/"}).status_code == 400
        assert logged_in.get(LOGIN, {"return_url": "/careers/portal/"}).status_code == 302
        # Another allowed origin may serve this package without the prefix.
        assert logged_in.get(LOGIN, {"return_url": f"{ORIGIN}/bi/sso/login/"}).status_code == 400


@pytest.mark.parametrize("page", ["/bi/sso/login/", "http://testserver/bi/sso/login/?to=dashboard"])
def test_a_return_page_that_leads_into_sign_on_is_not_used(logged_in, api, settings, page):
    settings.BI_INTEGRATION = settings.BI_INTEGRATION | {"RETURN_PAGE": page}
    assert logged_in.get(LOGIN).status_code == 302
    path = f"/bi/sso/return/{SSOSession.objects.get().pk}/"
    assert logged_in.get(path)["Location"] == "/"


def test_the_check_for_return_pages_that_lead_into_sign_on_ignores_an_invalid_url(settings):
    settings.BI_INTEGRATION = {"RETURN_PAGE": "http://["}
    assert "django_bi_integration.E017" not in {message.id for message in run_checks()}


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"redirect_to": "/x", "to": "dashboard"}, "Give a path or the name of a page, not both."),
        ({"redirect_to": "//evil.example/"}, "A path begins with one slash"),
        ({"redirect_to": "/%2525252525"}, "The path is percent-encoded too many times."),
        ({"redirect_to": "/" + "a" * 4096}, "The path is longer than 4096 characters"),
        ({"to": "nowhere"}, "The names are dashboard, track, review, retake."),
        ({"to": "track"}, "A track needs the number of its chapter."),
        ({"to": "review", "interview": "1"}, "Webhooks have reported no such interview of this person"),
        ({"return_url": f"{ORIGIN}/é"}, "contains characters that are not valid in a URL"),
        ({"return_url": "https://[x/"}, "The return URL is not a valid URL."),
        ({"return_url": "https://evil.example/"}, "not in BI_INTEGRATION[&#x27;RETURN_URL_ORIGINS&#x27;]"),
    ],
)
def test_the_page_explains_to_the_sites_team_what_is_wrong_with_a_link(logged_in, api, options, reason):
    response = logged_in.get(LOGIN, options)
    assert response.status_code == 400
    assert "For the team of this site:" in response.content.decode()
    assert reason in response.content.decode()


def test_the_json_error_explains_what_is_wrong_with_the_body(logged_in):
    response = logged_in.post(LAUNCH, "[]", content_type="application/json")
    assert response.json()["message"] == "Send a JSON object whose values are text."
