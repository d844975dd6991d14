"""Settings of the host project for its views have no effect on a delivery."""

import pytest
from django.db import connection, connections, transaction
from django.http import HttpResponseRedirect
from django.urls import include, path
from rest_framework.settings import api_settings

from django_bi_integration.dispatch.worker import dispatch_pending
from django_bi_integration.models import ReceivedEvent, WebhookRegistration
from django_bi_integration.signals import event_received
from django_bi_integration.webhooks.views import WebhookView
from tests.helpers.deliveries import (
    CREATED,
    KEY,
    Recorder,
    big_interview,
    deliver,
    interview_event,
    registration,
    stored,
    subscribed,
)

pytestmark = pytest.mark.django_db

SECURITY, *MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.auth.middleware.LoginRequiredMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]


def teapot(exc, context):
    raise AssertionError("The host project's exception handler must not be called.")


@pytest.mark.parametrize(
    "defaults",
    [
        {"DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"]},
        {"DEFAULT_AUTHENTICATION_CLASSES": ["rest_framework.authentication.SessionAuthentication"]},
        {
            "DEFAULT_THROTTLE_CLASSES": ["rest_framework.throttling.AnonRateThrottle"],
            "DEFAULT_THROTTLE_RATES": {"anon": "1/day"},
        },
        {"DEFAULT_PARSER_CLASSES": ["rest_framework.parsers.MultiPartParser"]},
        {"DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.AdminRenderer"]},
        {"DEFAULT_VERSIONING_CLASS": "rest_framework.versioning.AcceptHeaderVersioning", "ALLOWED_VERSIONS": ["9"]},
        {"DEFAULT_METADATA_CLASS": None},
        {"EXCEPTION_HANDLER": "tests.webhooks.test_host_settings.teapot"},
        {"URL_FORMAT_OVERRIDE": "accept"},
        {"STRICT_JSON": False},
        {"UNAUTHENTICATED_USER": None},
    ],
    ids=lambda defaults: next(iter(defaults)),
)
def test_no_rest_framework_default_applies(settings, defaults):
    settings.REST_FRAMEWORK = defaults
    api_settings.reload()
    to = big_interview()
    assert [deliver(to).status_code for _ in range(3)] == [200, 200, 200]
    assert deliver(to, b"no").status_code == 400
    assert deliver(to, b'{"a": NaN}').status_code == 400
    assert deliver(to, key="x").status_code == 401


def test_a_strict_middleware_stack_lets_deliveries_through(settings):
    settings.MIDDLEWARE = [SECURITY, *MIDDLEWARE]
    settings.CSRF_USE_SESSIONS = True
    settings.APPEND_SLASH = True
    to = big_interview()
    assert deliver(to).status_code == 200
    assert deliver(to, path=to.get_absolute_url().rstrip("/")).status_code == 200
    assert "set-cookie" not in deliver(to).headers


def test_a_small_upload_limit_of_the_project_does_not_apply(settings):
    settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 10
    assert deliver(big_interview()).status_code == 200
    assert bytes(stored().body) == CREATED


class ReadsBody:
    """A middleware that reads the body before the view does."""

    def __init__(self, get_response):
        self.get_response = get_response

    def __call__(self, request):
        assert request.body == CREATED
        return self.get_response(request)


def test_a_delivery_is_stored_after_a_middleware_has_read_the_body(settings):
    settings.MIDDLEWARE = ["tests.webhooks.test_host_settings.ReadsBody"]
    assert deliver(big_interview()).status_code == 200
    assert bytes(stored().body) == CREATED


class FailsAfterwards:
    """A middleware that replaces the view's response with a redirect."""

    def __init__(self, get_response):
        self.get_response = get_response

    def __call__(self, request):
        self.get_response(request)
        assert not transaction.get_connection().in_atomic_block
        return HttpResponseRedirect("/elsewhere")


@pytest.mark.django_db(transaction=True)
def test_with_atomic_requests_the_event_is_committed_before_the_response(settings):
    settings.DATABASES["default"]["ATOMIC_REQUESTS"] = True
    transaction.get_connection().settings_dict["ATOMIC_REQUESTS"] = True
    try:
        settings.MIDDLEWARE = ["tests.webhooks.test_host_settings.FailsAfterwards"]
        deliver(big_interview())
        assert ReceivedEvent.objects.count() == 1
    finally:
        transaction.get_connection().settings_dict["ATOMIC_REQUESTS"] = False


@pytest.mark.django_db(transaction=True)
def test_a_delivery_is_stored_if_another_database_of_the_host_project_is_unavailable(settings, monkeypatch):
    """It opens no transaction there either, even if ATOMIC_REQUESTS is set for that database."""
    unreachable = {**connection.settings_dict, "NAME": "/nowhere/at/all", "PORT": "1", "ATOMIC_REQUESTS": True}
    monkeypatch.setitem(connections.settings, "archive", unreachable)
    settings.ROOT_URLCONF = (
        path("bi/", include("django_bi_integration.urls")),
        path("new/<uuid:registration_id>/", WebhookView.as_view()),
    )
    to = big_interview()
    assert deliver(to, path=f"/new/{to.pk}/").status_code == 200
    assert stored()


class ReadsFromAReplica:
    """A router that reads this app's tables from a replica that does not exist, so that each such query fails."""

    def db_for_read(self, model, **hints):
        return "replica" if model._meta.app_label == "django_bi_integration" else None


def test_deliveries_and_dispatch_do_not_read_from_a_replica(settings):
    """A replica lags: a second worker would not see there that an event is claimed."""
    settings.DATABASE_ROUTERS = [f"{__name__}.ReadsFromAReplica"]
    to, received = big_interview(), Recorder()
    with subscribed(event_received, received):
        assert [deliver(to, key=key).status_code for key in (KEY, KEY, "x")] == [200, 200, 401]
        assert dispatch_pending() == {"dispatched": 1}
    assert received.events == ["123456789"]


def test_a_query_uses_the_database_that_its_caller_names(settings, monkeypatch):
    monkeypatch.setitem(connections.settings, "archive", {**connection.settings_dict, "NAME": "/nowhere/at/all"})
    settings.DATABASE_ROUTERS = [f"{__name__}.ReadsFromAReplica"]
    to = big_interview()
    for manager in (ReceivedEvent.objects, WebhookRegistration.objects, to.events):
        assert (manager.all().db, manager.using("archive").db) == ("default", "archive")
        assert manager.db_manager("archive").all().db == "archive"


@pytest.mark.database
@pytest.mark.django_db(transaction=True)
def test_deliveries_and_dispatch_work_with_server_side_binding_and_prepared_statements(monkeypatch):
    """docs/performance.md describes these options of PostgreSQL's driver."""
    if connection.vendor != "postgresql":
        pytest.skip("only PostgreSQL's driver has these options")
    options = {**connection.settings_dict["OPTIONS"], "server_side_binding": True, "prepare_threshold": 1}
    monkeypatch.setitem(connection.settings_dict, "OPTIONS", options)
    connection.close()
    try:
        to, received = registration(networks=("127.0.0.1",)), Recorder()
        with subscribed(event_received, received):
            answers = {deliver(to, interview_event(str(number))).status_code for number in (*range(10), 1)}
            assert dispatch_pending() == {"dispatched": 10}
        assert (answers, sorted(received.events)) == ({200}, sorted("0123456789"))
        assert sum(ReceivedEvent.objects.values_list("deliveries", flat=True)) == 11
        with connection.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM pg_prepared_statements WHERE statement LIKE %s", ["INSERT INTO%"])
            assert cursor.fetchone()[0] > 0
    finally:
        connection.close()
