"""Single sign-on: one fresh token a launch, where the browser is sent, and what is recorded."""

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
from django.db import connections
from django.template import Context, Template
from django.test import Client
from django.utils import timezone
from django.views.debug import ExceptionReporter
from requests.adapters import HTTPAdapter

from django_bi_integration import sso
from django_bi_integration.exceptions import BIIntegrationError, LaunchInProgress, NotAllowed, Unavailable
from django_bi_integration.models import BigInterviewAccount, ReceivedEvent, SSOSession
from django_bi_integration.signals import sso_failed, sso_launched, sso_returned
from django_bi_integration.sso.records import begin
from tests.helpers.deliveries import Recorder, big_interview, deliver, interview_event, stored, subscribed
from tests.helpers.partner_api import API_KEY, TOKEN, answer, knowing_everybody, reset, user

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
    with knowing_everybody(settings, {"API_BUDGET_SECONDS": 2}) as running:
        yield running


@pytest.fixture
def logged_in(client, student):
    client.force_login(student)
    return client


def sent_to(response):
    """The parts of the address that the browser is sent to."""
    assert response.status_code == 302, response.content
    return urlsplit(response["Location"])


def query(response):
    return {name: value for name, (value,) in parse_qs(sent_to(response).query).items()}


class TestTheRedirect:
    """Where the browser is sent."""

    @pytest.fixture(autouse=True)
    def untracked(self, settings, api):
        account()
        settings.BI_INTEGRATION |= {"TRACK_RETURNS": False, "RETURN_URL_ORIGINS": ["https://google.com"]}
        self.api = api

    def start(self, token, student, **options):
        self.api.scripts[:] = [answer(200, user(str(student.pk), token))]
        return sso.start(student, **options).url.removeprefix(self.api.url)

    def test_it_equals_the_examples_of_the_documentation(self, student):
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

    def test_a_named_page(self, student):
        assert self.start("t", student, to="track", options={"chapter": "6"}).endswith(
            "&redirect_to=%2Fmembers%2Fcurriculum%3Fchapter%3D6"
        )

    def test_everything_in_a_token_is_encoded(self, student):
        assert self.start("a&b=c/#?+%", student) == "/sso/login?token=a%26b%3Dc%2F%23%3F%2B%25"

    def test_a_path_and_a_name_at_once_are_rejected(self, student):
        with pytest.raises(NotAllowed):
            sso.start(student, redirect_to="/x", to="dashboard")

    def test_a_path_to_come_back_to_needs_a_request(self, student):
        with pytest.raises(NotAllowed):
            sso.start(student, return_url="/portal/")

    def test_a_path_to_come_back_to_is_made_absolute(self, logged_in):
        assert query(logged_in.get(LOGIN, {"return_url": "/portal/"}))["return_url"] == "http://testserver/portal/"


def test_a_click_sends_the_student_to_big_interview(logged_in, student, api):
    account()
    launched = Recorder()
    with subscribed(sso_launched, launched):
        response = logged_in.get(LOGIN, {"redirect_to": "/members/dashboard", "return_url": "/portal/"})
    session = SSOSession.objects.get()
    assert sent_to(response).path == "/sso/login"
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


def test_the_answer_with_the_token_is_not_kept_and_not_told(logged_in, api):
    account()
    for response in (logged_in.get(LOGIN), logged_in.post(LAUNCH)):
        assert "no-store" in response["Cache-Control"]
        assert "private" in response["Cache-Control"]
        assert response["Referrer-Policy"] == "no-referrer"


def test_the_return_is_recorded_once_and_goes_on_to_the_asked_page(logged_in, api):
    account()
    back = query(logged_in.get(LOGIN, {"return_url": "/portal/?x=1"}))["return_url"]
    returned = Recorder()
    with subscribed(sso_returned, returned):
        # Their session here may be over by then.
        responses = [Client().get(urlsplit(back).path) for _ in range(2)]
    assert [response["Location"] for response in responses] == ["/portal/?x=1"] * 2
    session = SSOSession.objects.get()
    assert (session.status, len(returned.calls)) == ("returned", 1)
    assert session.returned_at is not None


@pytest.mark.parametrize(("asked", "allowed"), [("", True), ("https://app.example.edu/", False)])
def test_who_was_promised_no_page_goes_to_the_usual_one(logged_in, api, settings, asked, allowed):
    """Nor does who was promised one that is not allowed any more."""
    settings.BI_INTEGRATION |= {"RETURN_PAGE": "/home/", "RETURN_URL_ORIGINS": ["https://app.example.edu"]}
    account()
    back = query(logged_in.get(LOGIN, {"return_url": asked} if asked else {}))["return_url"]
    settings.BI_INTEGRATION |= {"RETURN_URL_ORIGINS": []}
    assert logged_in.get(urlsplit(back).path)["Location"] == "/home/"


def test_a_return_of_nobody_is_not_found(client):
    assert client.get("/bi/sso/return/00000000-0000-4000-8000-000000000000/").status_code == 404


def test_who_is_not_logged_in_logs_in_first(client, api):
    account()
    response = client.get(LOGIN, {"to": "dashboard"})
    assert response["Location"] == "/accounts/login/?next=/bi/sso/login/%3Fto%3Ddashboard"
    assert client.post(LAUNCH).status_code == 401
    assert api.requests == []


def test_a_front_end_gets_the_url_as_json(logged_in, api):
    account()
    response = logged_in.post(LAUNCH, {"to": "dashboard"}, content_type="application/json")
    assert response.status_code == 200
    assert response.json()["expires_at"] == "2016-05-18T16:37:13Z"
    assert response.json()["url"].startswith(f"{api.url}/sso/login?token={TOKEN}&redirect_to=%2Fmembers%2Fdashboard&")


@pytest.mark.parametrize("body", ["no", "[]", '{"to": 1}', "[" * 100_000, b"\xff"])
def test_a_body_that_asks_for_nothing_that_there_is(logged_in, body):
    response = logged_in.post(LAUNCH, body, content_type="application/json")
    assert (response.status_code, response.json()["error"]) == (400, "NotAllowed")


def test_a_front_end_needs_the_csrf_token(student, api):
    account()
    client = Client(enforce_csrf_checks=True)
    client.force_login(student)
    assert client.post(LAUNCH).status_code == 403


def test_a_page_that_is_loaded_ahead_starts_no_launch(logged_in, api):
    account()
    assert logged_in.get(LOGIN, headers={"sec-purpose": "prefetch"}).status_code == 503
    assert api.requests == []
    assert logged_in.get(LOGIN).status_code == 302


def test_methods(logged_in):
    assert logged_in.post(LOGIN).status_code == 405
    assert logged_in.get(LAUNCH).status_code == 405


def test_a_host_that_demands_a_login_everywhere(settings, logged_in, api):
    settings.MIDDLEWARE = [*settings.MIDDLEWARE, "django.contrib.auth.middleware.LoginRequiredMiddleware"]
    account()
    back = query(logged_in.get(LOGIN))["return_url"]
    assert Client().get(urlsplit(back).path).status_code == 302
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
def test_hostile_accounts_of_visitors_are_none(client, api, value):
    account(allows_anonymous=True)
    asked = {"account": value.encode("utf-8", "surrogatepass")}
    assert client.get(LOGIN, asked)["Location"].startswith("/accounts/login/")
    assert client.post(LAUNCH, {"account": value}, content_type="application/json").status_code == 401


class TestFailures:
    """What a student reads, and what is recorded."""

    @pytest.mark.parametrize(
        ("script", "status", "text", "error"),
        [
            (answer(401), 502, "not set up right", "KeyRejected: The Partner API answered 401."),
            (
                answer(422, {"error": {"type": "validation_error", "message": {"email": ["is invalid"]}}}),
                422,
                "did not take the name or the e-mail address",
                "InvalidAttributes: The Partner API answered 422: email: is invalid",
            ),
            (answer(429, Retry_After="90"), 503, "try again in a few minutes", "RateLimited"),
            (answer(500), 503, "try again in a few minutes", "Unavailable: The Partner API answered 500."),
            (answer(200, "<html>"), 502, "not set up right", "UnexpectedAnswer"),
            (answer(200, user())[:-9], 503, "try again in a few minutes", "Unavailable"),
            (answer(302, Location="/login"), 502, "not set up right", "UnexpectedAnswer"),
            (reset, 503, "try again in a few minutes", "Unavailable"),
            (lambda line, request: threading.Event().wait(3), 503, "try again in a few minutes", "no answer in time"),
        ],
        ids=["401", "422", "429", "500", "html", "truncated", "redirect", "reset", "slow"],
    )
    def test_each_ends_in_its_own_outcome(self, logged_in, api, script, status, text, error):
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

    def test_a_missing_name_is_named_before_anything_is_asked(self, logged_in, student, api):
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

    def test_no_account(self, logged_in, api):
        assert logged_in.get(LOGIN).status_code == 502
        account(is_active=False)
        BigInterviewAccount.objects.create(subdomain="keyless")
        assert logged_in.post(LAUNCH).status_code == 502
        assert logged_in.get(LOGIN, {"account": "xyz"}).status_code == 502
        session = SSOSession.objects.get()
        assert (session.error.partition(":")[0], session.failures) == ("NoAccount", 3)
        assert api.requests == []

    def test_a_lost_encryption_key_is_told_and_its_ciphertext_never_sent(self, logged_in, api, settings):
        settings.BI_INTEGRATION |= {"ENCRYPTION_KEYS": ["a" * 40]}
        account()
        settings.BI_INTEGRATION |= {"ENCRYPTION_KEYS": ["b" * 40]}
        assert logged_in.get(LOGIN).status_code == 502
        assert SSOSession.objects.get().error.startswith("UndecryptableKey: The stored API key cannot be decrypted")
        assert api.requests == []

    @pytest.mark.parametrize(
        "partner_id", ["", "a b", "é", "x" * 65, "a\n", "anonymous", "Anonymous", 7, None, "a@b.c"]
    )
    def test_an_id_that_big_interview_would_not_take(self, logged_in, api, settings, monkeypatch, partner_id):
        monkeypatch.setattr("tests.sso.test_launch.partner_id", lambda user: partner_id)
        settings.BI_INTEGRATION |= {"PARTNER_ID": "tests.sso.test_launch.partner_id"}
        account()
        response = logged_in.get(LOGIN)
        assert response.status_code == 403
        assert "not open to your account" in response.content.decode()
        assert SSOSession.objects.get().error.startswith("NoPartnerID")
        assert api.requests == []

    def test_a_function_of_the_hosts_that_raises_is_recorded_by_its_kind_alone(self, logged_in, api, settings):
        settings.BI_INTEGRATION |= {"USER_DETAILS": "tests.sso.test_launch.broken"}
        account()
        logged_in.raise_request_exception = False
        assert logged_in.get(LOGIN).status_code == 500
        assert SSOSession.objects.values_list("status", "error").get() == ("failed", "LookupError")

    def test_an_answer_whose_form_is_broken_tells_no_token(self, logged_in, student, api):
        """Invariant 9: the libraries quote the bytes that they stumble over."""
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
    def test_no_answer_whatsoever_is_a_500(self, logged_in, api, head):
        api.scripts[:] = [lambda line, request: line.sendall(b"HTTP/1.1 " + head + b"\r\nContent-Length: 0\r\n\r\n")]
        account()
        assert logged_in.get(LOGIN).status_code in (502, 503)
        assert SSOSession.objects.get().status == "failed"

    def test_an_emoji_in_what_the_api_says_is_no_hindrance(self, logged_in, api):
        api.scripts[:] = [answer(422, {"error": {"message": "no \N{PILE OF POO}"}})]
        account()
        assert logged_in.get(LOGIN).status_code == 422
        assert all(ord(character) < 0x10000 for character in SSOSession.objects.get().error)

    def test_a_failed_launch_may_be_tried_again_at_once(self, logged_in, api):
        good = api.scripts[0]
        api.scripts[:] = [answer(401), good]
        account()
        assert [logged_in.get(LOGIN).status_code for _ in range(2)] == [502, 302]

    def test_a_page_to_come_back_to_that_is_not_allowed_is_named(self, logged_in, api):
        response = logged_in.get(LOGIN, {"return_url": "https://evil.example/"})
        assert response.status_code == 400
        assert "RETURN_URL_ORIGINS" in response.content.decode()
        assert not SSOSession.objects.exists()

    def test_a_signal_receiver_that_raises_hurts_nobody(self, logged_in, api):
        account()

        def bad(**arguments):
            raise LookupError

        with subscribed(sso_launched, bad):
            assert logged_in.get(LOGIN).status_code == 302

    def test_the_page_can_be_the_sites_own(self, logged_in, settings, tmp_path):
        folder = tmp_path / "django_bi_integration" / "sso"
        folder.mkdir(parents=True)
        (folder / "failed.html").write_text("Our look: {{ message }} {{ reference }}")
        settings.TEMPLATES = [{**settings.TEMPLATES[0], "DIRS": [tmp_path]}]
        assert logged_in.get(LOGIN).content.startswith(b"Our look: The way to Big Interview is not set up right.")


def partner_id(user):
    """Of users who have numbers here."""
    return f"no-{user.username}"


def partner_user(number):
    """And back."""
    return User.objects.filter(username=number.removeprefix("no-")).first()


def broken(user):
    """Has a mistake in it."""
    raise LookupError(f"{user.email} is not in the register")


def nickname(user):
    """Of users who lack names."""
    return {"first_name": user.username, "last_name": "–", "email": "x@example.edu"}


def test_ids_and_details_can_be_the_hosts_own(logged_in, student, api, settings):
    settings.BI_INTEGRATION |= {
        "PARTNER_ID": "tests.sso.test_launch.partner_id",
        "PARTNER_USER": "tests.sso.test_launch.partner_user",
        "USER_DETAILS": "tests.sso.test_launch.nickname",
    }
    account()
    logged_in.get(LOGIN)
    assert api.requests[0].path == "/api/users/no-student"
    assert json.loads(api.requests[0].body)["first_name"] == "student"
    deliver(big_interview(), interview_event("1").replace(b"abc123", b"no-student"))
    assert stored().user == student


def test_an_event_leads_to_its_user_and_to_nobody_else(student, settings):
    to = big_interview()
    for number, partner in enumerate([str(student.pk), f"0{student.pk}", "abc123", "9" * 40]):
        deliver(to, interview_event(str(number)).replace(b"abc123", partner.encode()))
    users = {event.vendor_event_id: event.user for event in ReceivedEvent.objects.all()}
    assert users == {"0": student, "1": None, "2": None, "3": None}
    # Ids of the host's own that happen to look like primary keys lead to nobody, as long as nothing leads them back.
    settings.BI_INTEGRATION = {"PARTNER_ID": "tests.sso.test_launch.partner_id"}
    assert ReceivedEvent.objects.get(vendor_event_id="0").user is None


def test_visitors_may_practise_where_the_account_allows_it(client, api):
    api.scripts[:] = [answer(201, user("anon_abc123", anonymous=False))]
    account(allows_anonymous=True)
    assert query(client.get(LOGIN))["token"] == TOKEN
    assert [request.path for request in api.requests] == ["/api/users/anonymous"]
    session = SSOSession.objects.get()
    assert (session.user, session.partner_id) == (None, "anon_abc123")
    assert client.post(LAUNCH).status_code == 200


def test_several_organisations_work_side_by_side(student, settings, api):
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
    """One launch, not two that spoil each other."""

    @pytest.fixture(autouse=True)
    def many_at_once(self, api, settings):
        settings.BI_INTEGRATION |= {"MAX_CONCURRENT_LAUNCHES": 8}

    def test_the_second_click_asks_for_no_token(self, logged_in, api):
        account()
        first, second = logged_in.get(LOGIN), logged_in.get(LOGIN)
        assert (first.status_code, second.status_code) == (302, 200)
        assert "Opening Big Interview" in second.content.decode()
        assert int(second["Refresh"]) > 3
        assert (len(api.requests), SSOSession.objects.count()) == (1, 1)

    def test_a_front_end_is_told(self, logged_in, api):
        account()
        first, second = logged_in.post(LAUNCH), logged_in.post(LAUNCH)
        assert (first.status_code, second.status_code) == (200, 409)
        assert second.json()["error"] == "LaunchInProgress"
        assert second["Retry-After"]

    def test_a_moment_later_it_is_a_click_of_its_own(self, logged_in, api):
        account()
        logged_in.get(LOGIN)
        with time_machine.travel(timezone.now() + timedelta(seconds=4)):
            assert logged_in.get(LOGIN).status_code == 302
        assert len(api.requests) == 2

    def test_a_launch_whose_process_died_holds_nobody_up_for_long(self, student, api):
        made = account()
        with time_machine.travel(timezone.now() - timedelta(seconds=6)):
            session = SSOSession(user=student, account=made, requested_at=timezone.now())
            begin(session)
        assert sso.start(student).session != session

    def test_many_clicks_at_an_api_that_rejects_are_all_told(self, student, api):
        """Each failure makes room for the next click, also between another's look and leap."""
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
    def test_a_clock_that_was_wrong_holds_nobody_up(self, student, api, minutes):
        account()
        with time_machine.travel(timezone.now() + timedelta(minutes=minutes)):
            sso.start(student)
        sso.start(student)
        assert len(api.requests) == 2

    def test_a_launch_that_was_overtaken_ends_as_a_launch(self, student, api):
        """It took longer than it may, and the next click has gone ahead."""
        account()

        class Slow(HTTPAdapter):
            def send(self, *arguments, **options):
                with time_machine.travel(timezone.now() + timedelta(seconds=6)):
                    sso.start(student)
                return super().send(*arguments, **options)

        sso.start(student, transport=Slow())
        assert list(SSOSession.objects.values_list("status", flat=True)) == ["redirected"] * 2

    def test_of_many_clicks_at_once_one_goes_through(self, student, api):
        account()
        outcomes = together([lambda: launch(student)] * 8)
        assert sorted(outcomes) == [False] * 7 + [True]
        assert (len(api.requests), SSOSession.objects.count()) == (1, 1)

    def test_two_hundred_students_at_once_have_one_session_each(self, api):
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


def test_key_and_token_are_nowhere(logged_in, student, api, admin_client, caplog):
    """Invariant 9: in no log line, exception, page, admin screen or row."""
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
def test_the_page_of_an_error_shows_neither(logged_in, api, settings, monkeypatch, caplog, debug):
    """The developer's page, and the mail that administrators get."""
    settings.DEBUG = debug
    account()

    def bug(*arguments, **options):
        raise RuntimeError("a bug")

    monkeypatch.setattr("django_bi_integration.sso.launch.note", bug)
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


def test_the_template_tags():
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


def test_a_host_may_start_a_launch_within_its_own_view(student, api):
    account()
    launch = sso.start(student)
    assert TOKEN in launch.url
    assert TOKEN not in repr(launch)
    assert "return_url" not in launch.url


def test_what_a_launch_raises_tells_its_session(student, api):
    api.scripts[:] = [answer(500)]
    account()
    with pytest.raises(Unavailable) as failure:
        sso.start(student)
    assert failure.value.session == SSOSession.objects.get()
