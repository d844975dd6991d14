"""The portal's pages. The script of a page reloads its fragment, which is at ``live/``."""

from django.contrib.auth.views import LogoutView
from django.urls import path

from example_project.portal import views

app_name = "portal"

urlpatterns = [
    path("", views.overview, name="overview"),
    path("live/", views.overview_live, name="overview_live"),
    path("students/<int:pk>/", views.student, name="student"),
    path("students/<int:pk>/live/", views.student_live, name="student_live"),
    path("sign-out/", LogoutView.as_view(next_page="portal:overview"), name="sign_out"),
    path("about/", views.about, name="about"),
]
