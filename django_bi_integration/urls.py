"""The URLs to include in a host project, for example as ``path("bi/", include("django_bi_integration.urls"))``."""

from django.urls import path

from django_bi_integration.sso import views as sso
from django_bi_integration.webhooks.views import WebhookView

app_name = "django_bi_integration"

webhook = WebhookView.as_view()

urlpatterns = [
    # Both forms are served, because a redirect from one to the other would count as delivered. reverse() returns the
    # last one.
    path("webhooks/<uuid:registration_id>", webhook, name="webhook"),
    path("webhooks/<uuid:registration_id>/", webhook, name="webhook"),
    path("sso/login/", sso.login, name="sso-login"),
    path("sso/launch/", sso.launch, name="sso-launch"),
    path("sso/return/<uuid:session_id>/", sso.record_return, name="sso-return"),
]
