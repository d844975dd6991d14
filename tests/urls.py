"""The app and the admin, mounted as in the README."""

from django.contrib import admin
from django.urls import include, path

urlpatterns = [
    path("bi/", include("django_bi_integration.urls")),
    path("admin/", admin.site.urls),
]
