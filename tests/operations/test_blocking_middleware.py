"""What turns deliveries away before the view decides is told by a system check, with what to do about it."""

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


def walls():
    """The id, the message and the hint of everything that the check finds."""
    found = run_checks(tags=["django_bi_integration"], include_deployment_checks=True)
    return [(message.id[-4:], message.msg, message.hint) for message in found if message.id[-4:] in ("E012", "E013")]


def only_wall():
    (wall,) = walls()
    return wall


def to_login(get_response):
    return lambda request: HttpResponseRedirect("/accounts/login/?next=" + request.path)


def to_elsewhere_without_slash(get_response):
    def middleware(request):
        return get_response(request) if request.path.endswith("/") else HttpResponseRedirect(request.path + "/")

    return middleware


def forbidden_without_token(get_response):
    return lambda request: get_response(request) if "X-CSRFToken" in request.headers else HttpResponseForbidden()


def forbidden_at_the_view(get_response):
    class Middleware:
        def __call__(self, request):
            return get_response(request)

        def process_view(self, request, view, args, kwargs):
            return HttpResponseForbidden()

    return Middleware()


def insiders_alone(get_response):
    def middleware(request):
        inside = request.META["REMOTE_ADDR"] in ("127.0.0.1", "10.0.0.5")
        return get_response(request) if inside else HttpResponseForbidden()

    return middleware


def json_alone(get_response):
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


def to_login_where_forbidden(get_response):
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


def https_alone_by_the_proxys_header(get_response):
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
def test_djangos_own_middleware_is_no_wall(settings, middleware):
    settings.MIDDLEWARE = middleware
    assert walls() == []


@pytest.mark.parametrize(
    ("middleware", "answer", "remedy"),
    [
        (to_login, "302 Found to /accounts/login/?next=/bi/webhooks/", "A vendor cannot log in."),
        (forbidden_without_token, "403 Forbidden", "needs no session or CSRF token"),
        (forbidden_at_the_view, "403 Forbidden", "needs no session or CSRF token"),
        (insiders_alone, "403 Forbidden", "needs no session or CSRF token"),
        (maintenance, "200 OK", "Let /bi/webhooks/ pass"),
        (raises, "500, because LookupError was raised: no tenant", "Let /bi/webhooks/ pass"),
        (cannot_start, "500, because RuntimeError was raised: no licence", "Let /bi/webhooks/ pass"),
        (redirects_afterwards, "302 Found to /welcome/", "Let /bi/webhooks/ pass"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_a_wall_of_the_hosts_is_an_error_that_names_it(settings, middleware, answer, remedy):
    name = f"tests.operations.test_blocking_middleware.{middleware.__name__}"
    settings.MIDDLEWARE = [*STACK, name]
    found, message, hint = only_wall()
    assert found == "E012"
    assert message.startswith("POST https://testserver/bi/webhooks/")
    assert f"does not reach the webhook: the response is {answer}" in message
    assert remedy in hint
    assert f"Let /bi/webhooks/ pass in {name}." in hint


@pytest.mark.parametrize(
    ("middleware", "form", "status"),
    [(to_elsewhere_without_slash, "000000 does", 302), (json_alone, "without a Content-Type", 415)],
)
def test_a_wall_for_some_forms_alone_has_an_id_of_its_own(settings, middleware, form, status):
    settings.MIDDLEWARE = [*STACK, f"tests.operations.test_blocking_middleware.{middleware.__name__}"]
    found, message, _ = only_wall()
    assert found == "E013"
    assert form in message
    assert f"the response is {status}" in message


@pytest.mark.parametrize(
    ("middleware", "becomes"),
    [
        (to_login_where_forbidden, "gets the response 302 Found to /accounts/login/, but the webhook's is 403."),
        (always_200, "gets the response 200 OK, but the webhook's is 403."),
    ],
)
def test_what_is_not_stored_must_not_look_delivered(settings, middleware, becomes):
    settings.MIDDLEWARE = [*STACK, f"tests.operations.test_blocking_middleware.{middleware.__name__}"]
    found, message, hint = only_wall()
    assert found == "E013"
    assert becomes in message
    assert f"Let /bi/webhooks/ pass in tests.operations.test_blocking_middleware.{middleware.__name__}." in hint


def test_a_failure_may_become_another_failure(settings):
    settings.MIDDLEWARE = [*STACK, "tests.operations.test_blocking_middleware.error_as_500"]
    assert walls() == []


@pytest.mark.parametrize("propagate", [True, False])
def test_what_middleware_raises_does_not_end_the_check(settings, propagate):
    settings.DEBUG_PROPAGATE_EXCEPTIONS = propagate
    settings.MIDDLEWARE = ["tests.operations.test_blocking_middleware.raises"]
    assert "LookupError was raised: no tenant" in only_wall()[1]


def test_plain_http_that_is_redirected_is_told_apart(settings):
    settings.MIDDLEWARE = STACK
    settings.SECURE_SSL_REDIRECT = True
    found, message, hint = only_wall()
    assert found == "E013"
    assert message.startswith("POST http://testserver/")
    assert "SECURE_REDIRECT_EXEMPT = [r'^bi/webhooks/']" in hint
    assert "set SECURE_PROXY_SSL_HEADER" in hint
    settings.SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
    found, _, hint = only_wall()
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
    assert walls() == []


def test_a_host_without_www_is_redirected(settings):
    settings.MIDDLEWARE = STACK
    settings.PREPEND_WWW = True
    settings.ALLOWED_HOSTS = ["example.edu"]
    assert only_wall()[0] == "E012"
    settings.ALLOWED_HOSTS = [".example.edu"]
    found, message, hint = only_wall()
    assert found == "E013"
    assert "the response is 301 Moved Permanently to https://www.example.edu/bi/webhooks/" in message
    assert "PREPEND_WWW" in hint
    settings.ALLOWED_HOSTS = ["www.example.edu"]
    assert walls() == []


def test_without_an_allowed_host_nothing_arrives(settings):
    settings.MIDDLEWARE = STACK
    settings.ALLOWED_HOSTS = []
    assert only_wall()[2] == "Add the host of the vendors' URL to ALLOWED_HOSTS."
    settings.ALLOWED_HOSTS = ["*"]
    assert walls() == []


class Nowhere:
    urlpatterns = []


class Hidden:
    urlpatterns = [
        path("bi/<path:anything>", lambda request, anything: HttpResponse(status=404)),
        path("bi/", include("django_bi_integration.urls")),
    ]


def test_urls_that_are_not_included_are_told(settings):
    settings.ROOT_URLCONF = Nowhere
    found, message, hint = only_wall()
    assert (found, message) == ("E012", "The project has no URL for webhooks.")
    assert 'include("django_bi_integration.urls")' in hint


def test_another_pattern_that_comes_first_is_told(settings):
    settings.ROOT_URLCONF = Hidden
    found, _, hint = only_wall()
    assert found == "E012"
    assert "The URL pattern 'bi/<path:anything>' matches the path" in hint


class PrefixedByLanguage:
    urlpatterns = i18n_patterns(path("bi/", include("django_bi_integration.urls")))


def test_middleware_that_chooses_other_urls_is_told(settings):
    settings.MIDDLEWARE = ["tests.operations.test_blocking_middleware.other_urls"]
    found, message, hint = only_wall()
    assert found == "E012"
    assert "the response is 404" in message
    assert (
        "a URLconf that lacks the package's URLs. Let /bi/webhooks/ pass in"
        " tests.operations.test_blocking_middleware.other_urls" in hint
    )


def test_a_mount_below_the_language_works(settings):
    settings.ROOT_URLCONF = PrefixedByLanguage
    settings.MIDDLEWARE = [SECURITY, "django.middleware.locale.LocaleMiddleware", *MIDDLEWARE]
    settings.LANGUAGE_CODE = "en"
    settings.LANGUAGES = [("en", "English"), ("de", "Deutsch")]
    settings.SECURE_SSL_REDIRECT = True
    assert "r'^en/bi/webhooks/'" in only_wall()[2]
    settings.SECURE_SSL_REDIRECT = False
    assert walls() == []


class OddlyNamed:
    urlpatterns = [path("büro/", include("django_bi_integration.urls"))]


def test_a_mount_at_an_odd_path_works(settings):
    settings.ROOT_URLCONF = OddlyNamed
    assert walls() == []


def test_the_proxys_header_for_https_is_sent(settings):
    settings.MIDDLEWARE = ["tests.operations.test_blocking_middleware.https_alone_by_the_proxys_header"]
    settings.SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
    found, message, _ = only_wall()
    assert found == "E013"
    assert message.startswith("POST http://")


def test_a_mount_below_a_prefix_of_the_server_works(settings):
    former = get_script_prefix()
    settings.FORCE_SCRIPT_NAME = "/portal ü"
    settings.SECURE_SSL_REDIRECT = True
    set_script_prefix("/portal ü")  # as django.setup() does
    try:
        assert only_wall()[0] == "E013"
        settings.SECURE_SSL_REDIRECT = False
        assert walls() == []
    finally:
        set_script_prefix(former)


@pytest.mark.django_db
def test_the_check_asks_and_leaves_nothing(settings, monkeypatch):
    """It runs within whatever command runs it: no row, no query, and language and time zone as they were."""
    settings.MIDDLEWARE = [*STACK, "tests.operations.test_blocking_middleware.sets_language_and_zone"]
    monkeypatch.setitem(connection.settings_dict, "ATOMIC_REQUESTS", True)
    with CaptureQueriesContext(connection) as queries, translation.override("fr"):
        assert walls() == []
        assert translation.get_language() == "fr"
        assert timezone.get_current_timezone_name() == settings.TIME_ZONE
    assert len(queries) == 0
    assert not Rejection.objects.exists()


@pytest.mark.parametrize("middleware", ["raises", "to_login", "forbidden_at_the_view"])
def test_the_check_logs_nothing_and_mails_no_administrator(settings, mailoutbox, caplog, middleware):
    settings.ADMINS = ["admin@example.edu"]
    settings.MIDDLEWARE = [*STACK, f"tests.operations.test_blocking_middleware.{middleware}"]
    assert len(walls()) == 1
    assert (caplog.records, mailoutbox) == ([], [])
    logging.getLogger("django.request").warning("loud as before")
    assert len(caplog.records) == 1


def test_other_commands_do_not_run_the_middleware(settings):
    settings.MIDDLEWARE = ["tests.operations.test_blocking_middleware.cannot_start"]
    assert run_checks(tags=["django_bi_integration"]) == []
