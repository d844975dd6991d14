"""The admin's pages for registrations, events, objects and rejections."""

import html
import json
import re
from datetime import UTC, datetime, timedelta

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission, User
from django.utils import timezone

from django_bi_integration.admin.selection import NewestOnly
from django_bi_integration.dispatch.worker import dispatch_pending
from django_bi_integration.exceptions import GiveUp
from django_bi_integration.models import (
    BigInterviewAccount,
    ObjectState,
    ReceivedEvent,
    Rejection,
    SSOSession,
    WebhookRegistration,
)
from django_bi_integration.signals import event_received
from tests.helpers.admin_pages import texts, url
from tests.helpers.deliveries import (
    KEY,
    big_interview,
    deliver,
    innovative_educators,
    interview_event,
    stored,
    subscribed,
)

pytestmark = [pytest.mark.django_db, pytest.mark.database]


ADD = "/admin/django_bi_integration/webhookregistration/add/"


def form(**fields):
    """Return the form data of a registration."""
    return {"name": "Career centre", "vendor": "big_interview", "allowed_networks": "", "is_active": "on", **fields}


def test_a_new_registration_begins_with_the_choice_of_its_vendor(admin_client):
    page = admin_client.get(ADD)
    assert "Which vendor will send the webhooks?" in texts(page)
    assert 'href="?vendor=big_interview"' in page.content.decode()


@pytest.mark.parametrize("method", ["get", "head", "options", "put", "delete", "patch", "trace"])
def test_no_http_method_causes_a_server_error(admin_client, method):
    made = failed_event().registration
    deliver(made, key="x")
    account = BigInterviewAccount.objects.create(subdomain="xyz")
    SSOSession.objects.create(account=account, requested_at=timezone.now())
    add = [ADD, f"{ADD}?vendor=big_interview", f"{ADD}?vendor=nobody"]
    rows = [made, account, *(model.objects.get() for model in (ReceivedEvent, ObjectState, Rejection, SSOSession))]
    pages = [url(type(row), page, row.pk) for row in rows for page in ("change", "history", "delete")]
    pages += [*add, url(BigInterviewAccount, "add"), *(url(type(row)) for row in rows)]
    answers = {page: getattr(admin_client, method)(page).status_code for page in pages}
    assert {page: status for page, status in answers.items() if status not in (200, 403)} == {}
    assert answers[ADD] == answers[add[1]] == 200


@pytest.mark.parametrize("vendor", ["", "nobody"])
def test_an_unknown_vendor_leads_back_to_the_choice_of_vendors(admin_client, vendor):
    assert "Which vendor will send the webhooks?" in texts(admin_client.get(ADD, {"vendor": vendor}))


def test_the_published_addresses_are_filled_in(admin_client):
    page = admin_client.get(ADD, {"vendor": "innovative_educators"}).content.decode()
    assert "54.243.7.71\n3.83.213.76" in page
    assert 'name="key"' not in page


def test_a_pasted_key_works_and_is_never_shown_again(admin_client):
    """Invariant 9. The key is on no page and not in the history."""
    page = admin_client.post(f"{ADD}?vendor=big_interview", form(key=f" {KEY} "), follow=True)
    made = WebhookRegistration.objects.get()
    assert f"Give this URL to Big Interview: http://testserver{made.get_absolute_url()}" in texts(page)
    assert deliver(made).status_code == 200
    change = admin_client.get(url(WebhookRegistration, "change", made.pk))
    assert f"http://testserver{made.get_absolute_url()}" in texts(change)
    assert all(KEY not in text for text in [texts(page), change.content.decode(), str(LogEntry.objects.values())])


def test_a_form_with_errors_does_not_show_the_key(admin_client):
    page = admin_client.post(f"{ADD}?vendor=big_interview", form(name="", key=KEY))
    assert "This field is required." in texts(page)
    assert KEY not in page.content.decode()


def test_a_key_that_looks_incomplete_is_stored_with_a_warning(admin_client):
    page = admin_client.post(f"{ADD}?vendor=big_interview", form(key=KEY[:-1]), follow=True)
    assert "32 characters" in texts(page)
    assert WebhookRegistration.objects.get().check_key(KEY[:-1])


@pytest.mark.parametrize(
    ("pasted", "message"),
    [
        (f"Bearer {KEY}", "“Bearer” is not part of it. Paste only what follows it."),
        (f"Authorization: {KEY}", "“Authorization:” is not part of it"),
        (f"{KEY[:16]} {KEY[16:]}", "The key contains white space."),
        ("short", "The key has fewer than 16 characters, so strangers could guess it."),
    ],
)
def test_an_invalid_key_is_an_error_that_explains_the_fix(admin_client, pasted, message):
    page = admin_client.post(f"{ADD}?vendor=big_interview", form(key=pasted), follow=True)
    assert message in html.unescape(texts(page))
    assert not WebhookRegistration.objects.exists()
    assert KEY not in page.content.decode()


def test_a_registration_without_credentials_is_stored_with_a_warning(admin_client):
    page = admin_client.post(f"{ADD}?vendor=big_interview", form(), follow=True)
    assert "“Career centre” rejects everything until it has a key or an allowlist." in texts(page)
    assert "none, so it rejects everything" in texts(page)


def test_the_warning_for_a_vendor_without_a_key_asks_only_for_an_allowlist(admin_client):
    page = admin_client.post(f"{ADD}?vendor=innovative_educators", form(vendor="innovative_educators"), follow=True)
    assert "“Career centre” rejects everything until it has an allowlist." in texts(page)


def test_the_key_field_of_a_registration_with_a_key_is_labelled_new_key(admin_client):
    assert "New key:" in texts(admin_client.get(url(WebhookRegistration, "change", big_interview().pk)))
    assert "New key" not in texts(admin_client.get(ADD, {"vendor": "big_interview"}))


def test_the_previous_key_is_accepted_during_the_overlap(admin_client):
    made = big_interview()
    page = url(WebhookRegistration, "change", made.pk)
    admin_client.post(page, form(key="0" * 32, overlap="7"))
    assert [deliver(made, key=key).status_code for key in (KEY, "0" * 32)] == [200, 200]
    assert "set; the previous key is accepted until" in texts(admin_client.get(page))


def test_saving_without_a_key_keeps_the_key_and_the_vendor(admin_client):
    made = big_interview()
    admin_client.post(url(WebhookRegistration, "change", made.pk), form(name="New", vendor="innovative_educators"))
    made.refresh_from_db()
    assert (made.name, made.vendor, made.check_key(KEY)) == ("New", "big_interview", True)


def test_the_allowlist_field_accepts_notes_commas_and_blank_lines(admin_client):
    text = "54.243.7.71  # published\r\n\r\n192.0.2.0/24, 2001:db8::/32"
    admin_client.post(f"{ADD}?vendor=innovative_educators", form(vendor="innovative_educators", allowed_networks=text))
    assert WebhookRegistration.objects.get().allowed_networks == ["54.243.7.71", "192.0.2.0/24", "2001:db8::/32"]


def test_an_invalid_network_is_named_in_the_error(admin_client):
    page = admin_client.post(f"{ADD}?vendor=big_interview", form(allowed_networks="192.0.2.1\n10.0.0.300"))
    assert "“10.0.0.300” is neither an IP address nor a CIDR network" in texts(page)


@pytest.mark.parametrize(
    ("allowed", "message"),
    [
        ("0.0.0.0/0", "“0.0.0.0/0” is a large part of the internet, so it authenticates nobody."),
        ("10.0.0.0/24", "“10.0.0.0/24” overlaps the trusted proxy “10.0.0.5”"),
    ],
)
def test_an_allowlist_with_a_huge_network_or_a_trusted_proxy_is_rejected(admin_client, settings, allowed, message):
    settings.BI_INTEGRATION = {"TRUSTED_PROXIES": ["10.0.0.5"]}
    page = admin_client.post(f"{ADD}?vendor=big_interview", form(key=KEY, allowed_networks=f"192.0.2.1\n{allowed}"))
    assert message in texts(page)
    assert not WebhookRegistration.objects.exists()


def test_a_registration_shows_its_latest_event_and_recent_rejections(admin_client):
    made = big_interview()
    page = url(WebhookRegistration, "change", made.pk)
    assert "No event has arrived yet." in texts(admin_client.get(page))
    deliver(made)
    Rejection.objects.create(
        registration=made, reason="key_wrong", count=4, first_at=stored().received_at, last_at=stored().received_at
    )
    text = texts(admin_client.get(page))
    assert "The latest new event arrived just now." in text
    assert "Rejected in the last 24 hours: 4 (key is wrong)." in text
    ReceivedEvent.objects.update(received_at=timezone.now() - timedelta(minutes=1))
    assert "The latest new event arrived 1 minute ago." in texts(admin_client.get(page)).replace("\xa0", " ")


def test_a_registration_can_be_deleted_only_without_events(admin_client):
    """Its rejections are deleted with it, but events are never deleted by cascade."""
    made = big_interview()
    deliver(made, key="x")
    page = url(WebhookRegistration, "delete", made.pk)
    assert "Are you sure" in texts(admin_client.get(page))
    deliver(made)
    text = texts(admin_client.get(page))
    assert "cannot be deleted because it still has 1 received event." in text
    assert "permission" not in text
    admin_client.post(page, {"post": "yes"})
    assert ReceivedEvent.objects.get().registration == made
    ReceivedEvent.objects.all().delete()
    admin_client.post(page, {"post": "yes"})
    assert not WebhookRegistration.objects.exists()


def failed_event():
    """Store an event whose receiver ``register`` has failed, and return it."""

    def hopeless(**arguments):
        raise GiveUp("not one of <b>our</b> students")

    deliver(big_interview())
    with subscribed(event_received, hopeless, dispatch_uid="register"):
        dispatch_pending()
    return stored()


def test_an_event_shows_its_receivers_and_its_body(admin_client):
    page = admin_client.get(url(ReceivedEvent, "change", failed_event().pk))
    assert "register failed 1" in texts(page)
    assert "GiveUp: not one of &lt;b&gt;our&lt;/b&gt; students" in page.content.decode()
    assert "Top 10 Questions: 1" in texts(page)


def test_times_of_events_are_shown_to_the_second(admin_client):
    event = failed_event()
    moment = datetime(2026, 5, 1, 10, 20, 30, tzinfo=UTC)
    ReceivedEvent.objects.update(received_at=moment, occurred_at=moment, dispatched_at=None)
    shown = f"{timezone.localtime(moment):%Y-%m-%d %H:%M:%S}"
    page = texts(admin_client.get(url(ReceivedEvent, "change", event.pk)))
    assert f"Occurred: {shown} Received: {shown} Dispatched: –" in page
    rows = admin_client.get(url(ReceivedEvent), {"o": "1"})
    assert f">{shown}</a></th>" in rows.content.decode()


def test_the_latest_data_of_an_object_is_indented(admin_client):
    failed_event()
    page = admin_client.get(url(ObjectState, "change", ObjectState.objects.get().pk)).content.decode()
    assert "\n  &quot;category&quot;: &quot;Top 10 Questions: 1&quot;" in page


@pytest.mark.parametrize("body", [b'{"a": "\\ud800 \\u0000"}', b'{"a": 1e400}', b"{" + b'"a":{' * 150 + b"}" * 151])
def test_any_stored_body_can_be_shown(admin_client, body):
    deliver(big_interview(), body)
    assert admin_client.get(url(ReceivedEvent, "change", stored().pk)).status_code == 200


def test_the_body_is_shown_only_with_the_permission_for_payloads(client):
    """The permission to view events does not include students' data."""
    event = failed_event()
    staff = User.objects.create_user("staff", is_staff=True)
    staff.user_permissions.add(Permission.objects.get(codename="view_receivedevent"))
    client.force_login(staff)
    page = url(ReceivedEvent, "change", event.pk)
    staff.user_permissions.add(Permission.objects.get(codename="view_objectstate"))
    pages = [page, url(ObjectState, "change", ObjectState.objects.get().pk)]
    assert ["Top 10 Questions" in texts(client.get(path)) for path in pages] == [False, False]
    staff.user_permissions.add(Permission.objects.get(codename="view_payload"))
    assert ["Top 10 Questions" in texts(client.get(path)) for path in pages] == [True, True]


def test_the_failed_receivers_can_be_run_again(admin_client):
    event = failed_event()
    action = {"action": "retry", "_selected_action": [event.pk]}
    page = admin_client.post(url(ReceivedEvent), action, follow=True)
    assert "1 event will be dispatched again." in texts(page)
    dispatch_pending()
    assert stored().status == "dispatched"
    page = admin_client.post(url(ReceivedEvent), action, follow=True)
    assert "None of the selected events has failed." in texts(page)


@pytest.mark.parametrize("query", ["q=95607", "q=123456789", "event_type=other", "status=pending"])
def test_the_event_list_can_be_searched_and_filtered(admin_client, query):
    deliver(big_interview())
    page = admin_client.get(f"{url(ReceivedEvent)}?{query}", follow=True)
    assert page.status_code == 200
    assert ("1 received event" in texts(page)) == ("other" not in query)


@pytest.mark.parametrize("event_id", ["two words", "“quoted”", "x" * 300, "Öl 🙂"])
def test_a_search_for_a_whole_event_id_finds_only_that_event(admin_client, event_id):
    for each in (event_id, f"{event_id}, another"):
        deliver(big_interview(), json.dumps({"webhook": {"id": each, "event_name": "interview.created"}}))
    page = admin_client.get(url(ReceivedEvent), {"q": f" {event_id} "})
    assert [event.vendor_event_id for event in page.context["cl"].result_list] == [event_id[:255]]


def rejected_behind_two_proxies(to):
    """Store a rejection with a forwarding chain, and return it."""
    headers = {"HTTP_X_FORWARDED_FOR": "192.0.2.99, junk, 203.0.113.9, 192.0.2.10"}
    deliver(to, key=None, REMOTE_ADDR="10.0.0.5", **headers)
    return Rejection.objects.get()


def test_a_rejection_shows_the_address_for_each_possible_setting(admin_client, settings):
    settings.BI_INTEGRATION = {"TRUSTED_PROXIES": ["10.0.0.6"]}
    rejection = rejected_behind_two_proxies(innovative_educators())
    assert "192.0.2.99, junk, 203.0.113.9, 192.0.2.10 → 10.0.0.5" in texts(admin_client.get(url(Rejection)))
    text = html.unescape(texts(admin_client.get(url(Rejection, "change", rejection.pk))))
    assert (
        'TRUSTED_PROXIES Address [] 10.0.0.5 ["10.0.0.5"] 192.0.2.10 ["192.0.2.10", "10.0.0.5"] 203.0.113.9'
        ' ["203.0.113.9", "192.0.2.10", "10.0.0.5"] unknown Each entry stands for one hop' in text
    )


@pytest.mark.parametrize(
    ("proxies", "suggested"),
    [
        ([["10.0.0.4", "10.0.0.5"]], '[["10.0.0.4", "10.0.0.5"]] 192.0.2.10 ["192.0.2.10", ["10.0.0.4", "10.0.0.5"]]'),
        ([["192.0.2.0/24", "::1"], "10.0.0.6"], '["10.0.0.5"] 192.0.2.10 [["192.0.2.0/24", "::1"], "10.0.0.5"]'),
        (["10.0.0.0/8", ["10.0.0.5"]], '[["10.0.0.5"]] 192.0.2.10 ["192.0.2.10", ["10.0.0.5"]]'),
        ("10.0.0.5", '["10.0.0.5"] 192.0.2.10 ["192.0.2.10", "10.0.0.5"]'),
        (5, '["10.0.0.5"] 192.0.2.10 ["192.0.2.10", "10.0.0.5"]'),
    ],
)
def test_a_suggested_setting_keeps_the_networks_of_each_configured_hop(admin_client, settings, proxies, suggested):
    settings.BI_INTEGRATION = {"TRUSTED_PROXIES": proxies}
    rejection = rejected_behind_two_proxies(innovative_educators())
    text = html.unescape(texts(admin_client.get(url(Rejection, "change", rejection.pk))))
    assert f"TRUSTED_PROXIES Address [] 10.0.0.5 {suggested} 203.0.113.9" in text


def test_a_rejection_without_an_address_suggests_no_setting(admin_client):
    now = timezone.now()
    rejection = Rejection.objects.create(reason="key_wrong", count=4, first_at=now, last_at=now)
    assert "The address for each TRUSTED_PROXIES: –" in texts(admin_client.get(url(Rejection, "change", rejection.pk)))


def test_a_script_in_a_rejected_requests_header_is_escaped(admin_client):
    deliver(big_interview(), key="x", HTTP_X_FORWARDED_FOR="<script>alert(1)</script>", REMOTE_ADDR="10.0.0.5")
    rejection = Rejection.objects.get()
    pages = [url(Rejection), url(Rejection, "change", rejection.pk)]
    pages.append(url(WebhookRegistration, "change", rejection.registration_id))
    for page in pages:
        content = admin_client.get(page).content.decode()
        assert "<script>alert" not in content
        assert "&lt;script&gt;alert" in content


def test_a_registration_shows_its_latest_rejections_and_links_to_all(client, admin_user):
    to = innovative_educators()
    page = url(WebhookRegistration, "change", to.pk)
    client.force_login(admin_user)
    assert "Latest rejections: none" in texts(client.get(page))
    rejected_behind_two_proxies(to)
    response = client.get(page)
    assert "1 address is not allowed 10.0.0.5 192.0.2.99, junk, 203.0.113.9, 192.0.2.10 → 10.0.0.5" in texts(response)
    (link,) = re.findall(r'href="([^"]*/rejection/[?][^"]*)"', response.content.decode())
    deliver(big_interview(), key="x")
    assert "1 rejection" in texts(client.get(link))
    staff = User.objects.create_user("staff", is_staff=True)
    staff.user_permissions.add(Permission.objects.get(codename="view_webhookregistration"))
    client.force_login(staff)
    assert "All rejections" not in texts(client.get(page))


@pytest.mark.parametrize("model", [ReceivedEvent, ObjectState, Rejection])
def test_records_can_be_viewed_but_not_changed(admin_client, model):
    deliver(big_interview())
    deliver(big_interview(), key="x")
    dispatch_pending()
    record = model.objects.get()
    page = url(model, "change", record.pk)
    assert admin_client.get(page).status_code == 200
    assert admin_client.get(url(model)).status_code == 200
    assert [
        admin_client.post(path).status_code for path in (page, url(model, "add"), url(model, "delete", record.pk))
    ] == [
        403,
        403,
        403,
    ]


@pytest.mark.parametrize("model", [WebhookRegistration, ReceivedEvent, ObjectState, Rejection])
def test_the_queries_of_a_list_do_not_grow_with_its_rows(admin_client, django_assert_max_num_queries, model):
    """Invariant 11: cost does not grow."""
    for number in range(30):
        to = innovative_educators() if number % 2 else big_interview()
        deliver(to, interview_event(str(number), interview=str(number)), REMOTE_ADDR="54.243.7.71")
        deliver(to, key="x")
    dispatch_pending()
    with django_assert_max_num_queries(12):
        admin_client.get(url(model))


def test_json_is_shown_as_the_text_that_was_sent(admin_client):
    deliver(big_interview(), json.dumps({"name": "Zoë"}))
    assert "Zoë" in texts(admin_client.get(url(ReceivedEvent, "change", stored().pk)))


@pytest.mark.parametrize(("rows", "shown", "is_cut"), [(3, "3 rejections", False), (4, "3 rejections", True)])
def test_a_list_with_too_many_rows_is_truncated_with_a_notice(admin_client, monkeypatch, rows, shown, is_cut):
    monkeypatch.setattr(NewestOnly, "LIMIT", 3)
    now = timezone.now()
    Rejection.objects.bulk_create(Rejection(reason="method", count=1, first_at=now, last_at=now) for _ in range(rows))
    page = texts(admin_client.get(url(Rejection)))
    assert shown in page
    assert ("There are more than 3 rows." in page) is is_cut
