"""The admin in a real browser, from a new registration to its first event."""

import re
from datetime import timedelta

import pytest
from playwright.sync_api import expect

from django_bi_integration.dispatch.worker import dispatch_pending
from django_bi_integration.models import ReceivedEvent, Rejection, WebhookRegistration
from tests.helpers.admin_pages import failed_events
from tests.helpers.deliveries import KEY, big_interview, deliver, deliver_completion, innovative_educators, stored

pytestmark = pytest.mark.django_db(transaction=True)

#: JavaScript that lists the read-only texts that are wider than their column.
TOO_WIDE = """[...document.querySelectorAll('.readonly')].filter(e => e.scrollWidth > e.clientWidth)
    .map(e => e.textContent)"""


@pytest.fixture
def admin(page, live_server, admin_user):
    """Open the admin's index as a superuser. The test fails on a script error or a response of 400 and above."""
    troubles = []
    page.on("pageerror", lambda error: troubles.append(str(error)))
    page.on("response", lambda response: response.status >= 400 and troubles.append(response.url))
    page.goto(f"{live_server.url}/admin/")
    page.fill("#id_username", admin_user.username)
    page.fill("#id_password", "password")
    page.get_by_role("button", name="Log in").click()
    yield page
    assert [trouble for trouble in troubles if not trouble.endswith("/favicon.ico")] == []


def open_new_registration(admin, vendor):
    """Click from the index to the form for a new registration of the vendor."""
    admin.get_by_role("link", name="Webhook registrations", exact=True).first.click()
    admin.get_by_role("link", name="Add webhook registration").click()
    admin.get_by_role("link", name=vendor).click()


@pytest.mark.parametrize("width", [1200, 390])
def test_a_delivery_with_the_pasted_key_appears_on_the_page(admin, width):
    admin.set_viewport_size({"width": 1200, "height": 900})
    open_new_registration(admin, "Big Interview Authenticates")
    admin.set_viewport_size({"width": width, "height": 900})
    admin.get_by_label("Name").fill("Career centre")
    admin.get_by_label("Key:").fill(KEY)
    admin.get_by_role("button", name="Save and continue editing").click()
    registration = WebhookRegistration.objects.get()
    address = registration.get_absolute_url()
    expect(admin.locator(".bi-url code")).to_contain_text(address)
    assert KEY not in admin.content()
    assert admin.evaluate("document.documentElement.scrollWidth") <= width
    assert deliver(registration).status_code == 200
    admin.reload()
    expect(admin.get_by_text("Latest new event")).to_be_visible()


def test_the_addresses_of_innovative_educators_are_filled_in(admin):
    open_new_registration(admin, "Innovative Educators Authenticates")
    expect(admin.get_by_label("Allowed networks")).to_have_value("54.243.7.71\n3.83.213.76")
    admin.get_by_role("button", name="Save", exact=True).click()
    registration = WebhookRegistration.objects.get()
    expect(admin.get_by_text(registration.get_absolute_url())).to_be_visible()
    assert deliver_completion(registration).status_code == 200
    dispatch_pending()
    assert stored().status == "dispatched"


def test_the_url_is_copied_with_one_click(admin):
    open_new_registration(admin, "Big Interview Authenticates")
    admin.get_by_role("button", name="Save and continue editing").click()
    admin.context.grant_permissions(["clipboard-read", "clipboard-write"])
    admin.get_by_role("button", name="Copy").click()
    expect(admin.get_by_role("button", name="Copied")).to_be_visible()
    copied = admin.evaluate("navigator.clipboard.readText()")
    assert copied.endswith(WebhookRegistration.objects.get().get_absolute_url())


@pytest.mark.parametrize("width", [1200, 390])
def test_a_rejection_with_many_hops_fits_the_width_of_the_page(admin, live_server, width):
    to = innovative_educators()
    deliver(to, key=None, REMOTE_ADDR="10.0.0.5", HTTP_X_FORWARDED_FOR="x" * 500 + ", 203.0.113.9, 192.0.2.10")
    admin.set_viewport_size({"width": width, "height": 900})
    rejections = f"{live_server.url}/admin/django_bi_integration/rejection/"
    registration = f"{live_server.url}/admin/django_bi_integration/webhookregistration/{to.pk}/change/"
    for page in (rejections, f"{rejections}{Rejection.objects.get().pk}/change/", registration):
        admin.goto(page)
        assert admin.evaluate("document.documentElement.scrollWidth") <= width
        assert admin.evaluate(TOO_WIDE) == []
    admin.get_by_role("link", name="All rejections of this registration").click()
    expect(admin.get_by_text("203.0.113.9, 192.0.2.10 → 10.0.0.5")).to_be_visible()


def test_all_events_of_several_pages_are_selected_and_run_again(admin, live_server):
    failed_events(innovative_educators(), 150)
    admin.goto(f"{live_server.url}/admin/django_bi_integration/receivedevent/")
    admin.locator("#action-toggle").check()
    admin.get_by_role("button", name="Select all 150 received events").first.click()
    admin.get_by_label("Action:").first.select_option("retry")
    admin.get_by_role("button", name=re.compile("Run|Go")).first.click()
    expect(admin.get_by_text("150 events will be dispatched again.")).to_be_visible()


@pytest.mark.parametrize("width", [1200, 390])
def test_an_event_with_long_ids_fits_the_width_of_the_page(admin, live_server, width):
    failed_events(innovative_educators(), 1)
    ReceivedEvent.objects.update(**dict.fromkeys(["vendor_event_id", "subject_id", "object_id"], "x" * 255))
    admin.set_viewport_size({"width": width, "height": 900})
    admin.goto(f"{live_server.url}/admin/django_bi_integration/receivedevent/{stored().pk}/change/")
    assert admin.evaluate("document.documentElement.scrollWidth") <= width
    assert admin.evaluate(TOO_WIDE) == []


@pytest.mark.parametrize("width", [1200, 390])
def test_the_previous_key_is_ended_by_a_button_that_needs_no_javascript(
    browser, live_server, client, admin_user, width
):
    """The Enter key still saves the registration, because the button belongs to a separate form."""
    registration = big_interview()
    registration.set_key("0" * 32, overlap=timedelta(days=1))
    registration.save()
    client.force_login(admin_user)
    page = browser.new_context(java_script_enabled=False, viewport={"width": width, "height": 900}).new_page()
    session = client.cookies["sessionid"].value
    page.context.add_cookies([{"name": "sessionid", "value": session, "url": live_server.url}])
    address = f"{live_server.url}/admin/django_bi_integration/webhookregistration/{registration.pk}/change/"
    page.goto(address)
    page.get_by_label("Name:").fill("Careers")
    page.get_by_label("Name:").press("Enter")
    expect(page.get_by_text("was changed successfully")).to_be_visible()
    assert deliver(registration, key=KEY).status_code == 200
    page.goto(address)
    page.get_by_role("button", name="End the previous key now").click()
    expect(page.get_by_text("The previous key is no longer accepted.")).to_be_visible()
    assert deliver(registration, key=KEY).status_code == 401
    assert WebhookRegistration.objects.get().name == "Careers"
    page.context.close()
