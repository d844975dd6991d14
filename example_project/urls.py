"""The portal at the root, the webhooks under ``/bi/``, the admin."""

from django.contrib import admin
from django.urls import include, path

from demo.views import play

urlpatterns = [
    path("bi/", include("django_bi_integration.urls")),
    path("admin/", admin.site.urls),
    path("play/", play),
    path("", include("example_project.portal.urls")),
]
