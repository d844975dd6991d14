"""Deletion pages count rows instead of listing them, and explain why a row cannot be deleted."""

import pytest
from django.contrib.auth.models import Permission, User
from django.utils import timezone

from django_bi_integration.models import (
    BigInterviewAccount,
    ObjectState,
    ReceivedEvent,
    Rejection,
    SSOSession,
    WebhookRegistration,
)
from django_bi_integration.models.event import digest
from tests.helpers.admin_pages import failed_events, texts, url
from tests.helpers.deliveries import big_interview
from tests.host.models import Campus

pytestmark = [pytest.mark.django_db, pytest.mark.database]

MANY = 2_000
DEACTIVATE = "An inactive registration rejects every delivery and keeps its events."


def rejections(registration, count):
    """Store rejections of the registration."""
    now = timezone.now()
    Rejection.objects.bulk_create(
        [
            Rejection(registration=registration, reason="method", count=1, first_at=now, last_at=now)
            for _ in range(count)
        ]
    )


def object_states(registration, count):
    """Store states of different objects of the registration."""
    ObjectState.objects.bulk_create(
        [
            ObjectState(
                key=digest("object", str(number)), registration=registration, object_type="x", object_id=str(number)
            )
            for number in range(count)
        ]
    )


def deleting(rows):
    """Return the form data to delete the selected rows."""
    return {"action": "delete_selected", "_selected_action": [row.pk for row in rows]}


def test_the_deletion_page_of_a_registration_counts_its_events_and_advises_deactivation(
    admin_client, django_assert_max_num_queries
):
    made = big_interview()
    failed_events(made, MANY)
    with django_assert_max_num_queries(10):
        page = admin_client.get(url(WebhookRegistration, "delete", made.pk))
    text = texts(page)
    assert "“Test (Big Interview)” cannot be deleted because it still has 2,000 received events." in text
    assert f"Deactivate it instead. {DEACTIVATE}" in text
    assert len(page.content) < 20_000
    admin_client.post(url(WebhookRegistration, "delete", made.pk), {"post": "yes"})
    assert (WebhookRegistration.objects.count(), ReceivedEvent.objects.count()) == (1, MANY)


def test_events_are_counted_up_to_ten_thousand(admin_client):
    made = big_interview()
    failed_events(made, 10_001)
    assert "more than 10,000 received events" in texts(admin_client.get(url(WebhookRegistration, "delete", made.pk)))


def test_selected_registrations_with_events_are_not_deleted_and_get_the_same_advice(admin_client):
    made = [big_interview(), big_interview()]
    failed_events(made[0], MANY)
    page = admin_client.post(url(WebhookRegistration), deleting(made))
    assert "The selected webhook registrations cannot be deleted because they still have 2,000 received" in texts(page)
    assert DEACTIVATE in texts(page)
    assert len(page.content) < 20_000
    admin_client.post(url(WebhookRegistration), {**deleting(made), "post": "yes"})
    assert WebhookRegistration.objects.count() == 2


def test_the_deletion_page_of_a_registration_counts_the_rows_to_delete(admin_client, django_assert_max_num_queries):
    made = big_interview()
    rejections(made, MANY)
    object_states(made, MANY)
    page = url(WebhookRegistration, "delete", made.pk)
    with django_assert_max_num_queries(10):
        shown = admin_client.get(page)
    assert "Are you sure" in texts(shown)
    assert "Rejections: 2000" in texts(shown)
    assert "Object states: 2000" in texts(shown)
    assert len(shown.content) < 20_000
    admin_client.post(page, {"post": "yes"})
    assert [model.objects.count() for model in (WebhookRegistration, Rejection, ObjectState)] == [0, 0, 0]


def test_the_deletion_page_of_an_account_counts_its_sign_ons(client, admin_user):
    """To delete an account with sign-ons, a user needs the permission to delete sign-ons, too."""
    account = BigInterviewAccount.objects.create(subdomain="xyz")
    sessions = [SSOSession(user=admin_user, account=account, requested_at=timezone.now()) for _ in range(MANY)]
    SSOSession.objects.bulk_create(sessions)
    page = url(BigInterviewAccount, "delete", account.pk)
    staff = User.objects.create_user("staff", is_staff=True)
    staff.user_permissions.add(Permission.objects.get(codename="delete_biginterviewaccount"))
    client.force_login(staff)
    assert "your account doesn't have permission to delete" in texts(client.get(page)).replace("&#x27;", "'")
    assert client.post(page, {"post": "yes"}).status_code == 403
    client.force_login(admin_user)
    shown = client.get(page)
    assert "Single sign-ons: 2000" in texts(shown)
    assert len(shown.content) < 20_000
    client.post(page, {"post": "yes"})
    assert not SSOSession.objects.exists()


def test_rows_of_the_host_that_are_deleted_with_a_registration_are_listed(admin_client):
    made = big_interview()
    Campus.objects.create(name="Main campus", registration=made)
    page = url(WebhookRegistration, "delete", made.pk)
    assert "Campus: Main campus" in texts(admin_client.get(page))
    admin_client.post(page, {"post": "yes"})
    assert not Campus.objects.exists()
