"""Where students set off for Big Interview, and where they come back."""

from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any
from uuid import UUID

from django.contrib.auth.base_user import AbstractBaseUser
from django.contrib.auth.decorators import login_not_required
from django.contrib.auth.views import redirect_to_login
from django.db import transaction
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, JsonResponse
from django.shortcuts import get_object_or_404, render
from django.utils.text import get_text_list
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_variables
from django.views.decorators.http import require_GET, require_POST

from django_bi_integration import sso
from django_bi_integration.conf import settings
from django_bi_integration.exceptions import (
    BIIntegrationError,
    InvalidAttributes,
    LaunchInProgress,
    MissingDetails,
    NoPartnerID,
    NotAllowed,
    SharedPartnerID,
    TemporaryFailure,
    TooManyLaunches,
    TooManyVisits,
)
from django_bi_integration.json_body import read_object
from django_bi_integration.models import SSOSession
from django_bi_integration.sso import Launch
from django_bi_integration.sso.records import DOUBLE_CLICK

#: What each failure answers; the rest is 502, as of a gateway whose other side does not do its part.
STATUSES: Mapping[type[BIIntegrationError], int] = {
    NotAllowed: 400,
    NoPartnerID: 403,
    SharedPartnerID: 403,
    LaunchInProgress: 409,
    MissingDetails: 422,
    InvalidAttributes: 422,
    TooManyVisits: 429,
    TooManyLaunches: 503,
    TemporaryFailure: 503,
}
#: Browsers send one of these headers when they load a page before anyone has followed the link.
AHEAD = ("Sec-Purpose", "Purpose", "X-Moz")
#: Seconds after which a student may well try again when the Partner API does not say.
RETRY_AFTER = 60

View = Callable[..., HttpResponse]


class SentOff(HttpResponseRedirect):
    """The answer whose URL carries the token: Django's own ``repr`` would show it, in a report of an error for one."""

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"


def personal(view: View) -> View:
    """For a page that carries a token, or tells of a person: no cache keeps it, and no other site learns its URL.

    It decides by itself who has to be logged in, and records what it does whatever becomes of the request.
    """
    guarded = login_not_required(transaction.non_atomic_requests(never_cache(view)))

    @wraps(guarded)  # with what Django and its middleware look for on a view
    def quiet(request: HttpRequest, *arguments: Any, **options: Any) -> HttpResponse:
        response = guarded(request, *arguments, **options)
        response.headers["Referrer-Policy"] = "no-referrer"
        return response

    return quiet


@personal
@require_GET
@sensitive_variables()
def login(request: HttpRequest) -> HttpResponse:
    """A link: sends the browser to Big Interview, or shows a person why not."""
    if any("prefetch" in request.headers.get(name, "") for name in AHEAD):
        return HttpResponse(status=503)  # nobody has clicked yet: the browser asks again when they do
    if _is_embedded(request):
        return _show_embedded(request)
    user = _user(request)
    if user is None and not sso.is_open_to_visitors(request.GET.get("account") or None):
        return redirect_to_login(request.get_full_path())
    try:
        launch = _start(request, user, request.GET)
    except LaunchInProgress:
        return _show_in_progress(request)
    except BIIntegrationError as error:
        return _show_failure(request, error)
    return SentOff(launch.url)


@personal
@require_POST
@sensitive_variables()
def launch(request: HttpRequest) -> HttpResponse:
    """For front ends: the URL to send the browser to, as JSON."""
    user = _user(request)
    try:
        asked = _asked_in_body(request)
        if user is None and not sso.is_open_to_visitors(asked.get("account") or None):
            return JsonResponse({"error": "NotLoggedIn", "message": _("Log in first.")}, status=401)
        launch = _start(request, user, asked)
    except BIIntegrationError as error:
        return _tell_failure(error)
    return JsonResponse({"url": launch.url, "expires_at": launch.expires_at})


@personal
@require_GET
def come_back(request: HttpRequest, session_id: UUID) -> HttpResponse:
    """Where Big Interview sends them after their log-out there: on to the page that was asked for."""
    session = get_object_or_404(SSOSession, pk=session_id)
    return HttpResponseRedirect(sso.come_back(session))


def _is_embedded(request: HttpRequest) -> bool:
    """Return whether a page loads the link as an image, a script or a frame, or fetches it: nobody follows it."""
    destination = request.headers.get("Sec-Fetch-Dest", "document")
    # A service worker hands a navigation on with an empty destination. No script can set the mode "navigate".
    is_handed_on = destination == "empty" and request.headers.get("Sec-Fetch-Mode") == "navigate"
    return destination != "document" and not is_handed_on


def _user(request: HttpRequest) -> AbstractBaseUser | None:
    user = getattr(request, "user", None)
    return user if user is not None and user.is_authenticated else None


@sensitive_variables()
def _start(request: HttpRequest, user: AbstractBaseUser | None, asked: Mapping[str, str]) -> Launch:
    return sso.start(
        user,
        account=asked.get("account") or None,
        redirect_to=asked.get("redirect_to", ""),
        to=asked.get("to", ""),
        options=asked,
        return_url=asked.get("return_url", ""),
        request=request,
    )


def _asked_in_body(request: HttpRequest) -> Mapping[str, str]:
    """What the body asks for, as a form or as a JSON object of text; raises NotAllowed."""
    if request.content_type != "application/json":
        return request.POST.dict()
    try:
        asked = read_object(request.body or b"{}")
    except ValueError:
        asked = None
    if asked is None or not all(isinstance(value, str) for value in asked.values()):
        raise NotAllowed("Send a JSON object whose values are text.")
    return asked


def _status(error: BIIntegrationError) -> int:
    return next((status for kind, status in STATUSES.items() if isinstance(error, kind)), 502)


def _retry_after(error: BIIntegrationError) -> dict[str, str]:
    if isinstance(error, LaunchInProgress):
        return {"Retry-After": str(int(DOUBLE_CLICK.total_seconds()) + 1)}
    if isinstance(error, TooManyLaunches):
        return {"Retry-After": str(error.retry_after)}
    if isinstance(error, TemporaryFailure):
        return {"Retry-After": str(round(error.retry_after or RETRY_AFTER))}
    return {}


def _tell_failure(error: BIIntegrationError) -> HttpResponse:
    answer = {
        "error": type(error).__name__,
        "message": str(error) if isinstance(error, NotAllowed) else _explain(error),
        "reference": error.session.reference if error.session else None,
    }
    return JsonResponse(answer, status=_status(error), headers=_retry_after(error))


def _show_failure(request: HttpRequest, error: BIIntegrationError) -> HttpResponse:
    context = {
        "message": _explain(error),
        "detail": str(error) if isinstance(error, NotAllowed) else "",
        "reference": error.session.reference if error.session else None,
        "retry_url": request.get_full_path() if isinstance(error, TemporaryFailure | TooManyLaunches) else None,
        "back_url": settings.RETURN_PAGE,
    }
    response = render(request, "django_bi_integration/sso/failed.html", context, status=_status(error))
    for name, value in _retry_after(error).items():
        response.headers[name] = value
    if isinstance(error, TooManyLaunches) and not isinstance(error, TooManyVisits):
        response.headers["Refresh"] = str(error.retry_after)  # a slot is free soon: the page tries again by itself
    return response


def _show_embedded(request: HttpRequest) -> HttpResponse:
    """Show a page with the link in a new tab: a person sees it if a site has put the link into a frame."""
    context = {
        "message": _("Big Interview cannot be shown inside another page."),
        "retry_url": request.get_full_path(),
        "new_tab": True,
        "back_url": settings.RETURN_PAGE,
    }
    return render(request, "django_bi_integration/sso/failed.html", context, status=403)


def _show_in_progress(request: HttpRequest) -> HttpResponse:
    """The second click of a double click: if the first got through, nobody sees this; if not, it goes on by itself."""
    again = request.get_full_path()
    response = render(request, "django_bi_integration/sso/in_progress.html", {"retry_url": again})
    response.headers["Refresh"] = str(int(DOUBLE_CLICK.total_seconds()) + 1)
    return response


def _explain(error: BIIntegrationError) -> str:
    """What a student can do about it."""
    match error:
        case NotAllowed():
            return _("This link does not lead into Big Interview.")
        case LaunchInProgress():
            return _("Big Interview is being opened already.")
        case MissingDetails():
            names = {"first_name": _("first name"), "last_name": _("last name"), "email": _("e-mail address")}
            missing = get_text_list([names[name] for name in error.names], _("and"))
            return _("Big Interview needs your %(missing)s, which your account here lacks. Please tell us.") % {
                "missing": missing
            }
        case InvalidAttributes():
            return _("Big Interview did not take the name or the e-mail address of your account here.")
        case NoPartnerID():
            return _(
                "Big Interview is not open to your account here. If it should be, tell us, with the reference below."
            )
        case SharedPartnerID():
            return _(
                "Big Interview cannot be opened for your account here, so that nobody sees another person’s interviews."
                " Please contact us and quote the reference below."
            )
        case TooManyVisits():
            return _("Big Interview has been opened very often from your network. Please try again in a minute.")
        case TooManyLaunches():
            return _("Many people are opening Big Interview right now. Please try again in a few seconds.")
        case TemporaryFailure():
            return _("Big Interview does not answer just now. Please try again in a few minutes.")
    return _("The way to Big Interview is not set up right. Please tell us, with the reference below.")
