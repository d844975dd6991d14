"""A previous key ends at once if an administrator wants it, and the admin history says what was changed."""

import html
import re

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission, User
from django.test import Client

from django_bi_integration.models import WebhookRegistration
from tests.helpers.deliveries import KEY, big_interview, deliver, interview_event

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.database]

NEW = "0" * 32


def page_of(made):
    return f"/admin/django_bi_integration/webhookregistration/{made.pk}/change/"


def texts(response):
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", response.content.decode())).split())


def form(**fields):
    return {"name": "Test", "allowed_networks": "", "is_active": "on", **fields}


def history():
    """Return the admin history's message for each change, oldest first."""
    return [entry.get_change_message() for entry in LogEntry.objects.order_by("pk")]


def statuses(made):
    """Return the statuses of deliveries with the previous and with the current key."""
    return [deliver(made, interview_event(key), key=key).status_code for key in (KEY, NEW)]


def press_end_button(client, made):
    """Submit the form of the button on the page, as a browser does."""
    content = client.get(page_of(made)).content.decode()
    button = re.search(r'<button type="submit" form="([\w-]+)">End the previous key now</button>', content)
    form = re.search(rf'<form id="{button[1]}" method="post" action="([^"]+)">', content)
    return client.post(form[1], follow=True)


@pytest.fixture
def rotated(admin_client):
    made = big_interview()
    assert deliver(made).status_code == 200  # this process caches the registration
    admin_client.post(page_of(made), form(key=NEW, overlap="1"))
    assert statuses(made) == [200, 200]
    return made


def test_the_previous_key_ends_when_the_button_is_pressed(admin_client, rotated):
    """Also in this process, which has cached the registration and just accepted the key."""
    assert "The previous key is no longer accepted." in texts(press_end_button(admin_client, rotated))
    assert statuses(rotated) == [401, 200]
    assert history()[-1] == "Ended the previous key."
    page = admin_client.get(page_of(rotated))
    assert "Current key: set New key:" in texts(page)
    assert "bi-end-previous-key" not in page.content.decode()


def test_a_previous_key_that_another_process_ended_is_rejected(rotated):
    other = WebhookRegistration.objects.get(pk=rotated.pk)
    assert other.end_previous_key()
    other.save()
    assert statuses(rotated) == [401, 200]
    assert not other.end_previous_key()


def test_pressing_the_button_again_says_that_no_previous_key_was_accepted(admin_client, rotated):
    press = f"{page_of(rotated).removesuffix('change/')}end-previous-key/"
    admin_client.post(press)
    assert "No previous key was accepted." in texts(admin_client.post(press, follow=True))
    assert history()[1:] == ["Ended the previous key."]


def test_ending_the_previous_key_requires_the_permission_to_change_the_registration(client, rotated):
    staff = User.objects.create_user("staff", is_staff=True)
    staff.user_permissions.add(Permission.objects.get(codename="view_webhookregistration"))
    client.force_login(staff)
    assert "bi-end-previous-key" not in client.get(page_of(rotated)).content.decode()
    press = f"{page_of(rotated).removesuffix('change/')}end-previous-key/"
    assert [client.post(press).status_code, client.get(press).status_code] == [403, 405]
    assert statuses(rotated) == [200, 200]


def test_ending_the_previous_key_requires_the_csrf_token(admin_user, rotated):
    client = Client(enforce_csrf_checks=True)
    client.force_login(admin_user)
    press = f"{page_of(rotated).removesuffix('change/')}end-previous-key/"
    assert client.post(press).status_code == 403


@pytest.mark.parametrize("overlap", ["0", "1", "7"])
def test_choosing_an_overlap_without_a_new_key_is_an_error(admin_client, rotated, overlap):
    page = admin_client.post(page_of(rotated), form(overlap=overlap))
    assert "This applies only together with a new key." in texts(page)
    assert statuses(rotated) == [200, 200]


def test_a_new_key_without_a_chosen_overlap_is_an_error(admin_client, rotated):
    page = admin_client.post(page_of(rotated), form(key="1" * 32))
    assert "Choose how long the current key is accepted." in texts(page)
    assert statuses(rotated) == [200, 200]


def test_the_history_says_what_was_changed(admin_client):
    made = big_interview()
    for change in (
        form(name="Career centre"),
        form(name="Career centre", key=NEW, overlap="7"),
        form(name="Careers", key="1" * 32, overlap="0"),
        form(name="Careers"),
    ):
        admin_client.post(page_of(made), change)
    said = history()
    assert said[0] == "Changed Name."
    replaced = r"Replaced the key; the previous one is accepted until \d{4}-\d\d-\d\d \d\d:\d\d UTC\."
    assert re.fullmatch(replaced, said[1])
    assert said[2:] == ["Changed Name. Replaced the key; the previous one is rejected at once.", "No fields changed."]


def test_entering_the_current_key_again_replaces_nothing_but_can_end_the_previous_key(admin_client, rotated):
    page = admin_client.post(page_of(rotated), form(key=NEW, overlap="7"), follow=True)
    assert "This is already the current key" in texts(page)
    assert statuses(rotated) == [200, 200]
    admin_client.post(page_of(rotated), form(key=NEW, overlap="0"))
    assert history()[-1] == "Ended the previous key."
    assert statuses(rotated) == [401, 200]


def test_saving_a_form_that_was_opened_before_the_previous_key_ended_does_not_restore_it(
    admin_client, rotated, monkeypatch
):
    full_clean = WebhookRegistration.full_clean

    def end_meanwhile(self, *arguments, **options):
        WebhookRegistration.objects.filter(pk=rotated.pk).update(previous_key_digest="", previous_key_until=None)
        full_clean(self, *arguments, **options)

    monkeypatch.setattr(WebhookRegistration, "full_clean", end_meanwhile)
    admin_client.post(page_of(rotated), form(name="Renamed"))
    monkeypatch.undo()
    assert WebhookRegistration.objects.get().name == "Renamed"
    assert statuses(rotated) == [401, 200]
