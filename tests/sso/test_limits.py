"""Limits: launches that wait for Big Interview, rows that failures leave, and launches without a log-in."""

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
import time_machine
from django.core.cache import cache
from django.db import connections
from django.test import Client

from django_bi_integration.models import SSOSession
from django_bi_integration.signals import sso_failed
from tests.helpers.deliveries import Recorder, big_interview, deliver, subscribed
from tests.helpers.partner_api import answer, partner_api_for_any_user, user
from tests.helpers.sign_on import big_interview_account, client_of, new_student
from tests.helpers.waiting import wait_until

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.database]

LOGIN, LAUNCH = "/bi/sso/login/", "/bi/sso/launch/"
#: The middle of an hour: failures are counted by the hour.
NOON = datetime(2030, 1, 1, 12, 30, tzinfo=UTC)


@pytest.fixture
def api(settings):
    cache.clear()
    with partner_api_for_any_user(settings, {"API_BUDGET_SECONDS": 30, "TRUSTED_PROXIES": ["127.0.0.1"]}) as running:
        yield running


class TestWhileTheAPIHangs:
    """If two launches wait for the API, a third one ends at once, and other requests are not affected."""

    @pytest.fixture(params=["silence", "dripping headers"])
    def hanging(self, api, request):
        """Let two launches wait for their answers until the test ends."""
        big_interview_account()
        good, answers = api.scripts[0], threading.Event()

        def wait(line, request):
            answers.wait(30)
            good(line, request)

        def drip_headers(line, request):
            line.sendall(b"HTTP/1.1 200 x\r\nX-Slow: ")
            while not answers.wait(0.05):
                line.sendall(b"x")
            line.sendall(answer(200, user(request.partner_id)).replace(b"HTTP/1.1 200 x", b""))

        api.scripts[:] = [wait if request.param == "silence" else drip_headers]
        clients = [client_of(new_student(f"waiting-{number}")) for number in range(2)]
        with ThreadPoolExecutor(2) as pool:
            launches = [pool.submit(visit, client) for client in clients]
            try:
                wait_until(lambda: len(api.requests) == 2)
                yield api
            finally:
                answers.set()
            assert [launch.result().status_code for launch in launches] == [302, 302]

    def test_another_launch_is_asked_to_try_again_later(self, hanging):
        student = client_of(new_student())
        response = student.get(LOGIN, {"to": "dashboard"})
        assert response.status_code == 503
        assert 3 <= int(response["Retry-After"]) <= 8
        assert response["Refresh"] == response["Retry-After"]
        assert "Many people are opening Big Interview right now" in response.content.decode()
        assert "Try again" in response.content.decode()
        json = student.post(LAUNCH)
        assert (json.status_code, json.json()["error"], json.json()["reference"]) == (503, "too_many_launches", None)
        assert json["Retry-After"]
        assert (len(hanging.requests), SSOSession.objects.count()) == (2, 2)

    def test_events_are_stored_meanwhile(self, hanging):
        assert deliver(big_interview()).status_code == 200

    def test_a_slow_receiver_of_sso_failed_occupies_no_slot(self, api):
        """While receivers of ``sso_failed`` run, the launch no longer waits for the API."""
        big_interview_account()
        good = api.scripts[0]
        during = []

        def launches_twice(**arguments):
            if not during:
                api.scripts[:] = [good]
                during.extend(client_of(new_student(f"next-{number}")).get(LOGIN).status_code for number in range(2))

        api.scripts[:] = [answer(401)]
        with subscribed(sso_failed, launches_twice):
            assert client_of(new_student()).get(LOGIN).status_code == 502
        assert during == [302, 302]

    def test_the_setting_raises_the_limit(self, hanging, settings):
        settings.BI_INTEGRATION = settings.BI_INTEGRATION | {"MAX_CONCURRENT_LAUNCHES": 3}
        hanging.scripts[:] = [answer(401)]
        assert client_of(new_student()).get(LOGIN).status_code == 502


def visit(client, **options):
    try:
        return client.get(LOGIN, **options)
    finally:
        connections.close_all()


def test_a_slot_is_free_again_after_a_failure(api):
    api.scripts[:] = [answer(401)]
    big_interview_account()
    student = client_of(new_student())
    assert [student.get(LOGIN).status_code for _ in range(4)] == [502] * 4


class TestRepeatedFailures:
    """Failures with the same user, account, class of error and hour share a row, which counts them."""

    @pytest.fixture(autouse=True)
    def failing(self, api):
        api.scripts[:] = [answer(401)]
        big_interview_account()
        with time_machine.travel(NOON):
            yield

    def test_three_hundred_failing_requests_leave_one_row(self, api):
        student = client_of(new_student())
        failed = Recorder()
        with subscribed(sso_failed, failed):
            references = {student.post(LAUNCH).json()["reference"] for _ in range(300)}
        session = SSOSession.objects.get()
        assert (session.status, session.failures, session.in_progress) == ("failed", 300, None)
        assert session.error == "KeyRejected: The Partner API answered 401."
        assert references == {session.reference}
        assert [call["session"].failures for call in failed.calls] == list(range(1, 301))

    def test_the_row_has_the_newest_error_and_its_time(self, api):
        student = client_of(new_student())
        student.get(LOGIN)
        session = SSOSession.objects.get()
        assert session.last_failed_at >= session.requested_at
        api.scripts[:] = [answer(401, {"error": {"message": "The key has expired"}})]
        with time_machine.travel(NOON + timedelta(minutes=5)):
            student.get(LOGIN)
        session = SSOSession.objects.get()
        assert session.error == "KeyRejected: The Partner API answered 401: The key has expired"
        assert session.last_failed_at - session.requested_at >= timedelta(minutes=4)

    def test_made_up_account_names_leave_one_row(self, api):
        student = client_of(new_student())
        for number in range(20):
            student.get(LOGIN, {"account": f"a{number}"})
        assert SSOSession.objects.get().failures == 20

    def test_failures_that_differ_have_separate_rows(self, api):
        first, second = client_of(new_student("first")), client_of(new_student("second"))
        big_interview_account("abc")
        first.get(LOGIN)
        second.get(LOGIN)
        first.get(LOGIN, {"account": "abc"})
        api.scripts[:] = [answer(418)]
        first.get(LOGIN)
        with time_machine.travel(NOON + timedelta(hours=1)):
            first.get(LOGIN)
        assert list(SSOSession.objects.values_list("failures", flat=True)) == [1] * 5

    def test_the_next_launch_may_succeed(self, api):
        student = client_of(new_student())
        student.get(LOGIN)
        api.scripts[:] = [lambda line, request: line.sendall(answer(200, user(request.partner_id)))]
        assert student.get(LOGIN).status_code == 302
        assert sorted(SSOSession.objects.values_list("status", "failures")) == [("failed", 1), ("redirected", 0)]

    def test_the_admin_shows_the_number_of_failures(self, api, admin_client):
        student = client_of(new_student())
        for _ in range(7):
            student.get(LOGIN)
        page = admin_client.get("/admin/django_bi_integration/ssosession/").content.decode()
        assert '<td class="field-failures">7</td>' in page


class TestVisitors:
    """Launches without a log-in are limited by address."""

    @pytest.fixture(autouse=True)
    def open_account(self, api, settings):
        settings.BI_INTEGRATION = settings.BI_INTEGRATION | {"VISITOR_LAUNCHES_PER_MINUTE": 3}
        api.scripts[:] = [answer(201, user("anon_abc123"))]
        big_interview_account(allows_anonymous=True)

    def statuses(self, *addresses):
        return [
            Client(headers={"x-forwarded-for": address}).get(LOGIN, REMOTE_ADDR="127.0.0.1").status_code
            for address in addresses
        ]

    def test_one_launch_too_many_is_asked_to_wait(self, api):
        """It is a 429 with Retry-After, makes no request to the API and leaves no row."""
        assert self.statuses(*["192.0.2.1"] * 3) == [302] * 3
        visitor = Client(headers={"x-forwarded-for": "192.0.2.1"})
        response = visitor.get(LOGIN, REMOTE_ADDR="127.0.0.1")
        assert response.status_code == 429
        assert 30 < int(response["Retry-After"]) <= 60
        assert "very often from your network" in response.content.decode()
        json = visitor.post(LAUNCH, REMOTE_ADDR="127.0.0.1")
        assert (json.status_code, json.json()["error"]) == (429, "too_many_visits")
        assert (len(api.requests), SSOSession.objects.count()) == (3, 3)

    def test_after_a_minute_the_address_may_launch_again(self):
        with time_machine.travel(NOON) as clock:
            assert self.statuses(*["192.0.2.1"] * 4) == [302] * 3 + [429]
            clock.shift(61)
            assert self.statuses("192.0.2.1") == [302]

    def test_each_ipv4_address_and_each_ipv6_network_is_counted_separately(self):
        assert self.statuses(*["192.0.2.1"] * 4, "192.0.2.2") == [302] * 3 + [429, 302]
        assert self.statuses(*[f"2001:db8::{number}" for number in range(4)]) == [302] * 3 + [429]
        assert self.statuses("2001:db8:0:1::1") == [302]

    def test_a_forged_header_changes_nothing(self):
        """Only the address that the trusted proxy adds counts."""
        forged = [f"203.0.113.{number}, 192.0.2.1" for number in range(4)]
        assert self.statuses(*forged) == [302] * 3 + [429]

    def test_students_are_not_counted(self):
        self.statuses(*["192.0.2.1"] * 4)
        student = client_of(new_student())
        response = student.get(LOGIN, headers={"x-forwarded-for": "192.0.2.1"}, REMOTE_ADDR="127.0.0.1")
        assert response.status_code == 502  # this API answers for another user, so it was asked

    def test_visitors_are_not_limited_while_the_cache_is_unavailable(self, settings):
        settings.CACHES = {"default": {"BACKEND": "tests.sso.test_limits.Broken"}}
        assert self.statuses(*["192.0.2.1"] * 4) == [302] * 4


class Broken:
    """A cache whose server is unavailable."""

    def __init__(self, *arguments):
        pass

    def get(self, *arguments, **options):
        raise ConnectionError

    def close(self, **options):
        pass
