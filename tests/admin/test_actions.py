"""Actions on long lists apply to exactly the confirmed rows, and are recorded in the history."""

import re

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from django_bi_integration.models import ReceivedEvent, SSOSession
from tests.helpers.admin_pages import failed_events, select_all, texts, url
from tests.helpers.deliveries import big_interview

pytestmark = [pytest.mark.django_db, pytest.mark.database]


def pending():
    """Return the pending events."""
    return ReceivedEvent.objects.filter(status="pending")


def test_select_all_acts_on_as_many_events_as_it_says(admin_client):
    """This includes a list that is truncated after 10,000 events."""
    failed_events(big_interview(), 10_050)
    page = admin_client.get(url(ReceivedEvent))
    assert "Select all 10000 received events" in texts(page)
    page = admin_client.post(url(ReceivedEvent), select_all(page, "retry"), follow=True)
    assert "10,000 events will be dispatched again." in texts(page)
    assert pending().count() == 10_000
    newest = ReceivedEvent.objects.order_by("-pk").values_list("pk", flat=True)
    assert set(pending().values_list("pk", flat=True)) == set(newest[:10_000])
    assert LogEntry.objects.count() == 10_000


def test_events_that_arrive_after_the_page_was_shown_are_not_selected(admin_client):
    registration = big_interview()
    failed_events(registration, 150)
    page = admin_client.get(url(ReceivedEvent))
    assert "Select all 150 received events" in texts(page)
    failed_events(registration, 20, first=150)
    page = admin_client.post(url(ReceivedEvent), select_all(page, "retry"), follow=True)
    assert "150 events will be dispatched again." in texts(page)
    assert set(pending().values_list("vendor_event_id", flat=True)) == {str(number) for number in range(150)}


def test_the_message_says_how_many_of_the_selected_events_had_failed(admin_client):
    failed_events(big_interview(), 150)
    ReceivedEvent.objects.exclude(vendor_event_id__in=["3", "5"]).update(status="dispatched")
    page = admin_client.get(url(ReceivedEvent))
    page = admin_client.post(url(ReceivedEvent), select_all(page, "retry"), follow=True)
    text = "2 events will be dispatched again. The other 148 selected events had not failed."
    assert text in texts(page)


@pytest.mark.parametrize("made_up", [{"shown_count": "many"}, {"shown_until": "yesterday"}, {"shown_count": "-1"}])
def test_a_forged_selection_is_rejected(admin_client, made_up):
    failed_events(big_interview(), 101)
    form = {**select_all(admin_client.get(url(ReceivedEvent)), "retry"), **made_up}
    assert admin_client.post(url(ReceivedEvent), form).status_code == 400
    assert not pending().exists()


def test_running_failed_receivers_again_is_in_the_history_of_each_event(admin_client, admin_user):
    """The entry is a sentence without data of the event."""
    failed_events(big_interview(), 3)
    ReceivedEvent.objects.filter(vendor_event_id="2").update(status="dispatched")
    selected = list(ReceivedEvent.objects.values_list("pk", flat=True))
    admin_client.post(url(ReceivedEvent), {"action": "retry", "_selected_action": selected})
    entries = LogEntry.objects.order_by("object_id")
    assert [(entry.user, int(entry.object_id), entry.action_flag) for entry in entries] == [
        (admin_user, event.pk, 2) for event in pending().order_by("pk")
    ]
    assert "Ada" not in str(LogEntry.objects.values())
    page = admin_client.get(url(ReceivedEvent, "history", entries[0].object_id))
    assert "Scheduled the failed receivers to run again." in texts(page)


def test_running_receivers_again_locks_no_registration(admin_client):
    """Otherwise, deliveries to the registration would wait."""
    failed_events(big_interview(), 3)
    selected = list(ReceivedEvent.objects.values_list("pk", flat=True))
    with CaptureQueriesContext(connection) as queries:
        admin_client.post(url(ReceivedEvent), {"action": "retry", "_selected_action": selected})
    locking = [query["sql"] for query in queries if "FOR UPDATE" in query["sql"]]
    assert len(locking) == connection.features.has_select_for_update
    assert "webhookregistration" not in "".join(locking)


@pytest.mark.parametrize("separator", [False, True], ids=["plain", "separator"])
def test_exactly_the_confirmed_sign_ons_are_deleted(admin_client, settings, separator):
    """There are more than the 1,000 form fields that Django accepts. Sign-ons that begin later are not deleted."""
    settings.USE_THOUSAND_SEPARATOR = separator
    user, now = User.objects.create_user("student"), timezone.now()

    def sign_ons(count):
        SSOSession.objects.bulk_create([SSOSession(user=user, requested_at=timezone.now()) for _ in range(count)])

    sign_ons(1_200)
    page = admin_client.get(url(SSOSession))
    assert re.search("Select all 1,?200 single sign-ons", texts(page))
    sign_ons(3)
    page = admin_client.post(url(SSOSession), select_all(page, "delete_selected"))
    assert re.search("Single sign-ons: 1,?200", texts(page))
    assert len(page.content) < 50_000
    form = dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)"', page.content.decode()))
    sign_ons(3)
    page = admin_client.post(url(SSOSession), form, follow=True)
    assert re.search("Successfully deleted 1,?200 single sign-ons.", texts(page))
    assert SSOSession.objects.count() == 6
    assert SSOSession.objects.earliest("requested_at").requested_at > now
