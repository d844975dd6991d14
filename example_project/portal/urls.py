"""URLs of the portal; each page has a fragment beside it that its script fetches again and again."""

from django.urls import path

from example_project.portal import views

app_name = "portal"

urlpatterns = [
    path("", views.overview, name="overview"),
    path("live/", views.overview_live, name="overview_live"),
    path("students/<int:pk>/", views.student, name="student"),
    path("students/<int:pk>/live/", views.student_live, name="student_live"),
    path("students/<int:pk>/sign-in/", views.sign_in, name="sign_in"),
    path("sign-out/", views.sign_out, name="sign_out"),
    path("about/", views.about, name="about"),
]
