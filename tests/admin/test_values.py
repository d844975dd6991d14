"""The admin shows untrusted values with limited length and visible control characters, and all times in one format."""

import json
import re
from datetime import UTC, datetime
from itertools import pairwise

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission, User
from django.utils import timezone

from django_bi_integration.dispatch.worker import dispatch_pending
from django_bi_integration.models import (
    BigInterviewAccount,
    ObjectState,
    ReceivedEvent,
    SSOSession,
    WebhookRegistration,
)
from django_bi_integration.signals import event_received
from django_bi_integration.text import visible
from django_bi_integration.vendors import BIG_INTERVIEW
from tests.helpers.admin_pages import texts, url
from tests.helpers.deliveries import big_interview, deliver, interview_event, stored, subscribed

pytestmark = [pytest.mark.django_db, pytest.mark.database]

NESTED = b'{"a":' + b"[" * 27 + b",".join([b"0"] * 130_000) + b"]" * 27 + b"}"
ESCAPED = b'{"a":"' + b"<" * 260_000 + b'"}'
INVISIBLE = b'{"a":"' + "\u202e".encode() * 86_000 + b'"}'


@pytest.mark.parametrize("body", [NESTED, ESCAPED, INVISIBLE], ids=["nested", "escaped", "invisible"])
def test_a_large_body_is_shown_in_part_and_can_be_downloaded(admin_client, body):
    deliver(big_interview(), body)
    page = admin_client.get(url(ReceivedEvent, "change", stored().pk))
    assert len(page.content) < 200_000
    assert f"Only the first 20,000 characters are shown. The body has {len(body):,} bytes." in texts(page)
    (link,) = re.findall(r'href="([^"]+)">Download', page.content.decode())
    download = admin_client.get(link)
    assert download.content == body
    assert download["Content-Disposition"] == f'attachment; filename="event-{stored().pk}-body.json"'
    assert download["Content-Type"] == "application/octet-stream"
    assert download["X-Content-Type-Options"] == "nosniff"
    assert "no-store" in download["Cache-Control"]


def test_a_conflicting_body_can_be_downloaded_too(admin_client):
    first, second = interview_event("1"), interview_event("1", at="2016-01-01T00:00:00.000Z")
    for body in (first, second):
        deliver(big_interview() if body is first else WebhookRegistration.objects.get(), body)
    page = admin_client.get(url(ReceivedEvent, "change", stored().pk))
    links = re.findall(r'href="([^"]+)">Download', page.content.decode())
    assert [admin_client.get(link).content for link in links] == [first, second]
    assert "Only the first" not in texts(page)


def test_a_download_needs_the_permissions_for_events_and_payloads(client):
    deliver(big_interview())
    staff = User.objects.create_user("staff", is_staff=True)
    page = url(ReceivedEvent, "body", stored().pk)
    client.force_login(staff)
    for permission, status in (("view_payload", 403), ("view_receivedevent", 200)):
        staff.user_permissions.add(Permission.objects.get(codename=permission))
        assert client.get(page).status_code == status
    staff.user_permissions.remove(Permission.objects.get(codename="view_payload"))
    assert client.get(page).status_code == 403
    client.logout()
    assert client.get(page).status_code == 302


def test_the_download_accepts_only_get_and_head(admin_client):
    deliver(big_interview())
    page = url(ReceivedEvent, "body", stored().pk)
    methods = ["head", "options", "post", "put", "delete"]
    assert [getattr(admin_client, method)(page).status_code for method in methods] == [200, 405, 405, 405, 405]


def test_the_download_of_a_missing_body_is_a_404(admin_client):
    deliver(big_interview())
    pk = stored().pk
    pages = [url(ReceivedEvent, "conflicting_body", pk), url(ReceivedEvent, "body", pk + 1)]
    assert [admin_client.get(page).status_code for page in pages] == [404, 404]


def test_many_long_tracebacks_are_shown_in_part(admin_client):
    deliver(big_interview())
    outcome = {"status": "failed", "attempts": 1, "error": "ValueError", "traceback": "<" * 9_996 + "end!"}
    ReceivedEvent.objects.update(receiver_results={f"receiver{number}": outcome for number in range(60)})
    page = admin_client.get(url(ReceivedEvent, "change", stored().pk))
    assert len(page.content) < 400_000
    assert texts(page).count("End of the traceback") == page.content.decode().count("end!</pre>") == 60
    ReceivedEvent.objects.update(receiver_results={"receiver": outcome})
    assert "&lt;" * 9_996 in admin_client.get(url(ReceivedEvent, "change", stored().pk)).content.decode()


def test_the_data_of_an_object_is_shown_in_part(admin_client):
    state = ObjectState.objects.create(
        key="7f3f9b1c-6e0c-5a0e-8d5e-0d8a2f6c1a11",
        registration=big_interview(),
        data={str(number): "<" * 10_000 for number in range(20)},
    )
    page = admin_client.get(url(ObjectState, "change", state.pk))
    assert len(page.content) < 200_000
    assert "Only the first 20,000 characters are shown." in texts(page)


TRICKS = ["\u202a", "\u202e", "\u2066", "\u2069", "\u200e", "\u200f", "\u061c", "\u200b", "\u2060", "\ufeff"]
TRICKS += ["\u00ad", "\u2028", "\u2029", "\u3164", "\u0007", "\x85", "\N{TAG LATIN SMALL LETTER A}"]


def pages_of(client, *rows, search):
    """Yield every admin page of each row: the list, a search, the form, the history and the deletion page."""
    for row in rows:
        yield client.get(url(type(row)))
        yield client.get(url(type(row)), {"q": search})
        for page in ("change", "history", "delete"):
            yield client.get(url(type(row), page, row.pk))


@pytest.mark.parametrize("trick", TRICKS, ids=[f"U+{ord(trick):04X}" for trick in TRICKS])
def test_invisible_characters_are_visible_on_every_page_and_stay_in_the_row(admin_client, trick):
    def receiver(event, **arguments):
        raise ValueError(event.subject_id)

    text = f"a{trick}b"
    document = BIG_INTERVIEW.sample("interview.updated", text, text)
    document["webhook"]["api_id"] = text
    document["webhook"]["api_object"]["category"] = text
    registration = big_interview()
    WebhookRegistration.objects.update(name=text)
    deliver(registration, json.dumps(document, ensure_ascii=False).encode())
    deliver(registration, key="x")
    with subscribed(event_received, receiver):
        dispatch_pending()
    ReceivedEvent.objects.update(status="failed")
    event, state = stored(), ObjectState.objects.get()
    registration = WebhookRegistration.objects.get()
    session = SSOSession.objects.create(requested_at=timezone.now(), partner_id=text, redirect_to=text, error=text)
    admin_client.post(url(ReceivedEvent), {"action": "retry", "_selected_action": [event.pk]})
    pages = [*pages_of(admin_client, event, state, session, registration, search=text), admin_client.get("/admin/")]
    shown = f"a⟨U+{ord(trick):04X}⟩b"
    html = [page.content.decode() for page in pages]
    # A form field has the unchanged text, so that saving the form changes nothing.
    seen = [re.sub(r'<input type="text"[^>]*>', "", page) for page in html]
    assert [page for page in seen if trick in page] == []
    # Up to six pages lack the text: some pages of a sign-on show only its reference, two pages are forbidden, and a
    # search treats some of the characters as white space.
    assert sum(shown in page for page in html) >= len(pages) - 6
    assert (stored().vendor_event_id, stored().subject_id, registration.name) == (text, text, text)
    assert json.dumps(text, ensure_ascii=False).encode() in bytes(stored().body)
    assert shown in LogEntry.objects.get().object_repr


def test_a_form_field_keeps_invisible_characters(admin_client):
    registration = big_interview()
    WebhookRegistration.objects.update(name="a\u202eb")
    page = admin_client.get(url(WebhookRegistration, "change", registration.pk)).content.decode()
    assert 'value="a\u202eb"' in page


@pytest.mark.parametrize("text", ["علی‌رضا", "שלום", "नमस्ते", "👩‍💻 ❤️", "Zoë\u00a0Öz", "東京\u3000都"])
def test_text_in_any_script_is_shown_unchanged(admin_client, text):
    """This includes words with a joiner. <bdi> limits a right-to-left direction to the text."""
    document = BIG_INTERVIEW.sample("interview.updated", "1", text)
    deliver(big_interview(), json.dumps(document, ensure_ascii=False).encode())
    for page in (url(ReceivedEvent), url(ReceivedEvent, "change", stored().pk)):
        assert f"<bdi>{text}</bdi>" in admin_client.get(page).content.decode()


@pytest.mark.parametrize("text", ["a\u200db", "é\u200d\u200dé", "é\u200d", "a\ufe0f", "a\tb\nc\x00"])
def test_a_joiner_between_characters_that_it_cannot_join_is_visible(text):
    shown = visible(text)
    assert shown.count("⟨U+") == sum(not character.isprintable() or character == "\ufe0f" for character in text)


def test_an_invisible_character_in_an_allowlist_is_named(admin_client):
    form = {"name": "x", "vendor": "big_interview", "allowed_networks": "192.0.2.1\u200b", "is_active": "on"}
    page = admin_client.post(f"{url(WebhookRegistration, 'add')}?vendor=big_interview", form)
    assert "“192.0.2.1⟨U+200B⟩” is neither an IP address" in texts(page)


MOMENT = datetime(2026, 5, 1, 10, 20, 30, tzinfo=UTC)
#: Matches ``MOMENT`` in any other format.
OTHER_FORMAT = re.compile(r"May 1|1 May|01/05|05/01|10:20(?!:30)|2026-05-01(?! \d\d:20:30)|\d T\d\d:")


def test_every_page_has_one_time_format_in_the_viewers_time_zone(admin_client, admin_user):
    registration = big_interview()
    deliver(registration)
    deliver(registration, key="x")
    dispatch_pending()
    registration.previous_key_digest = registration.key_digest
    registration.previous_key_until = datetime(2126, 5, 1, 10, 20, 30, tzinfo=UTC)
    registration.save()
    retry = {"status": "retry", "attempts": 1, "error": "x", "retry_at": MOMENT.isoformat()}
    event = ["occurred_at", "received_at", "dispatched_at", "last_delivery_at", "next_attempt_at"]
    ReceivedEvent.objects.update(receiver_results={"r": retry}, **dict.fromkeys(event, MOMENT))
    ObjectState.objects.update(newest_at=MOMENT)
    session = dict.fromkeys(["requested_at", "redirected_at", "returned_at", "token_expires_at"], MOMENT)
    rows = [registration, stored(), ObjectState.objects.get(), SSOSession.objects.create(user=admin_user, **session)]
    with timezone.override("America/Chicago"):
        pages = [
            texts(admin_client.get(page)) for row in rows for page in (url(type(row)), url(type(row), "change", row.pk))
        ]
    assert [found[0] for page in pages if (found := OTHER_FORMAT.search(page))] == []
    counts = [len(re.findall(r"2[01]26-05-01 05:20:30", page)) for page in pages]
    assert counts == [0, 1, 1, 6, 1, 1, 1, 4]


def test_pages_without_problems_show_no_red_cross(admin_client):
    deliver(big_interview())
    dispatch_pending()
    BigInterviewAccount.objects.create(subdomain="xyz")
    rows = [stored(), ObjectState.objects.get()]
    pages = [url(type(row)) for row in rows] + [url(type(row), "change", row.pk) for row in rows]
    html = [admin_client.get(page).content.decode() for page in [*pages, url(BigInterviewAccount)]]
    assert [page for page in html if "icon-no" in page] == []
    assert 'class="field-is_stale">–<' in html[0]
    ReceivedEvent.objects.update(is_stale=True)
    assert 'class="field-is_stale">stale<' in admin_client.get(pages[0]).content.decode()


def test_the_event_list_can_be_sorted_by_its_columns(admin_client):
    registration = big_interview()
    for number in "213":
        deliver(registration, interview_event(number, interview=number))
    ReceivedEvent.objects.filter(vendor_event_id="2").update(subject_id="z", is_stale=True)
    columns = admin_client.get(url(ReceivedEvent)).content.decode().count('class="sortable')
    assert columns >= 6
    for order in range(1, columns + 1):
        rows = admin_client.get(url(ReceivedEvent), {"o": str(order)}).context["cl"].result_list
        assert len(rows) == 3
    by_subject = admin_client.get(url(ReceivedEvent), {"o": "4"}).context["cl"].result_list
    assert all(one.subject_id <= other.subject_id for one, other in pairwise(by_subject))
