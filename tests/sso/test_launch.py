"""Launches: each requests a new token, redirects the browser to a URL at Big Interview, and stores a record."""

import io
import json
import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from urllib.parse import parse_qs, urlsplit

import pytest
import time_machine
from django.contrib.auth.models import User
from django.core import serializers
from django.db import IntegrityError, connections, transaction
from django.template import Context, Template, TemplateSyntaxError
from django.test import Client
from django.utils import timezone
from django.views.debug import ExceptionReporter
from requests.adapters import HTTPAdapter

from django_bi_integration import sso
from django_bi_integration.exceptions import (
    BIIntegrationError,
    LaunchInProgress,
    NoAccount,
    NoPartnerID,
    NotAllowed,
    Unavailable,
    UndecryptableKey,
)
from django_bi_integration.models import BigInterviewAccount, ReceivedEvent, SSOSession
from django_bi_integration.signals import sso_failed, sso_launched, sso_returned
from django_bi_integration.sso.records import begin
from tests.helpers.deliveries import Recorder, big_interview, deliver, interview_event, stored, subscribed
from tests.helpers.partner_api import API_KEY, TOKEN, answer, partner_api_for_any_user, reset, user

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.database]

LOGIN = "/bi/sso/login/"
LAUNCH = "/bi/sso/launch/"


def account(subdomain="xyz", key=API_KEY, **fields):
    made = BigInterviewAccount(subdomain=subdomain, **fields)
    made.set_api_key(key)
    made.save()
    return made


@pytest.fixture
def student():
    return User.objects.create_user("student", email="learner@example.edu", first_name="Bob", last_name="Johnson")


@pytest.fixture
def api(settings):
    with partner_api_for_any_user(settings, {"API_BUDGET_SECONDS": 2}) as running:
        yield running


@pytest.fixture
def logged_in(client, student):
    client.force_login(student)
    return client


def redirect_of(response):
    """Return the parts of the URL that the browser is redirected to."""
    assert response.status_code == 302, response.content
    return urlsplit(response["Location"])


def query(response):
    return {name: value for name, (value,) in parse_qs(redirect_of(response).query).items()}


class TestTheRedirect:
    """The URL that the browser is redirected to."""

    @pytest.fixture(autouse=True)
    def untracked(self, settings, api):
        account()
        settings.BI_INTEGRATION = settings.BI_INTEGRATION | {
            "TRACK_RETURNS": False,
            "RETURN_URL_ORIGINS": ["https://google.com"],
        }
        self.api = api

    def start(self, token, student, **options):
        self.api.scripts[:] = [answer(200, user(str(student.pk), token))]
        return sso.start(student, **options).url.removeprefix(self.api.url)

    def test_it_equals_the_examples_in_the_vendors_documentation(self, student):
        """ "SSO Redirect", "Secondary Redirects" and "User Return URL", byte for byte."""
        assert self.start("19633c68", student) == "/sso/login?token=19633c68"
        with time_machine.travel(timezone.now() + timedelta(minutes=1)):
            assert self.start("935d85189822bf9c", student, redirect_to="/members/curriculum?chapter=6") == (
                "/sso/login?token=935d85189822bf9c&redirect_to=%2Fmembers%2Fcurriculum%3Fchapter%3D6"
            )
        with time_machine.travel(timezone.now() + timedelta(minutes=2)):
            assert self.start("935d85189822bf9c", student, return_url="https://google.com/") == (
                "/sso/login?token=935d85189822bf9c&return_url=https%3A%2F%2Fgoogle.com%2F"
            )

    def test_it_contains_the_path_of_a_page_that_is_given_by_name(self, student):
        assert self.start("t", student, to="track", options={"chapter": "6"}).endswith(
            "&redirect_to=%2Fmembers%2Fcurriculum%3Fchapter%3D6"
        )

    def test_every_character_of_a_token_is_percent_encoded(self, student):
        assert self.start("a&b=c/#?+%", student) == "/sso/login?token=a%26b%3Dc%2F%23%3F%2B%25"

    def test_a_path_and_a_name_together_are_rejected(self, student):
        with pytest.raises(NotAllowed):
            sso.start(student, redirect_to="/x", to="dashboard")

    def test_a_path_as_the_return_url_requires_a_request(self, student):
        with pytest.raises(NotAllowed):
            sso.start(student, return_url="/portal/")

    def test_a_path_as_the_return_url_is_made_absolute(self, logged_in):
        assert query(logged_in.get(LOGIN, {"return_url": "/portal/"}))["return_url"] == "http://testserver/portal/"


def test_a_click_redirects_the_student_to_big_interview(logged_in, student, api):
    account()
    launched = Recorder()
    with subscribed(sso_launched, launched):
        response = logged_in.get(LOGIN, {"redirect_to": "/members/dashboard", "return_url": "/portal/"})
    session = SSOSession.objects.get()
    assert redirect_of(response).path == "/sso/login"
    assert query(response) == {
        "token": TOKEN,
        "redirect_to": "/members/dashboard",
        "return_url": f"http://testserver/bi/sso/return/{session.pk}/",
    }
    assert json.loads(api.requests[0].body) == {
        "first_name": "Bob",
        "last_name": "Johnson",
        "email": "learner@example.edu",
    }
    assert (session.user, session.status, session.partner_id) == (student, "redirected", str(student.pk))
    assert session.token_expires_at.year == 2016
    assert launched.calls[0]["session"] == session


def test_responses_with_a_token_are_not_cached_and_not_sent_as_a_referrer(logged_in, api):
    account()
    for response in (logged_in.get(LOGIN), logged_in.post(LAUNCH)):
        assert "no-store" in response["Cache-Control"]
        assert "private" in response["Cache-Control"]
        assert response["Referrer-Policy"] == "no-referrer"


def test_the_return_is_recorded_once_and_redirects_to_the_return_url(logged_in, api):
    account()
    url = query(logged_in.get(LOGIN, {"return_url": "/portal/?x=1"}))["return_url"]
    returned = Recorder()
    with subscribed(sso_returned, returned):
        # Without the cookie, because the student's session here may have expired.
        for _ in range(2):
            assert Client().get(urlsplit(url).path)["Location"] == "/portal/?x=1"
            assert [call["session"].status for call in returned.calls] == ["returned"]
    session = SSOSession.objects.get()
    assert session.status == "returned"
    assert session.returned_at == returned.calls[0]["session"].returned_at > session.redirected_at


def test_receivers_can_filter_by_the_documented_sender(logged_in, api):
    account()
    good = api.scripts[0]
    api.scripts[:] = [answer(401), good]
    calls = Recorder()
    with (
        subscribed(sso_failed, calls, sender=SSOSession),
        subscribed(sso_launched, calls, sender=SSOSession),
        subscribed(sso_returned, calls, sender=SSOSession),
    ):
        logged_in.get(LOGIN)
        logged_in.get(urlsplit(query(logged_in.get(LOGIN))["return_url"]).path)
    assert [call["signal"] for call in calls.calls] == [sso_failed, sso_launched, sso_returned]


@pytest.mark.parametrize(("asked", "allowed"), [("", True), ("https://app.example.edu/", False)])
def test_without_a_return_url_that_is_still_allowed_students_return_to_the_return_page(
    logged_in, api, settings, asked, allowed
):
    settings.BI_INTEGRATION = settings.BI_INTEGRATION | {
        "RETURN_PAGE": "/home/",
        "RETURN_URL_ORIGINS": ["https://app.example.edu"],
    }
    account()
    url = query(logged_in.get(LOGIN, {"return_url": asked} if asked else {}))["return_url"]
    settings.BI_INTEGRATION = settings.BI_INTEGRATION | {"RETURN_URL_ORIGINS": []}
    assert logged_in.get(urlsplit(url).path)["Location"] == "/home/"


def test_the_return_of_an_unknown_launch_is_not_found(client):
    assert client.get("/bi/sso/return/00000000-0000-4000-8000-000000000000/").status_code == 404


def test_a_user_who_is_not_logged_in_logs_in_first(client, api):
    account()
    response = client.get(LOGIN, {"to": "dashboard"})
    assert response["Location"] == "/accounts/login/?next=/bi/sso/login/%3Fto%3Ddashboard"
    json = client.post(LAUNCH)
    assert json.status_code == 401
    assert json.json() == {"error": "not_logged_in", "message": "Please log in first."}
    assert api.requests == []


def test_a_front_end_gets_the_url_as_json(logged_in, api):
    account()
    response = logged_in.post(LAUNCH, {"to": "dashboard"}, content_type="application/json")
    assert response.status_code == 200
    assert response.json()["expires_at"] == "2016-05-18T16:37:13Z"
    assert response.json()["url"].startswith(f"{api.url}/sso/login?token={TOKEN}&redirect_to=%2Fmembers%2Fdashboard&")


@pytest.mark.parametrize("body", ["no", "[]", '{"to": 1}', "[" * 100_000, b"\xff"])
def test_a_body_that_is_not_an_object_of_text_is_rejected(logged_in, body):
    response = logged_in.post(LAUNCH, body, content_type="application/json")
    assert (response.status_code, response.json()["error"]) == (400, "not_allowed")


def test_a_front_end_needs_the_csrf_token(student, api):
    account()
    client = Client(enforce_csrf_checks=True)
    client.force_login(student)
    assert client.post(LAUNCH).status_code == 403


def test_a_prefetched_link_starts_no_launch(logged_in, api):
    account()
    assert logged_in.get(LOGIN, headers={"sec-purpose": "prefetch"}).status_code == 503
    assert api.requests == []
    assert logged_in.get(LOGIN).status_code == 302


def test_another_method_is_a_405(logged_in):
    assert logged_in.post(LOGIN).status_code == 405
    assert logged_in.get(LAUNCH).status_code == 405
    assert logged_in.post("/bi/sso/return/00000000-0000-4000-8000-000000000000/").status_code == 405


def test_the_return_and_the_json_view_work_if_the_project_requires_a_log_in_everywhere(settings, logged_in, api):
    """They are exempt from LoginRequiredMiddleware: one needs no log-in, the other responds 401 as JSON."""
    settings.MIDDLEWARE = [*settings.MIDDLEWARE, "django.contrib.auth.middleware.LoginRequiredMiddleware"]
    account()
    url = query(logged_in.get(LOGIN))["return_url"]
    assert Client().get(urlsplit(url).path).status_code == 302
    assert Client().post(LAUNCH).status_code == 401


@pytest.mark.parametrize("name", ["redirect_to", "return_url", "account", "to", "chapter", "interview"])
@pytest.mark.parametrize(
    "value", ["//evil.example", "https://evil.example/", "/\\evil.example", "\ud800", "\0", "x" * 9000]
)
def test_hostile_values_reach_neither_the_api_nor_another_host(logged_in, api, name, value):
    account()
    asked = {name: value.encode("utf-8", "surrogatepass")}
    response = logged_in.get(LOGIN, asked)
    assert response.status_code in (302, 400, 502)
    if response.status_code == 302:
        assert name in ("chapter", "interview")
    assert all("evil" not in request.path for request in api.requests)
    assert logged_in.post(LAUNCH, {name: value}, content_type="application/json").status_code < 503


@pytest.mark.parametrize("value", ["\ud800", "\0", "x" * 9000, "xyz.evil.example"], ids=ascii)
def test_a_hostile_account_of_a_visitor_is_not_found(client, api, value):
    account(allows_anonymous=True)
    asked = {"account": value.encode("utf-8", "surrogatepass")}
    assert client.get(LOGIN, asked)["Location"].startswith("/accounts/login/")
    assert client.post(LAUNCH, {"account": value}, content_type="application/json").status_code == 401


class TestFailures:
    """The page that the student sees, and the record."""

    @pytest.mark.parametrize(
        ("script", "status", "text", "error"),
        [
            (answer(401), 502, "not working right now", "KeyRejected: The Partner API answered 401."),
            (
                answer(422, {"error": {"type": "validation_error", "message": {"email": ["is invalid"]}}}),
                422,
                "did not accept the name or the e-mail address",
                "InvalidAttributes: The Partner API answered 422: email: is invalid",
            ),
            (answer(429, Retry_After="90"), 503, "try again in a few minutes", "RateLimited"),
            (answer(500), 503, "try again in a few minutes", "Unavailable: The Partner API answered 500."),
            (answer(200, "<html>"), 502, "not working right now", "UnexpectedResponse"),
            (answer(200, user())[:-9], 503, "try again in a few minutes", "Unavailable"),
            (answer(302, Location="/login"), 502, "not working right now", "UnexpectedResponse"),
            (reset, 503, "try again in a few minutes", "Unavailable"),
            (lambda line, request: threading.Event().wait(3), 503, "try again in a few minutes", "no answer in time"),
        ],
        ids=["401", "422", "429", "500", "html", "truncated", "redirect", "reset", "slow"],
    )
    def test_each_failure_has_its_status_message_and_recorded_error(self, logged_in, api, script, status, text, error):
        api.scripts[:] = [script]
        account()
        failed = Recorder()
        with subscribed(sso_failed, failed):
            response = logged_in.get(LOGIN)
        session = SSOSession.objects.get()
        assert response.status_code == status
        assert text in response.content.decode()
        assert session.reference in response.content.decode()
        assert (session.status, session.redirected_at) == ("failed", None)
        assert error in session.error
        assert failed.calls[0]["session"] == session
        assert type(failed.calls[0]["error"]).__name__ in session.error
        assert ("Retry-After" in response) == ("Try again" in response.content.decode()) == (status == 503)

    def test_retry_after_is_the_apis_or_a_minute(self, logged_in, api):
        api.scripts[:] = [answer(500)]
        account()
        assert logged_in.get(LOGIN)["Retry-After"] == "60"
        api.scripts[:] = [answer(429, Retry_After="90")]
        assert logged_in.get(LOGIN)["Retry-After"] == "90"

    def test_a_missing_name_is_reported_before_the_api_is_called(self, logged_in, student, api):
        User.objects.update(last_name=" ", email="")
        account()
        response = logged_in.get(LOGIN)
        assert response.status_code == 422
        assert "your last name and e-mail address" in response.content.decode()
        assert SSOSession.objects.get().error == (
            "MissingDetails: The user has no last_name, email, which Big Interview requires. If your project keeps them"
            " elsewhere, set BI_INTEGRATION['USER_DETAILS']."
        )
        assert api.requests == []

    def test_without_an_account_that_is_active_and_has_a_key_a_launch_is_a_502(self, logged_in, api):
        assert logged_in.get(LOGIN).status_code == 502
        account(is_active=False)
        BigInterviewAccount.objects.create(subdomain="keyless")
        assert logged_in.post(LAUNCH).status_code == 502
        assert logged_in.get(LOGIN, {"account": "xyz"}).status_code == 502
        session = SSOSession.objects.get()
        assert (session.error.partition(":")[0], session.failures) == ("NoAccount", 3)
        assert api.requests == []

    def test_the_record_names_the_account_that_is_missing_or_closed_to_visitors(self, logged_in, student, api):
        assert logged_in.get(LOGIN, {"account": "elsewhere"}).status_code == 502
        assert SSOSession.objects.get().error == (
            "NoAccount: There is no Big Interview account 'elsewhere' that is active and has an API key."
        )
        account()
        with pytest.raises(NoAccount, match=r"The Big Interview account xyz.* does not allow anonymous users"):
            sso.start(None, account="xyz")

    def test_failures_of_two_students_without_an_account_have_separate_records(self, student, api):
        """Although these launches fail before a record exists."""
        for launching in (student, User.objects.create_user("second")):
            with pytest.raises(NoAccount) as failure:
                sso.start(launching)
            assert failure.value.session.user == launching
        assert list(SSOSession.objects.values_list("failures", flat=True)) == [1, 1]

    def test_a_long_error_message_of_the_host_project_is_shortened_to_2000_characters(self, student, api, settings):
        settings.BI_INTEGRATION = settings.BI_INTEGRATION | {"PARTNER_ID": "tests.sso.test_launch.verbose"}
        account()
        with pytest.raises(NoPartnerID):
            sso.start(student)
        error = SSOSession.objects.get().error
        assert (error[:20], len(error)) == ("NoPartnerID: No id. ", 2_000)

    def test_the_page_links_to_the_return_page_of_the_site(self, logged_in, settings):
        settings.BI_INTEGRATION = {**settings.BI_INTEGRATION, "RETURN_PAGE": "/careers/"}
        assert '<a href="/careers/">Go back</a>' in logged_in.get(LOGIN).content.decode()

    def test_a_lost_encryption_key_is_recorded_and_the_ciphertext_is_not_sent(self, logged_in, api, settings):
        settings.BI_INTEGRATION = settings.BI_INTEGRATION | {"ENCRYPTION_KEYS": ["a" * 40]}
        account()
        settings.BI_INTEGRATION = settings.BI_INTEGRATION | {"ENCRYPTION_KEYS": ["b" * 40]}
        assert logged_in.get(LOGIN).status_code == 502
        assert SSOSession.objects.get().error.startswith("UndecryptableKey: The stored API key cannot be decrypted")
        assert api.requests == []

    @pytest.mark.parametrize(
        "partner_id", ["", "a b", "é", "x" * 65, "a\n", "anonymous", "Anonymous", 7, None, "a@b.c"]
    )
    def test_an_id_that_big_interview_would_not_accept_is_a_403_without_a_request(
        self, logged_in, api, settings, monkeypatch, partner_id
    ):
        monkeypatch.setattr("tests.sso.test_launch.partner_id", lambda user: partner_id)
        settings.BI_INTEGRATION = settings.BI_INTEGRATION | {"PARTNER_ID": "tests.sso.test_launch.partner_id"}
        account()
        response = logged_in.get(LOGIN)
        assert response.status_code == 403
        assert "has no access to Big Interview" in response.content.decode()
        assert SSOSession.objects.get().error.startswith("NoPartnerID")
        assert api.requests == []

    def test_only_the_class_of_an_exception_in_a_host_projects_function_is_recorded(self, logged_in, api, settings):
        settings.BI_INTEGRATION = settings.BI_INTEGRATION | {"USER_DETAILS": "tests.sso.test_launch.broken"}
        account()
        logged_in.raise_request_exception = False
        assert logged_in.get(LOGIN).status_code == 500
        assert SSOSession.objects.values_list("status", "error").get() == ("failed", "LookupError")

    def test_no_token_of_a_malformed_response_is_recorded(self, logged_in, student, api):
        """Invariant 9: the libraries' error messages quote the bytes that they cannot parse."""
        reply = json.dumps(user(str(student.pk))).encode() + b"\r\n"
        account()
        for hours, head in enumerate([b"HTTP/1.1 200 x\r\nTransfer-Encoding: chunked\r\n\r\n", b""]):
            api.scripts[:] = [lambda line, request, head=head: line.sendall(head + reply)]
            with time_machine.travel(timezone.now() + timedelta(hours=hours)):
                assert logged_in.get(LOGIN).status_code in (502, 503)
        errors = list(SSOSession.objects.values_list("error", flat=True))
        assert len(errors) == 2
        assert TOKEN[:8] not in str(errors)

    @pytest.mark.parametrize(
        "head",
        [
            b"302 x\r\nLocation: http://[::1",
            b"302 x\r\nLocation: /\xff",
            b"429 x\r\nRetry-After: " + b"9" * 400,
            b"503 x\r\nRetry-After: Fri, 31 Dec 99999999999999999999 23:59:59 GMT",
            b"200 x\r\nTransfer-Encoding: chunked\r\n\r\n-5",
        ],
    )
    def test_no_response_of_the_api_causes_a_500(self, logged_in, api, head):
        api.scripts[:] = [lambda line, request: line.sendall(b"HTTP/1.1 " + head + b"\r\nContent-Length: 0\r\n\r\n")]
        account()
        assert logged_in.get(LOGIN).status_code in (502, 503)
        assert SSOSession.objects.get().status == "failed"

    def test_an_emoji_in_a_message_of_the_api_can_be_stored(self, logged_in, api):
        api.scripts[:] = [answer(422, {"error": {"message": "no \N{PILE OF POO}"}})]
        account()
        assert logged_in.get(LOGIN).status_code == 422
        assert all(ord(character) < 0x10000 for character in SSOSession.objects.get().error)

    def test_a_launch_can_be_repeated_immediately_after_a_failure(self, logged_in, api):
        good = api.scripts[0]
        api.scripts[:] = [answer(401), good]
        account()
        assert [logged_in.get(LOGIN).status_code for _ in range(2)] == [502, 302]

    def test_the_reason_for_a_rejected_return_url_is_shown(self, logged_in, api):
        response = logged_in.get(LOGIN, {"return_url": "https://evil.example/"})
        assert response.status_code == 400
        assert "RETURN_URL_ORIGINS" in response.content.decode()
        assert not SSOSession.objects.exists()

    def test_a_receiver_that_raises_does_not_affect_the_launch(self, logged_in, api):
        account()

        def bad(**arguments):
            raise LookupError

        with subscribed(sso_launched, bad):
            assert logged_in.get(LOGIN).status_code == 302

    def test_a_project_can_replace_the_pages(self, logged_in, api, settings, tmp_path):
        """The project's templates may use the variables that its context processors add."""
        folder = tmp_path / "django_bi_integration" / "sso"
        folder.mkdir(parents=True)
        (folder / "failed.html").write_text("For {{ user }}: {{ message }} {{ reference }}")
        (folder / "in_progress.html").write_text("For {{ user }}: {{ retry_url }}")
        settings.TEMPLATES = [{**settings.TEMPLATES[0], "DIRS": [tmp_path]}]
        assert logged_in.get(LOGIN).content.startswith(b"For student: Sign-in to Big Interview is not working right")
        framed = logged_in.get(LOGIN, headers={"sec-fetch-dest": "iframe"})
        assert framed.content == b"For student: Big Interview cannot be shown inside another page. "
        account()
        responses = [logged_in.get(LOGIN, {"to": "dashboard"}) for _ in range(2)]
        assert responses[1].content == b"For student: /bi/sso/login/?to=dashboard"

    def test_the_log_has_the_reference_and_the_class_of_the_error(self, logged_in, api, caplog):
        api.scripts[:] = [answer(401)]
        account()
        logged_in.get(LOGIN)
        assert f"launch {SSOSession.objects.get().reference} failed: KeyRejected" in caplog.messages


def partner_id(user):
    """Return an id that is not a primary key."""
    return f"no-{user.username}"


def partner_user(number):
    """Return the user of an id that ``partner_id`` returned."""
    return User.objects.filter(username=number.removeprefix("no-")).first()


def verbose(user):
    """Raise an exception with a long message."""
    raise NoPartnerID("No id. " * 1_000)


def broken(user):
    """Raise an exception that contains personal data."""
    raise LookupError(f"{user.email} is not in the register")


def nickname(user):
    """Return details for users without names."""
    return {"first_name": user.username, "last_name": "–", "email": "x@example.edu"}


@pytest.mark.parametrize(
    "functions",
    [
        {
            "PARTNER_ID": "tests.sso.test_launch.partner_id",
            "PARTNER_USER": "tests.sso.test_launch.partner_user",
            "USER_DETAILS": "tests.sso.test_launch.nickname",
        },
        {"PARTNER_ID": partner_id, "PARTNER_USER": partner_user, "USER_DETAILS": nickname},
    ],
    ids=["dotted paths", "functions"],
)
def test_a_project_can_define_ids_and_details(logged_in, student, api, settings, functions):
    settings.BI_INTEGRATION = settings.BI_INTEGRATION | functions
    account()
    logged_in.get(LOGIN)
    assert api.requests[0].path == "/api/users/no-student"
    assert json.loads(api.requests[0].body)["first_name"] == "student"
    deliver(big_interview(), interview_event("1").replace(b"abc123", b"no-student"))
    assert stored().user == student


def test_an_event_has_the_user_of_its_partner_id_or_none(student, settings):
    to = big_interview()
    for number, partner in enumerate([str(student.pk), f"0{student.pk}", "abc123", "9" * 40]):
        deliver(to, interview_event(str(number)).replace(b"abc123", partner.encode()))
    users = {event.vendor_event_id: event.user for event in ReceivedEvent.objects.all()}
    assert users == {"0": student, "1": None, "2": None, "3": None}
    # Without PARTNER_USER, custom ids that happen to look like primary keys have no user.
    settings.BI_INTEGRATION = {"PARTNER_ID": "tests.sso.test_launch.partner_id"}
    assert ReceivedEvent.objects.get(vendor_event_id="0").user is None


def test_visitors_may_practise_if_the_account_allows_it(client, api):
    api.scripts[:] = [answer(201, user("anon_abc123", anonymous=False))]
    account(allows_anonymous=True)
    assert query(client.get(LOGIN))["token"] == TOKEN
    assert [request.path for request in api.requests] == ["/api/users/anonymous"]
    session = SSOSession.objects.get()
    assert (session.user, session.partner_id) == (None, "anon_abc123")
    assert client.post(LAUNCH).status_code == 200


def test_a_long_id_that_the_api_gives_to_a_visitor_is_shortened_to_64_characters(client, api):
    api.scripts[:] = [answer(201, user("anon_" + "x" * 100))]
    account(allows_anonymous=True)
    assert client.get(LOGIN).status_code == 302
    assert SSOSession.objects.get().partner_id == "anon_" + "x" * 59


def test_each_organisation_gets_requests_at_its_host_with_its_key(student, settings, api):
    settings.BI_INTEGRATION = {}
    accounts = [account("one", "1" * 32), account("two", "2" * 32, is_default=True)]

    class ToTheFake(HTTPAdapter):
        def send(self, request, **options):
            host = urlsplit(request.url).hostname
            request.url = f"{api.url}/{host}{urlsplit(request.url).path}"
            return super().send(request, **options)

    urls = [sso.start(student, account=chosen, transport=ToTheFake()).url for chosen in (None, "one")]
    with time_machine.travel(timezone.now() + timedelta(minutes=1)):
        urls.append(sso.start(student, account=accounts[1], transport=ToTheFake()).url)
    hosts = ["two.biginterview.com", "one.biginterview.com", "two.biginterview.com"]
    assert [urlsplit(url).hostname for url in urls] == hosts
    assert [request.headers["authorization"] for request in api.requests] == ["2" * 32, "1" * 32, "2" * 32]
    assert [request.path.split("/")[1] for request in api.requests] == hosts


class TestDoubleClicks:
    """A double click starts one launch, because a second token might invalidate the first."""

    @pytest.fixture(autouse=True)
    def many_at_once(self, api, settings):
        settings.BI_INTEGRATION = settings.BI_INTEGRATION | {"MAX_CONCURRENT_LAUNCHES": 8}

    def test_the_second_click_requests_no_token(self, logged_in, api):
        account()
        first, second = logged_in.get(LOGIN), logged_in.get(LOGIN)
        assert (first.status_code, second.status_code) == (302, 200)
        assert "Opening Big Interview" in second.content.decode()
        assert int(second["Refresh"]) > 3
        assert (len(api.requests), SSOSession.objects.count()) == (1, 1)

    def test_a_front_end_gets_a_409(self, logged_in, api):
        account()
        first, second = logged_in.post(LAUNCH), logged_in.post(LAUNCH)
        assert (first.status_code, second.status_code) == (200, 409)
        assert second.json()["error"] == "in_progress"
        assert int(second["Retry-After"]) > 3

    def test_the_second_launch_breaks_no_transaction_of_the_caller(self, student, api):
        account()
        with transaction.atomic():
            sso.start(student)
            with pytest.raises(LaunchInProgress):
                sso.start(student)
            assert SSOSession.objects.count() == 1

    def test_a_click_four_seconds_later_starts_another_launch(self, logged_in, api):
        account()
        logged_in.get(LOGIN)
        with time_machine.travel(timezone.now() + timedelta(seconds=4)):
            assert logged_in.get(LOGIN).status_code == 302
        assert len(api.requests) == 2

    def test_a_launch_whose_process_died_blocks_its_user_only_briefly(self, student, api):
        made = account()
        with time_machine.travel(timezone.now() - timedelta(seconds=6)):
            session = SSOSession(user=student, account=made, requested_at=timezone.now())
            begin(session)
        assert sso.start(student).session != session

    def test_many_simultaneous_failing_clicks_only_get_errors_of_this_package(self, student, api):
        """A failure allows the next launch, even just after another click has conflicted and before it looks again."""
        api.scripts[:] = [answer(401)]
        account()
        escaped = []

        def click():
            try:
                sso.start(student)
            except BIIntegrationError:
                pass
            except Exception as error:
                escaped.append(error)

        together([click] * 60)
        assert escaped == []

    @pytest.mark.parametrize("minutes", [-10, 10])
    def test_a_launch_while_the_clock_was_wrong_does_not_block_the_next_one(self, student, api, minutes):
        account()
        with time_machine.travel(timezone.now() + timedelta(minutes=minutes)):
            sso.start(student)
        sso.start(student)
        assert len(api.requests) == 2

    def test_a_slow_launch_still_redirects_if_another_one_started_meanwhile(self, student, api):
        """It took so long that the next click could start another launch."""
        account()

        class Slow(HTTPAdapter):
            def send(self, *arguments, **options):
                with time_machine.travel(timezone.now() + timedelta(seconds=6)):
                    sso.start(student)
                return super().send(*arguments, **options)

        sso.start(student, transport=Slow())
        assert list(SSOSession.objects.values_list("status", flat=True)) == ["redirected"] * 2

    def test_only_one_of_many_simultaneous_clicks_is_redirected(self, student, api):
        account()
        outcomes = together([lambda: launch(student)] * 8)
        assert sorted(outcomes) == [False] * 7 + [True]
        assert (len(api.requests), SSOSession.objects.count()) == (1, 1)

    def test_two_hundred_students_who_launch_at_the_same_time_have_one_session_each(self, api):
        account()
        students = [
            User(username=f"s{number}", first_name="a", last_name="b", email="c@example.edu") for number in range(200)
        ]
        User.objects.bulk_create(students)
        outcomes = together([lambda student=student: launch(student) for student in User.objects.all()], threads=4)
        assert outcomes == [True] * 200
        sessions = SSOSession.objects.filter(status="redirected")
        assert sessions.count() == SSOSession.objects.count() == 200
        assert set(sessions.values_list("user_id", flat=True)) == {student.pk for student in User.objects.all()}
        assert len(api.requests) == 200


def launch(student):
    try:
        sso.start(student)
    except LaunchInProgress:
        return False
    return True


def together(calls, threads=8):
    def run(call):
        try:
            return call()
        finally:
            connections.close_all()

    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(run, calls))


def test_key_and_token_are_in_no_log_page_or_row(logged_in, student, api, admin_client, caplog):
    """Invariant 9: neither after a success nor after failures."""
    caplog.set_level(logging.DEBUG)
    account()
    shown = [logged_in.get(LOGIN).content.decode()]
    for script in (answer(401), answer(500), answer(200, user("other")), answer(200, f"<html>{TOKEN}"), reset):
        api.scripts[:] = [script]
        with time_machine.travel(timezone.now() + timedelta(hours=len(shown))):
            shown.append(logged_in.get(LOGIN).content.decode())
    rows = io.StringIO()
    for model in (SSOSession, BigInterviewAccount):
        serializers.serialize("json", model.objects.all(), stream=rows)
        name = model._meta.model_name
        shown.append(admin_client.get(f"/admin/django_bi_integration/{name}/").content.decode())
        for row in model.objects.all():
            shown.append(admin_client.get(f"/admin/django_bi_integration/{name}/{row.pk}/change/").content.decode())
    everything = "".join(shown) + rows.getvalue() + caplog.text
    assert len(shown) > 10
    assert TOKEN not in everything
    assert API_KEY not in everything


@pytest.mark.parametrize("debug", [True, False])
def test_error_reports_show_neither_key_nor_token(logged_in, api, settings, monkeypatch, caplog, debug):
    """Neither the debug page nor the e-mail to administrators contains them."""
    settings.DEBUG = debug
    account()

    def bug(*arguments, **options):
        raise RuntimeError("a bug")

    monkeypatch.setattr("django_bi_integration.sso.launch.record_redirect", bug)
    logged_in.raise_request_exception = False
    page = logged_in.get(LOGIN)
    assert page.status_code == 500
    record = caplog.records[-1]
    mail = ExceptionReporter(record.request, *record.exc_info)
    shown = page.content.decode() + mail.get_traceback_html() + mail.get_traceback_text()
    assert "a bug" in shown
    assert len(api.requests) == 1
    assert TOKEN not in shown
    assert API_KEY not in shown


def test_the_template_tags_render_the_url_and_the_button():
    template = Template(
        "{% load bi_integration %}"
        "{% bi_sso_url to='review' interview=7 account=None %} "
        "{% bi_sso_button 'Practise' css_class='button' return_url='/a?b=c' %}"
    )
    html = template.render(Context())
    assert "/bi/sso/login/?to=review&amp;interview=7 " in html
    assert (
        '<a href="/bi/sso/login/?return_url=%2Fa%3Fb%3Dc" class="button" rel="nofollow" data-bi-sso>Practise</a>'
        in html
    )
    assert "sso.js" in html


@pytest.mark.parametrize("tag", ["bi_sso_url returnurl='/'", "bi_sso_button 'Practise' returnurl='/'"])
def test_an_unknown_option_of_a_template_tag_is_an_error_when_the_template_is_compiled(tag):
    options = "account, redirect_to, to, chapter, interview, return_url."
    with pytest.raises(TemplateSyntaxError, match=f"unexpected keyword argument 'returnurl'.*{options}"):
        Template(f"{{% load bi_integration %}}{{% {tag} %}}")


def test_a_project_can_start_a_launch_in_one_of_its_views(student, api):
    """Without a request, the launch has no return URL."""
    account()
    launch = sso.start(student)
    assert TOKEN in launch.url
    assert TOKEN not in repr(launch)
    assert "return_url" not in launch.url


def test_no_token_is_requested_for_a_user_who_was_deleted_meanwhile(student, api):
    account()
    User.objects.filter(pk=student.pk).delete()
    with pytest.raises((IntegrityError, RuntimeError)):
        sso.start(student)
    assert api.requests == []


@pytest.mark.parametrize("error", [Unavailable, NoAccount, UndecryptableKey])
def test_the_exception_of_a_failed_launch_has_its_session(student, api, error):
    api.scripts[:] = [answer(500)]
    made = account(is_active=error is not NoAccount)
    if error is UndecryptableKey:
        BigInterviewAccount.objects.filter(pk=made.pk).update(api_key_encrypted="x")
    with pytest.raises(error) as failure:
        sso.start(student)
    assert failure.value.session == SSOSession.objects.get()


def test_an_exception_without_a_record_has_no_session(student):
    with pytest.raises(NotAllowed) as failure:
        sso.start(student, redirect_to="//evil.example/")
    assert failure.value.session is None
    assert not hasattr(BIIntegrationError(), "session")
