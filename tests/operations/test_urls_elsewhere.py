"""Projects without the package's URLs, or with separate admin sites: errors are reported before anything is stored."""

import pytest
from django.contrib import admin
from django.core.exceptions import ImproperlyConfigured
from django.core.management import CommandError, call_command
from django.template import Context, Template
from django.test import RequestFactory
from django.urls import NoReverseMatch, include, path

from django_bi_integration import sso
from django_bi_integration.admin.registrations import WebhookRegistrationAdmin
from django_bi_integration.admin.rejections import RejectionAdmin
from django_bi_integration.models import BigInterviewAccount, Rejection, SSOSession, WebhookRegistration
from tests.admin.test_pages import ADD, form, texts
from tests.helpers.deliveries import KEY, big_interview

pytestmark = pytest.mark.django_db

INCLUDE = 'path("bi/", include("django_bi_integration.urls"))'


class AdminOnly:
    urlpatterns = [path("admin/", admin.site.urls)]


staff = admin.AdminSite("staff")
staff.register(WebhookRegistration, WebhookRegistrationAdmin)
full = admin.AdminSite("full")
full.register(WebhookRegistration, WebhookRegistrationAdmin)
full.register(Rejection, RejectionAdmin)


class OwnSites:
    urlpatterns = [
        path("bi/", include("django_bi_integration.urls")),
        path("admin/", admin.site.urls),
        path("full/", full.urls),
    ]


class OneOwnSite:
    urlpatterns = [path("bi/", include("django_bi_integration.urls")), path("staff/", staff.urls)]


def test_bi_register_stores_no_registration_if_the_urls_are_missing(settings):
    settings.ROOT_URLCONF = AdminOnly
    with pytest.raises(CommandError) as failure:
        call_command("bi_register", vendor="big_interview", name="x", key=KEY)
    assert INCLUDE in str(failure.value)
    assert str(failure.value).endswith("Nothing was stored.")
    assert "\n" not in str(failure.value)
    assert not WebhookRegistration.objects.exists()


def test_the_page_of_a_registration_explains_that_this_site_has_no_webhook_url(settings, admin_client):
    settings.ROOT_URLCONF = AdminOnly
    to = big_interview()
    page = admin_client.get(f"/admin/django_bi_integration/webhookregistration/{to.pk}/change/")
    assert page.status_code == 200
    assert "This site does not serve the webhooks." in texts(page)
    assert f"<code>webhooks/{to.pk}/</code>" in page.content.decode()
    assert "data-bi-copy" not in page.content.decode()


def test_a_registration_can_be_added_on_a_site_without_the_webhook_url(settings, admin_client):
    settings.ROOT_URLCONF = AdminOnly
    page = admin_client.post(f"{ADD}?vendor=big_interview", form(key=KEY), follow=True)
    assert "This site does not serve the webhooks." in texts(page)
    assert "Give this URL to" not in texts(page)
    assert WebhookRegistration.objects.get().check_key(KEY)


def test_a_custom_admin_site_may_leave_out_rejections(settings, admin_client):
    settings.ROOT_URLCONF = OneOwnSite
    page = admin_client.get(f"/staff/django_bi_integration/webhookregistration/{big_interview().pk}/change/")
    assert page.status_code == 200
    assert "All rejections of this registration" not in texts(page)


def test_links_on_a_custom_admin_site_stay_on_that_site(settings, admin_client):
    settings.ROOT_URLCONF = OwnSites
    to = big_interview()
    Rejection.objects.create(
        registration=to, reason="key_wrong", count=1, first_at=to.created_at, last_at=to.created_at
    )
    page = admin_client.get(f"/full/django_bi_integration/webhookregistration/{to.pk}/change/").content.decode()
    assert f'href="/full/django_bi_integration/rejection/?registration__id__exact={to.pk}"' in page


def test_a_launch_is_rejected_and_not_stored_if_the_return_url_is_missing(settings, django_user_model):
    settings.ROOT_URLCONF = AdminOnly
    user = django_user_model.objects.create_user("student")
    account = BigInterviewAccount(subdomain="xyz", is_default=True)
    account.set_api_key(KEY)
    account.save()
    with pytest.raises(ImproperlyConfigured, match="TRACK_RETURNS"):
        sso.start(user, request=RequestFactory().get("/"))
    assert not SSOSession.objects.exists()


def test_the_template_tag_explains_that_the_urls_are_missing(settings):
    settings.ROOT_URLCONF = AdminOnly
    with pytest.raises(NoReverseMatch, match="Add `path"):
        Template("{% load bi_integration %}{% bi_sso_url %}").render(Context())
