"""The URLs of the example project, and those that exist only in the demo."""

from django.urls import include, path

from demo import views

demo_patterns = [
    path("play/", views.play, name="play"),
    path("students/<int:pk>/sign-in/", views.sign_in, name="sign_in"),
]

urlpatterns = [
    path("demo/", include((demo_patterns, "demo"))),
    path("", include("example_project.urls")),
]
