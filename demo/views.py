"""The button that plays the story again."""

import threading

from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.views.decorators.http import require_POST

#: Set by the button, looked at by the demo.
play_again = threading.Event()


@require_POST
def play(request: HttpRequest) -> HttpResponse:
    play_again.set()
    return redirect("/")
