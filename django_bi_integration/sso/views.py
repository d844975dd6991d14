"""The views of single sign-on: start a launch, by a link or for a front end, and return from Big Interview."""

from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any
from uuid import UUID

from django.contrib.auth.base_user import AbstractBaseUser
from django.contrib.auth.decorators import login_not_required
from django.contrib.auth.views import redirect_to_login
from django.db import transaction
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, JsonResponse
from django.shortcuts import get_object_or_404
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_variables
from django.views.decorators.http import require_GET, require_POST

from django_bi_integration import sso
from django_bi_integration.exceptions import BIIntegrationError, LaunchInProgress, NotAllowed
from django_bi_integration.json_body import read_object
from django_bi_integration.models import SSOSession
from django_bi_integration.sso.responses import embedded_page, error_json, error_page, in_progress_page

#: Browsers send one of these headers when they load a page before anyone has followed the link.
PREFETCH_HEADERS = ("Sec-Purpose", "Purpose", "X-Moz")

View = Callable[..., HttpResponse]


class LaunchRedirect(HttpResponseRedirect):
    """A redirect whose URL contains the token. Django's ``repr``, in an error report for example, would show it."""

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"


def personal(view: View) -> View:
    """Decorate a view whose response is about a person, or contains a token.

    No cache stores the response, and no other site learns its URL. The view decides by itself who has to be logged in.
    It runs outside of a transaction, so that its records stay whatever happens to the request.
    """
    guarded = login_not_required(transaction.non_atomic_requests(never_cache(view)))

    @wraps(guarded)  # keeps the attributes that Django and its middleware read from a view
    def wrapper(request: HttpRequest, *arguments: Any, **options: Any) -> HttpResponse:
        response = guarded(request, *arguments, **options)
        response.headers["Referrer-Policy"] = "no-referrer"
        return response

    return wrapper


@personal
@require_GET
@sensitive_variables()
def login(request: HttpRequest) -> HttpResponse:
    """Redirect the browser to Big Interview, or show a page that explains why not."""
    if any("prefetch" in request.headers.get(name, "") for name in PREFETCH_HEADERS):
        return HttpResponse(status=503)  # the browser requests the page again when someone follows the link
    if _is_embedded(request):
        return embedded_page(request)
    user = _user(request)
    if user is None and not sso.is_open_to_visitors(request.GET.get("account") or None):
        return redirect_to_login(request.get_full_path())
    try:
        started = _start(request, user, request.GET)
    except LaunchInProgress:
        return in_progress_page(request)
    except BIIntegrationError as error:
        return error_page(request, error)
    return LaunchRedirect(started.url)


@personal
@require_POST
@sensitive_variables()
def launch(request: HttpRequest) -> HttpResponse:
    """Return the URL to redirect the browser to as JSON, for front ends."""
    user = _user(request)
    try:
        options = _options_in_body(request)
        if user is None and not sso.is_open_to_visitors(options.get("account") or None):
            return JsonResponse({"error": "not_logged_in", "message": _("Please log in first.")}, status=401)
        started = _start(request, user, options)
    except BIIntegrationError as error:
        return error_json(error)
    return JsonResponse({"url": started.url, "expires_at": started.expires_at})


@personal
@require_GET
def record_return(request: HttpRequest, session_id: UUID) -> HttpResponse:
    """Record the return of a student who has logged out at Big Interview, and redirect to the return URL."""
    session = get_object_or_404(SSOSession, pk=session_id)
    return HttpResponseRedirect(sso.record_return(session))


def _is_embedded(request: HttpRequest) -> bool:
    """Return whether a page loads the link as an image, a script or a frame, or fetches it: nobody follows it."""
    destination = request.headers.get("Sec-Fetch-Dest", "document")
    # A service worker passes a navigation on with an empty destination. No script can set the mode "navigate".
    is_passed_on = destination == "empty" and request.headers.get("Sec-Fetch-Mode") == "navigate"
    return destination != "document" and not is_passed_on


def _user(request: HttpRequest) -> AbstractBaseUser | None:
    user = getattr(request, "user", None)
    return user if user is not None and user.is_authenticated else None


@sensitive_variables()
def _start(request: HttpRequest, user: AbstractBaseUser | None, options: Mapping[str, str]) -> sso.Launch:
    return sso.start(
        user,
        account=options.get("account") or None,
        redirect_to=options.get("redirect_to", ""),
        to=options.get("to", ""),
        options=options,
        return_url=options.get("return_url", ""),
        request=request,
    )


def _options_in_body(request: HttpRequest) -> Mapping[str, str]:
    """Return the options from a form or a JSON object; raise NotAllowed if the body is neither."""
    if request.content_type != "application/json":
        return request.POST.dict()
    try:
        options = read_object(request.body or b"{}")
    except ValueError:
        options = None
    if options is None or not all(isinstance(value, str) for value in options.values()):
        raise NotAllowed("Send a JSON object whose values are text.")
    return options
