"""System checks report middleware and URLs that keep deliveries from the webhook, and how to fix it."""

import logging

import pytest
from django.conf.urls.i18n import i18n_patterns
from django.core.checks import run_checks
from django.core.exceptions import MiddlewareNotUsed
from django.db import connection
from django.http import HttpResponse, HttpResponseForbidden, HttpResponseRedirect, JsonResponse
from django.test.utils import CaptureQueriesContext
from django.urls import get_script_prefix, include, path, set_script_prefix
from django.utils import timezone, translation

from django_bi_integration.models import Rejection
from tests.helpers.deliveries import big_interview, deliver
from tests.webhooks.test_host_settings import MIDDLEWARE, SECURITY

STACK = [SECURITY, *MIDDLEWARE]


def findings():
    """Return the short id, message and hint of each finding of E012 and E013."""
    found = run_checks(tags=["django_bi_integration"], include_deployment_checks=True)
    return [(message.id[-4:], message.msg, message.hint) for message in found if message.id[-4:] in ("E012", "E013")]


def only_finding():
    """Return the id, message and hint of the only finding."""
    (finding,) = findings()
    return finding


def to_login(get_response):
    return lambda request: HttpResponseRedirect("/accounts/login/?next=" + request.path)


def appends_slash(get_response):
    def middleware(request):
        return get_response(request) if request.path.endswith("/") else HttpResponseRedirect(request.path + "/")

    return middleware


def forbidden_without_token(get_response):
    return lambda request: get_response(request) if "X-CSRFToken" in request.headers else HttpResponseForbidden()


def forbidden_by_process_view(get_response):
    class Middleware:
        def __call__(self, request):
            return get_response(request)

        def process_view(self, request, view, args, kwargs):
            return HttpResponseForbidden()

    return Middleware()


def internal_addresses_only(get_response):
    def middleware(request):
        inside = request.META["REMOTE_ADDR"] in ("127.0.0.1", "10.0.0.5")
        return get_response(request) if inside else HttpResponseForbidden()

    return middleware


def json_only(get_response):
    def middleware(request):
        return get_response(request) if request.content_type == "application/json" else HttpResponse(status=415)

    return middleware


def maintenance(get_response):
    return lambda request: HttpResponse("We will be back soon.")


def raises(get_response):
    def middleware(request):
        raise LookupError("no tenant")

    return middleware


def redirects_afterwards(get_response):
    def middleware(request):
        get_response(request)
        return HttpResponseRedirect("/welcome/")

    return middleware


def to_login_if_forbidden(get_response):
    def middleware(request):
        response = get_response(request)
        return HttpResponseRedirect("/accounts/login/") if response.status_code == 403 else response

    return middleware


def always_200(get_response):
    def middleware(request):
        response = get_response(request)
        return JsonResponse({"code": response.status_code})

    return middleware


def error_as_500(get_response):
    def middleware(request):
        response = get_response(request)
        return HttpResponse(status=500) if response.status_code >= 400 else response

    return middleware


def https_by_proxy_header_only(get_response):
    def middleware(request):
        is_https = request.headers.get("X-Forwarded-Proto") == "https"
        return get_response(request) if is_https else HttpResponseForbidden()

    return middleware


def other_urls(get_response):
    def middleware(request):
        request.urlconf = Nowhere
        return get_response(request)

    return middleware


def sets_language_and_zone(get_response):
    def middleware(request):
        translation.activate("de")
        timezone.activate("America/Lima")
        return get_response(request)

    return middleware


def cannot_start(get_response):
    raise RuntimeError("no licence")


def switched_off(get_response):
    raise MiddlewareNotUsed


@pytest.mark.parametrize(
    "middleware", [STACK, ["tests.operations.test_blocking_middleware.switched_off", *STACK], []], ids=len
)
def test_djangos_middleware_is_no_error(settings, middleware):
    settings.MIDDLEWARE = middleware
    assert findings() == []


@pytest.mark.parametrize(
    ("middleware", "answer", "remedy"),
    [
        (to_login, "302 Found to /accounts/login/?next=/bi/webhooks/", "A vendor cannot log in."),
        (forbidden_without_token, "403 Forbidden", "needs no session or CSRF token"),
        (forbidden_by_process_view, "403 Forbidden", "needs no session or CSRF token"),
        (internal_addresses_only, "403 Forbidden", "needs no session or CSRF token"),
        (maintenance, "200 OK", "Let /bi/webhooks/ pass"),
        (raises, "500, because LookupError was raised: no tenant", "Let /bi/webhooks/ pass"),
        (cannot_start, "500, because RuntimeError was raised: no licence", "Let /bi/webhooks/ pass"),
        (redirects_afterwards, "302 Found to /welcome/", "Let /bi/webhooks/ pass"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_middleware_that_blocks_every_delivery_is_an_error_that_names_it(settings, middleware, answer, remedy):
    name = f"tests.operations.test_blocking_middleware.{middleware.__name__}"
    settings.MIDDLEWARE = [*STACK, name]
    found, message, hint = only_finding()
    assert found == "E012"
    assert message.startswith("POST https://testserver/bi/webhooks/")
    assert f"does not reach the webhook: the response is {answer}" in message
    assert remedy in hint
    assert f"Let /bi/webhooks/ pass in {name}." in hint


@pytest.mark.parametrize(
    ("middleware", "form", "status"),
    [(appends_slash, "000000 does", 302), (json_only, "without a Content-Type", 415)],
)
def test_middleware_that_blocks_only_some_deliveries_is_a_different_error(settings, middleware, form, status):
    settings.MIDDLEWARE = [*STACK, f"tests.operations.test_blocking_middleware.{middleware.__name__}"]
    found, message, _ = only_finding()
    assert found == "E013"
    assert form in message
    assert f"the response is {status}" in message


@pytest.mark.parametrize(
    ("middleware", "becomes"),
    [
        (to_login_if_forbidden, "gets the response 302 Found to /accounts/login/, but the webhook's is 403."),
        (always_200, "gets the response 200 OK, but the webhook's is 403."),
    ],
)
def test_middleware_that_turns_a_rejection_into_a_success_is_an_error(settings, middleware, becomes):
    settings.MIDDLEWARE = [*STACK, f"tests.operations.test_blocking_middleware.{middleware.__name__}"]
    found, message, hint = only_finding()
    assert found == "E013"
    assert becomes in message
    assert f"Let /bi/webhooks/ pass in tests.operations.test_blocking_middleware.{middleware.__name__}." in hint


def test_middleware_that_changes_the_status_of_a_rejection_is_no_error(settings):
    settings.MIDDLEWARE = [*STACK, "tests.operations.test_blocking_middleware.error_as_500"]
    assert findings() == []


@pytest.mark.parametrize("propagate", [True, False])
def test_an_exception_in_middleware_does_not_end_the_check(settings, propagate):
    settings.DEBUG_PROPAGATE_EXCEPTIONS = propagate
    settings.MIDDLEWARE = ["tests.operations.test_blocking_middleware.raises"]
    assert "LookupError was raised: no tenant" in only_finding()[1]


def test_a_redirect_of_plain_http_has_a_specific_remedy(settings):
    settings.MIDDLEWARE = STACK
    settings.SECURE_SSL_REDIRECT = True
    found, message, hint = only_finding()
    assert found == "E013"
    assert message.startswith("POST http://testserver/")
    assert "SECURE_REDIRECT_EXEMPT = [r'^bi/webhooks/']" in hint
    assert "set SECURE_PROXY_SSL_HEADER" in hint
    settings.SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
    found, _, hint = only_finding()
    assert found == "E013"
    assert "SECURE_PROXY_SSL_HEADER" not in hint


@pytest.mark.django_db
def test_the_remedy_for_redirected_http_helps(settings):
    settings.MIDDLEWARE = STACK
    settings.SECURE_SSL_REDIRECT = True
    to = big_interview()
    assert deliver(to).status_code == 301
    settings.SECURE_REDIRECT_EXEMPT = [r"^bi/webhooks/"]
    assert deliver(to).status_code == 200
    assert findings() == []


def test_a_redirect_by_prepend_www_is_an_error(settings):
    settings.MIDDLEWARE = STACK
    settings.PREPEND_WWW = True
    settings.ALLOWED_HOSTS = ["example.edu"]
    assert only_finding()[0] == "E012"
    settings.ALLOWED_HOSTS = [".example.edu"]
    found, message, hint = only_finding()
    assert found == "E013"
    assert "the response is 301 Moved Permanently to https://www.example.edu/bi/webhooks/" in message
    assert "PREPEND_WWW" in hint
    settings.ALLOWED_HOSTS = ["www.example.edu"]
    assert findings() == []


def test_an_empty_allowed_hosts_is_an_error(settings):
    settings.MIDDLEWARE = STACK
    settings.ALLOWED_HOSTS = []
    assert only_finding()[2] == "Add the host of the vendors' URL to ALLOWED_HOSTS."
    settings.ALLOWED_HOSTS = ["*"]
    assert findings() == []


class Nowhere:
    urlpatterns = []


class Hidden:
    urlpatterns = [
        path("bi/<path:anything>", lambda request, anything: HttpResponse(status=404)),
        path("bi/", include("django_bi_integration.urls")),
    ]


def test_missing_urls_are_an_error(settings):
    settings.ROOT_URLCONF = Nowhere
    found, message, hint = only_finding()
    assert (found, message) == ("E012", "The project has no URL for webhooks.")
    assert 'include("django_bi_integration.urls")' in hint


def test_an_earlier_url_pattern_that_matches_is_an_error(settings):
    settings.ROOT_URLCONF = Hidden
    found, _, hint = only_finding()
    assert found == "E012"
    assert "The URL pattern 'bi/<path:anything>' matches the path" in hint


class PrefixedByLanguage:
    urlpatterns = i18n_patterns(path("bi/", include("django_bi_integration.urls")))


def test_middleware_that_selects_another_urlconf_is_an_error(settings):
    settings.MIDDLEWARE = ["tests.operations.test_blocking_middleware.other_urls"]
    found, message, hint = only_finding()
    assert found == "E012"
    assert "the response is 404" in message
    assert (
        "a URLconf that lacks the package's URLs. Let /bi/webhooks/ pass in"
        " tests.operations.test_blocking_middleware.other_urls" in hint
    )


def test_urls_below_a_language_prefix_are_checked(settings):
    settings.ROOT_URLCONF = PrefixedByLanguage
    settings.MIDDLEWARE = [SECURITY, "django.middleware.locale.LocaleMiddleware", *MIDDLEWARE]
    settings.LANGUAGE_CODE = "en"
    settings.LANGUAGES = [("en", "English"), ("de", "Deutsch")]
    settings.SECURE_SSL_REDIRECT = True
    assert "r'^en/bi/webhooks/'" in only_finding()[2]
    settings.SECURE_SSL_REDIRECT = False
    assert findings() == []


class OddlyNamed:
    urlpatterns = [path("büro/", include("django_bi_integration.urls"))]


def test_urls_at_a_non_ascii_path_are_checked(settings):
    settings.ROOT_URLCONF = OddlyNamed
    assert findings() == []


def test_the_check_sends_the_proxys_header_for_https(settings):
    settings.MIDDLEWARE = ["tests.operations.test_blocking_middleware.https_by_proxy_header_only"]
    settings.SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
    found, message, _ = only_finding()
    assert found == "E013"
    assert message.startswith("POST http://")


def test_urls_below_a_script_prefix_are_checked(settings):
    previous = get_script_prefix()
    settings.FORCE_SCRIPT_NAME = "/portal ü"
    settings.SECURE_SSL_REDIRECT = True
    set_script_prefix("/portal ü")  # as django.setup() does
    try:
        assert only_finding()[0] == "E013"
        settings.SECURE_SSL_REDIRECT = False
        assert findings() == []
    finally:
        set_script_prefix(previous)


@pytest.mark.django_db
def test_the_check_has_no_side_effects(settings, monkeypatch):
    """It makes no query and stores no row, and it restores the language and the time zone."""
    settings.MIDDLEWARE = [*STACK, "tests.operations.test_blocking_middleware.sets_language_and_zone"]
    monkeypatch.setitem(connection.settings_dict, "ATOMIC_REQUESTS", True)
    with CaptureQueriesContext(connection) as queries, translation.override("fr"):
        assert findings() == []
        assert translation.get_language() == "fr"
        assert timezone.get_current_timezone_name() == settings.TIME_ZONE
    assert len(queries) == 0
    assert not Rejection.objects.exists()


@pytest.mark.parametrize("middleware", ["raises", "to_login", "forbidden_by_process_view"])
def test_the_check_logs_nothing_and_mails_no_administrator(settings, mailoutbox, caplog, middleware):
    settings.ADMINS = ["admin@example.edu"]
    settings.MIDDLEWARE = [*STACK, f"tests.operations.test_blocking_middleware.{middleware}"]
    assert len(findings()) == 1
    assert (caplog.records, mailoutbox) == ([], [])
    logging.getLogger("django.request").warning("logged again")
    assert len(caplog.records) == 1


def test_other_commands_do_not_run_the_middleware(settings):
    settings.MIDDLEWARE = ["tests.operations.test_blocking_middleware.cannot_start"]
    assert run_checks(tags=["django_bi_integration"]) == []
