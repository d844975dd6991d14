"""Secrets and students' data do not leak, whatever fails: invariant 9, and what logs may contain.

Each test uses a key, a token or a student's name, lets something fail, and searches all output and rows for it.
"""

import logging
import pickle
from contextlib import contextmanager
from io import StringIO

import pytest
from celery import Celery
from django.apps import apps
from django.contrib.auth.models import Permission, User
from django.contrib.sessions.models import Session
from django.core.management import CommandError, call_command
from django.db import IntegrityError, OperationalError, connection
from django.utils.log import AdminEmailHandler, RequireDebugFalse

from django_bi_integration import sso
from django_bi_integration.dispatch.notify import Notifier, notifier
from django_bi_integration.dispatch.worker import dispatch_pending
from django_bi_integration.exceptions import KeyRejected, PartnerAPIError
from django_bi_integration.models import BigInterviewAccount, ObjectState, ReceivedEvent, WebhookRegistration
from django_bi_integration.signals import course_completed, event_received, sso_launched
from tests.helpers.deliveries import (
    COMPLETED,
    KEY,
    Recorder,
    big_interview,
    deliver,
    deliver_completion,
    innovative_educators,
    stored,
    subscribed,
)
from tests.helpers.partner_api import API_KEY, TOKEN, answer, partner_api, partner_api_for_any_user, reset, user
from tests.host import celery_app

pytestmark = pytest.mark.django_db(transaction=True)

LOGIN, LAUNCH = "/bi/sso/login/", "/bi/sso/launch/"
ADMIN = "/admin/django_bi_integration"
NAME, MAIL = "Zacharias-Canary", "canary@example.edu"
#: A completed course of the student.
BODY = COMPLETED.replace(b"Bob", NAME.encode()).replace(b"[email protected]", MAIL.encode())
PERSONAL = (NAME, MAIL)
SECRETS = (KEY, API_KEY, TOKEN)


class ErrorReports(AdminEmailHandler):
    """Keeps Django's mails to administrators, with the variables of every frame, instead of sending them."""

    def __init__(self):
        super().__init__(include_html=True)
        self.addFilter(RequireDebugFalse())  # as in Django's default configuration
        self.texts = []

    def send_mail(self, subject, message, *arguments, html_message, **options):
        self.texts += [subject, message, html_message]


@pytest.fixture
def reported(caplog):
    """Return a function that returns all log messages and error reports as text."""
    caplog.set_level(logging.DEBUG)
    reports = ErrorReports()
    root = logging.getLogger()
    reports.setLevel(logging.ERROR)
    root.addHandler(reports)
    yield lambda: "\n".join([caplog.text, *reports.texts])
    root.removeHandler(reports)


@pytest.fixture
def student():
    return User.objects.create_user("student", email=MAIL, first_name=NAME, last_name="Johnson")


@pytest.fixture
def logged_in(client, student):
    client.force_login(student)
    client.raise_request_exception = False
    return client


@pytest.fixture
def api(settings):
    with partner_api_for_any_user(settings, {"API_BUDGET_SECONDS": 2}) as running:
        made = BigInterviewAccount(subdomain="xyz")
        made.set_api_key(API_KEY)
        made.save()
        yield running


@contextmanager
def statements_fail(verb, model, error):
    """Make statements on a model's table fail with an error that quotes all values, as a database's error may."""

    def wrapper(execute, sql, params, many, context):
        if sql.startswith(verb) and f"django_bi_integration_{model}" in sql:
            raise error(f"DETAIL: {params}")
        return execute(sql, params, many, context)

    with connection.execute_wrapper(wrapper):
        yield


def assert_none_of(words, text):
    """Check that the text contains none of the words."""
    assert [word for word in words if word in text] == []


@pytest.mark.database
class TestErrorReports:
    """Logs, Django's debug page, and the mail to administrators contain no secret and no student's data."""

    @pytest.mark.parametrize("debug", [False, True])
    @pytest.mark.parametrize("content_type", ["application/json", "application/x-www-form-urlencoded"])
    def test_a_bug_in_the_code_that_stores_a_delivery_leaks_nothing(
        self, settings, reported, monkeypatch, debug, content_type
    ):
        settings.DEBUG = debug

        def bug(*arguments, **options):
            raise RuntimeError("a bug")

        monkeypatch.setattr("django_bi_integration.webhooks.receive.store_once", bug)
        response = deliver(big_interview(), BODY, content_type=content_type)
        assert response.status_code == 500
        text = reported() + response.content.decode()
        assert "a bug" in text
        assert "HTTP_AUTHORIZATION" in text
        # With DEBUG, Django shows the variables of every frame, including the body.
        assert_none_of([KEY] if debug else [KEY, *PERSONAL], text)

    @pytest.mark.parametrize("error", [OperationalError, IntegrityError])
    def test_a_database_error_that_quotes_the_values_leaks_nothing(self, reported, error):
        with statements_fail("INSERT", "receivedevent", error):
            assert deliver(big_interview(), BODY).status_code == 503
        assert "delivery not stored" in reported()
        assert_none_of([KEY, *PERSONAL], reported())

    @pytest.mark.parametrize("key", [None, KEY[:-1] + "0", f"Bearer {KEY}"])
    def test_a_rejected_delivery_leaks_nothing(self, reported, key):
        assert deliver(big_interview(), BODY, key=key).status_code == 401
        assert "Unauthorized" in reported()
        assert_none_of([KEY[:-1], *PERSONAL], reported())

    def test_a_receiver_that_raises_personal_data_leaks_nothing_to_the_logs(self, reported):
        def receiver(event, data, **arguments):
            raise ValueError(bytes(event.body), data.learner.email)

        with subscribed(course_completed, receiver):
            deliver_completion(innovative_educators(), BODY)
            dispatch_pending()
        assert MAIL in stored().last_error
        assert "raised ValueError" in reported()
        assert_none_of(PERSONAL, reported())

    @pytest.mark.parametrize("model", ["webhookregistration", "biginterviewaccount"])
    @pytest.mark.parametrize("verb", ["INSERT", "UPDATE"])
    def test_a_database_error_while_a_key_is_saved_leaks_nothing(self, admin_client, reported, model, verb):
        made = big_interview()
        account = BigInterviewAccount.objects.create(subdomain="abc")
        page = {
            "INSERT": "add/?vendor=big_interview",
            "UPDATE": f"{made.pk if model == 'webhookregistration' else account.pk}/change/",
        }
        form = {
            "name": "x",
            "vendor": "big_interview",
            "subdomain": "xyz",
            "key": API_KEY,
            "overlap": "0",
            "api_key": API_KEY,
        }
        admin_client.raise_request_exception = False
        with statements_fail(verb, model, RuntimeError):
            assert admin_client.post(f"{ADMIN}/{model}/{page[verb]}", form).status_code == 500
        assert "DETAIL" in reported()
        assert_none_of(SECRETS, reported())

    def test_an_encryption_error_while_a_key_is_saved_leaks_no_key(self, settings, admin_client, reported):
        settings.BI_INTEGRATION = {"ENCRYPTION_KEYS": [7]}
        admin_client.raise_request_exception = False
        form = {"subdomain": "xyz", "api_key": API_KEY}
        assert admin_client.post(f"{ADMIN}/biginterviewaccount/add/", form).status_code == 500
        assert "set_api_key" in reported()
        assert API_KEY not in reported()

    @pytest.mark.parametrize("path", [LOGIN, LAUNCH])
    def test_a_middleware_that_fails_with_the_response_leaks_no_token(self, settings, logged_in, api, reported, path):
        settings.MIDDLEWARE = ["tests.invariants.test_secrets.fails_afterwards", *settings.MIDDLEWARE]
        assert logged_in.generic("GET" if path == LOGIN else "POST", path).status_code == 500
        assert "in the middleware" in reported()
        assert "response" in reported()
        assert_none_of(SECRETS, reported())

    @pytest.mark.parametrize(
        "script",
        [
            answer(200, user("other")),
            answer(200, {"user": {"token": {"token": TOKEN}}}),
            answer(200, f"{TOKEN}{API_KEY}{NAME}"),
            answer(422, {"error": {"message": {"email": [f"{MAIL} is taken"]}}}),
            answer(500, f'{{"error": {{"message": "{API_KEY} {NAME}"}}}}'),
            answer(302, Location=f"https://evil.example/?{API_KEY}"),
        ],
        ids=["other user", "no id", "no JSON", "rejected", "broken", "redirect"],
    )
    def test_an_unexpected_response_of_the_partner_api_leaks_nothing(self, logged_in, api, reported, script):
        api.scripts[:] = [script]
        page = logged_in.get(LOGIN)
        assert page.status_code in (422, 502, 503)
        assert "launch" in reported()
        assert_none_of([*SECRETS, *PERSONAL], reported() + page.content.decode())

    @pytest.mark.parametrize("debug", [False, True])
    def test_the_debug_page_and_error_reports_show_no_encryption_keys(self, settings, logged_in, reported, debug):
        settings.DEBUG = debug
        settings.BI_INTEGRATION = {"ENCRYPTION_KEYS": ["canary" * 8], "PARTNER_ID": 7}
        made = BigInterviewAccount(subdomain="xyz")
        made.set_api_key(API_KEY)
        made.save()
        page = logged_in.get(LOGIN)
        assert page.status_code == 500
        text = reported() + page.content.decode()
        assert "ENCRYPTION_KEYS" in text
        assert_none_of(["canary" * 8, API_KEY], text)

    def test_an_invalid_broker_url_is_logged_without_its_password(self, reported):
        lost = Notifier()
        lost.use(Celery("x", broker="redis://:ses/ame@127.0.0.1/0", set_as_current=False))
        lost.request()
        assert lost.wait(5)
        assert "workers were not notified, the sweep will dispatch: ValueError" in reported()
        assert "'ses'" not in reported()


def fails_afterwards(get_response):
    """Raise after the view has responded; a middleware of the host project."""

    def middleware(request):
        response = get_response(request)
        raise RuntimeError(f"in the middleware: {response!r}")

    return middleware


@pytest.mark.database
class TestStoredData:
    """The database and the broker contain no secret, and only a few columns contain a student's data."""

    def test_no_column_has_a_secret_and_only_four_have_a_students_data(self, admin_client, logged_in, api):
        """Invariant 9, checked in every column of every table of the site."""
        account = BigInterviewAccount.objects.get()
        registration = {"name": "x", "vendor": "big_interview", "key": KEY, "overlap": "1", "is_active": "on"}
        admin_client.post(f"{ADMIN}/webhookregistration/add/?vendor=big_interview", registration)
        made = WebhookRegistration.objects.get()
        admin_client.post(f"{ADMIN}/webhookregistration/{made.pk}/change/", {**registration, "key": API_KEY})
        admin_client.post(
            f"{ADMIN}/biginterviewaccount/{account.pk}/change/",
            {"subdomain": "xyz", "api_key": API_KEY, "is_active": 1},
        )
        assert [deliver(made, BODY, key=key).status_code for key in (KEY, API_KEY, "x")] == [200, 200, 401]
        deliver_completion(innovative_educators(), BODY)
        dispatch_pending()
        assert logged_in.get(LOGIN).status_code == 302
        api.scripts[:] = [answer(401, {"error": {"message": f"{API_KEY} is not valid"}})]
        logged_in.post(LAUNCH)
        columns = list(every_column())
        assert {f"{model}.{name}" for model, name, text in columns if any(word in text for word in SECRETS)} == set()
        assert {f"{model}.{name}" for model, name, text in columns if any(word in text for word in PERSONAL)} == {
            "User.first_name",
            "User.email",
            "ReceivedEvent.body",
            "ObjectState.data",
        }

    def test_a_message_to_celery_contains_no_data(self):
        with celery_app.connection() as broker:
            queue = broker.SimpleQueue(celery_app.conf.task_default_queue)
            queue.clear()
            deliver_completion(innovative_educators(), BODY)
            assert notifier.wait(5)
            message = queue.get(timeout=60)
            message.ack()
            arguments, named, _ = message.payload
            assert (arguments, named) == ([], {})
            everything = f"{message.payload} {message.headers} {message.properties} {message.body}"
            event = stored()
            assert_none_of([*PERSONAL, str(event.registration_id), event.vendor_event_id], everything)
            queue.close()


def every_column():
    """Yield the model's name, the column and the content as text of every stored value."""
    for model in apps.get_models():
        for row in model._default_manager.all():
            for field in model._meta.concrete_fields:
                value = getattr(row, field.attname)
                yield model.__name__, field.name, bytes(value).decode() if isinstance(value, memoryview) else str(value)
            if isinstance(row, Session):
                yield model.__name__, "decoded", str(row.get_decoded())


class TestRepr:
    """No secret is shown if a developer logs an object with ``%r``."""

    def test_the_repr_of_objects_with_secrets_or_personal_data_shows_none(self, logged_in, api, student):
        completed, launched = Recorder(), Recorder()
        with subscribed(event_received, completed), subscribed(sso_launched, launched):
            deliver_completion(innovative_educators(), BODY)
            dispatch_pending()
            launch = sso.start(student)
        account = BigInterviewAccount.objects.get()
        client = account.client()
        shown = [
            *completed.calls,
            *launched.calls,
            launch,
            account,
            client,
            vars(client),
            client.create_or_refresh_user("7", first_name=NAME, last_name="x", email=MAIL),
            ObjectState.objects.get(),
        ]
        assert completed.data.learner.first_name == NAME
        assert TOKEN in launch.url
        assert_none_of([*SECRETS, *PERSONAL], repr(shown))

    def test_the_repr_of_the_response_shows_no_token(self, logged_in, api):
        for response in (logged_in.get(LOGIN), logged_in.post(LAUNCH)):
            assert TOKEN not in repr(response)

    def test_a_client_cannot_be_pickled(self, api):
        with pytest.raises(TypeError, match="holds the API key"):
            pickle.dumps(BigInterviewAccount.objects.get().client())
        assert API_KEY.encode() not in pickle.dumps(BigInterviewAccount.objects.get())

    @pytest.mark.parametrize(
        "script",
        [answer(401), answer(500), answer(200, "x"), answer(200, user("other")), reset],
        ids=["401", "500", "no JSON", "other user", "reset"],
    )
    def test_the_repr_of_local_variables_in_a_traceback_shows_no_secret(self, api, script):
        """Tools that collect the variables of frames ignore Django's ``sensitive_variables``."""
        api.scripts[:] = [script]
        with pytest.raises(PartnerAPIError) as failure:
            BigInterviewAccount.objects.get().client().create_or_refresh_user(
                "7", first_name="x", last_name="x", email="x"
            )
        frames = [entry.frame.f_locals for entry in failure.traceback if "django_bi_integration" in str(entry.path)]
        assert frames
        assert_none_of([API_KEY, TOKEN], repr(frames))

    @pytest.mark.parametrize("key", ["a/b", 'a"b', "a<b", "e", "{"])
    def test_a_key_that_the_api_quotes_with_json_escapes_is_masked(self, settings, key):
        """JSON from PHP escapes a slash, and JSON from Ruby an angle bracket."""
        escaped = "".join(f"\\u{ord(character):04x}" for character in key)
        message = f'{{"error": {{"message": "<{escaped}>", "{escaped}": 1}}}}'
        with partner_api(answer(401, message)) as api:
            settings.BI_INTEGRATION = {"BASE_URL": api.url}
            account = BigInterviewAccount(subdomain="xyz")
            account.set_api_key(key)
            with pytest.raises(KeyRejected) as failure:
                account.client().check_key()
        assert str(failure.value) == "The Partner API answered 401: <***>"


class TestCommandLine:
    """Commands print no key, neither in a terminal nor in the log of a cron job."""

    @pytest.mark.parametrize("key", [f"{KEY}\n{KEY}", f"{KEY}\0", f"{KEY}ü"])
    @pytest.mark.parametrize("source", ["argument", "standard input"])
    def test_a_key_that_no_header_can_carry_is_not_printed(self, monkeypatch, key, source):
        if source == "standard input":
            key = key.replace("\n", "\r")
            monkeypatch.setattr("sys.stdin", StringIO(f"{key}\n"))
        arguments = ["http://127.0.0.1:1/", "--event", "interview.created", "--key"]
        with pytest.raises(CommandError, match="no HTTP header can carry") as rejection:
            call_command("bi_send_event", *arguments, key if source == "argument" else "-")
        assert KEY not in str(rejection.value)

    def test_bi_register_prints_no_key(self):
        out, err = StringIO(), StringIO()
        arguments = ["--vendor", "big_interview", "--name", "x", "--key", f"{KEY}0"]
        call_command("bi_register", *arguments, stdout=out, stderr=err)
        assert "copied the whole key" in err.getvalue()
        assert KEY not in out.getvalue() + err.getvalue()


@pytest.fixture
def staff(client):
    """Return a client logged in as a user who may view every page, but not payloads, and change nothing."""
    made = User.objects.create_user("staff", is_staff=True)
    seen = Permission.objects.filter(content_type__app_label="django_bi_integration", codename__startswith="view_")
    made.user_permissions.set(seen.exclude(codename="view_payload"))
    client.force_login(made)
    return client


class TestStaffWithViewPermissions:
    """The server checks permissions; it does not rely on hidden buttons."""

    @pytest.mark.parametrize(
        ("screen", "guess"),
        [
            ("receivedevent", "body__contains"),
            ("receivedevent", "conflicting_body__isnull"),
            ("receivedevent", "event_digest__startswith"),  # of an event without an id, it is the body's
            ("receivedevent", "registration__key_digest__startswith"),
            ("rejection", "registration__key_digest__startswith"),
            ("objectstate", "data__learner__first_name"),
            ("objectstate", "newest_event__body__contains"),
            ("webhookregistration", "key_digest__startswith"),
            ("webhookregistration", "previous_key_digest__regex"),
            ("biginterviewaccount", "api_key_encrypted__contains"),
            ("ssosession", "account__api_key_encrypted__contains"),
            ("ssosession", "user__password__startswith"),
        ],
    )
    def test_a_filter_in_the_url_cannot_be_used_to_guess_values(self, staff, admin_client, screen, guess):
        """Superusers get an error, too, because no page offers these filters."""
        for visitor in (staff, admin_client):
            assert visitor.get(f"{ADMIN}/{screen}/").status_code == 200
            assert visitor.get(f"{ADMIN}/{screen}/?{guess}=a").status_code == 400

    def test_the_filters_that_pages_offer_work(self, staff):
        assert staff.get(f"{ADMIN}/receivedevent/?status__exact=pending").status_code == 200
        assert staff.get(f"{ADMIN}/ssosession/?account__id__exact=1").status_code == 200

    def test_staff_with_view_permissions_cannot_change_anything(self, staff, api):
        registration, account = big_interview(), BigInterviewAccount.objects.get()
        deliver(registration)
        ReceivedEvent.objects.update(status="failed", next_attempt_at=None)
        answers = [
            staff.post(f"{ADMIN}/{page}", {"name": "y", "vendor": "big_interview", "key": "0" * 32, "api_key": "x"})
            for page in (
                f"webhookregistration/{registration.pk}/change/",
                f"webhookregistration/{registration.pk}/delete/",
                "webhookregistration/add/?vendor=big_interview",
                f"biginterviewaccount/{account.pk}/change/",
                f"biginterviewaccount/{account.pk}/delete/",
                "biginterviewaccount/add/",
                f"receivedevent/{stored().pk}/change/",
                f"receivedevent/{stored().pk}/delete/",
            )
        ]
        assert [response.status_code for response in answers] == [403] * len(answers)
        for model, action, row in [
            ("receivedevent", "retry", stored().pk),
            ("biginterviewaccount", "check_keys", account.pk),
            ("biginterviewaccount", "delete_selected", account.pk),
            ("webhookregistration", "delete_selected", registration.pk),
        ]:
            staff.post(f"{ADMIN}/{model}/", {"action": action, "_selected_action": row, "post": "yes"})
        assert stored().status == "failed"
        assert api.requests == []
        assert deliver(registration).status_code == 200
        assert BigInterviewAccount.objects.get().client()

    def test_pages_for_staff_with_view_permissions_show_no_key_and_no_digest(self, staff, api):
        registration = big_interview()
        shown = ""
        for page in (
            f"webhookregistration/{registration.pk}",
            f"biginterviewaccount/{BigInterviewAccount.objects.get().pk}",
        ):
            response = staff.get(f"{ADMIN}/{page}/change/")
            assert response.status_code == 200
            shown += response.content.decode()
        assert 'type="password"' not in shown
        assert_none_of([registration.key_digest, BigInterviewAccount.objects.get().api_key_encrypted, *SECRETS], shown)
