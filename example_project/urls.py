"""The package's URLs under ``bi/``, the admin, and the portal at the root."""

from django.contrib import admin
from django.urls import include, path

urlpatterns = [
    path("bi/", include("django_bi_integration.urls")),
    path("admin/", admin.site.urls),
    path("", include("example_project.portal.urls")),
]
