"""One URL for each receiver."""

from django.apps import apps
from django.contrib import admin
from django.urls import include, path

from benchmarks.peers import views

urlpatterns = [
    path("admin/", admin.site.urls),
    path("ours/", include("django_bi_integration.urls")),
    path("function/<uuid:pk>/", views.function_view),
    path("drf/<uuid:pk>/", views.DRFView.as_view()),
    path("plain/<uuid:pk>/", views.plain_view),
]
if apps.is_installed("djstripe"):
    urlpatterns.append(path("stripe/", include("djstripe.urls", namespace="djstripe")))
