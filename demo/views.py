"""Two buttons of the portal that exist only in the demo: play the story again, and sign in as a student."""

import threading

from django.contrib.auth import login
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.views.decorators.http import require_POST

from demo.students import user_of
from example_project.portal.models import Student

#: Set by the button; the demo waits for it.
play_again = threading.Event()


@require_POST
def play(request: HttpRequest) -> HttpResponse:
    play_again.set()
    return redirect("portal:overview")


@require_POST
def sign_in(request: HttpRequest, pk: int) -> HttpResponse:
    """Sign in as a student without a password; the demo only listens on this machine."""
    student = get_object_or_404(Student, pk=pk, is_known=True)
    login(request, user_of(student), backend="django.contrib.auth.backends.ModelBackend")
    return redirect(student)
