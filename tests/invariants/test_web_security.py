"""Browser security: headers, inline scripts, escaping, host names and redirects."""

import json
import re
from datetime import timedelta
from urllib.parse import parse_qs, urlsplit

import pytest
import time_machine
from django.contrib.admin.utils import quote
from django.contrib.auth.models import User
from django.template import Context, Template
from django.test import Client
from django.utils import timezone
from django.utils.html import escape

from django_bi_integration.dispatch.worker import dispatch_pending
from django_bi_integration.models import BigInterviewAccount, ObjectState, ReceivedEvent, SSOSession
from django_bi_integration.signals import event_received
from django_bi_integration.vendors import BIG_INTERVIEW
from tests.helpers.deliveries import big_interview, deliver, subscribed
from tests.helpers.partner_api import API_KEY, answer, partner_api_for_any_user

pytestmark = pytest.mark.django_db(transaction=True)

LOGIN, LAUNCH = "/bi/sso/login/", "/bi/sso/launch/"


@pytest.fixture
def api(settings):
    with partner_api_for_any_user(settings, {"API_BUDGET_SECONDS": 2}) as running:
        made = BigInterviewAccount(subdomain="xyz")
        made.set_api_key(API_KEY)
        made.save()
        yield running


@pytest.fixture
def logged_in(client):
    details = {"email": "learner@example.edu", "first_name": "Bob", "last_name": "Johnson"}
    client.force_login(User.objects.create_user("student", **details))
    return client


def later(call):
    """Make the call at a later time, so that it does not count as part of a double click."""
    with time_machine.travel(timezone.now() + timedelta(minutes=SSOSession.objects.count())):
        return call()


def test_no_response_about_a_person_is_cached_framed_or_sent_as_referer(settings, logged_in, api):
    """On success and on failure: ``no-store``, no Referer, and the project's X-Frame-Options."""
    settings.MIDDLEWARE = [*settings.MIDDLEWARE, "django.middleware.clickjacking.XFrameOptionsMiddleware"]
    answers = [
        logged_in.get(LOGIN),
        logged_in.get(LOGIN),
        logged_in.post(LAUNCH),
        later(lambda: logged_in.post(LAUNCH)),
        logged_in.get(LOGIN, {"redirect_to": "//evil.example"}),
        logged_in.post(LAUNCH, {"return_url": "https://evil.example/"}),
        logged_in.get(f"/bi/sso/return/{SSOSession.objects.first().pk}/"),
        logged_in.post(LOGIN),
        Client().get(LOGIN),
        Client().post(LAUNCH),
    ]
    api.scripts[:] = [answer(500)]
    answers += [later(lambda: logged_in.get(LOGIN)), later(lambda: logged_in.post(LAUNCH))]
    statuses = [302, 200, 409, 200, 400, 400, 302, 405, 302, 401, 503, 503]
    assert [response.status_code for response in answers] == statuses
    for response in answers:
        assert "no-store" in response["Cache-Control"]
        assert response["Referrer-Policy"] == "no-referrer"
        assert response["X-Frame-Options"] == "DENY"


def fails(**arguments):
    """Fail with an error that the admin then shows; a receiver."""
    raise ValueError("for the table of receivers")


INLINE = re.compile(
    r"<style|\sstyle\s*=|\son[a-z]+\s*=|javascript:|<script(?![^>]*\ssrc=)(?![^>]*type=\"application/json\")", re.I
)


def test_no_page_has_an_inline_script_or_style(logged_in, admin_client, api):
    """So that all pages work under a strict Content-Security-Policy."""
    registration = big_interview()
    deliver(registration)
    with subscribed(event_received, fails):
        dispatch_pending()
    event = ReceivedEvent.objects.first()
    pages = [
        logged_in.get(LOGIN, {"redirect_to": "//evil.example"}),
        (logged_in.get(LOGIN), logged_in.get(LOGIN))[1],
        *(
            admin_client.get(f"/admin/django_bi_integration/{page}")
            for page in (
                "webhookregistration/",
                "webhookregistration/add/",
                "webhookregistration/add/?vendor=big_interview",
                f"webhookregistration/{registration.pk}/change/",
                "biginterviewaccount/add/",
                f"biginterviewaccount/{BigInterviewAccount.objects.get().pk}/change/",
                "receivedevent/",
                f"receivedevent/{event.pk}/change/",
                f"objectstate/{ObjectState.objects.first().pk}/change/",
                "rejection/",
                f"ssosession/{SSOSession.objects.first().pk}/change/",
            )
        ),
    ]
    html = [response.content.decode() for response in pages]
    html.append(Template("{% load bi_integration %}{% bi_sso_button 'Practise' %}").render(Context()))
    assert all("<" in text for text in html)
    assert [found[0] for text in html if (found := INLINE.search(text))] == []


SCRIPT = "<script>alert(1)</script>"


def test_a_script_in_a_vendors_text_is_escaped(logged_in, admin_client, api):
    """In an event's columns and body, in a receiver's error, and in an error of the Partner API."""

    def receiver(event, **arguments):
        raise ValueError(event.subject_id)

    document = BIG_INTERVIEW.sample("interview.updated", SCRIPT, SCRIPT)
    document["webhook"]["api_id"] = SCRIPT
    document["webhook"]["api_object"]["category"] = SCRIPT
    deliver(big_interview(), json.dumps(document))
    with subscribed(event_received, receiver):
        dispatch_pending()
    api.scripts[:] = [answer(422, {"error": {"message": {SCRIPT: [SCRIPT]}}})]
    html = logged_in.get(LOGIN).content.decode()
    rows = [ReceivedEvent.objects.get(), ObjectState.objects.get(), SSOSession.objects.get()]
    for row in rows:
        name = f"/admin/django_bi_integration/{row._meta.model_name}"
        html += admin_client.get(f"{name}/").content.decode()
        html += admin_client.get(f"{name}/{quote(row.pk)}/change/").content.decode()
    assert SCRIPT in rows[0].last_error
    assert SCRIPT in rows[2].error
    assert html.count(escape(SCRIPT)) > 8
    assert SCRIPT not in html


@pytest.mark.parametrize("common", [True, False], ids=["with CommonMiddleware", "without"])
def test_a_forged_host_header_never_gets_into_a_return_url(settings, logged_in, api, common):
    """The URL to return to uses the request's host, which must be in ALLOWED_HOSTS."""
    if not common:
        settings.MIDDLEWARE = [name for name in settings.MIDDLEWARE if "CommonMiddleware" not in name]
    assert logged_in.get(LOGIN, headers={"host": "evil.example"}).status_code == 400
    assert logged_in.post(LAUNCH, headers={"host": "evil.example"}).status_code == 400
    assert api.requests == []
    response = later(lambda: logged_in.get(LOGIN, headers={"x-forwarded-host": "evil.example"}))
    (back,) = parse_qs(urlsplit(response["Location"]).query)["return_url"]
    assert back.startswith("http://testserver/bi/sso/return/")


def test_a_login_leads_back_only_to_this_site(client, api):
    response = client.get("/bi/sso/login/", {"next": "https://evil.example/", "return_url": "//evil.example"})
    assert urlsplit(response["Location"]).netloc == ""
    (back,) = parse_qs(urlsplit(response["Location"]).query)["next"]
    assert back.startswith("/bi/sso/login/?")
