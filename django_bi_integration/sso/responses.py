"""Responses for a browser or a front end that cannot be sent to Big Interview: status, error code, and explanation."""

from collections.abc import Mapping
from typing import NamedTuple

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.utils.functional import Promise
from django.utils.text import get_text_list
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from django_bi_integration.conf import settings
from django_bi_integration.exceptions import (
    BIIntegrationError,
    InvalidAttributes,
    KeyRejected,
    LaunchFailure,
    LaunchInProgress,
    MissingDetails,
    NoAccount,
    NoPartnerID,
    NotAllowed,
    RateLimited,
    SharedPartnerID,
    TemporaryFailure,
    TooManyLaunches,
    TooManyVisits,
    UndecryptableKey,
    UnexpectedResponse,
    UnknownUser,
)
from django_bi_integration.sso.records import DOUBLE_CLICK

OUT_OF_ORDER = gettext_lazy(
    "Sign-in to Big Interview is not working right now. Please contact us and quote the reference below."
)
NO_ANSWER = gettext_lazy("Big Interview is not responding right now. Please try again in a few minutes.")


class Outcome(NamedTuple):
    """What a failure means to a browser or a front end."""

    status: int
    code: str
    message: Promise | str


#: The outcome of each exception. Subclasses without an entry have that of their base class.
OUTCOMES: Mapping[type, Outcome] = {
    NotAllowed: Outcome(
        400,
        "not_allowed",
        gettext_lazy("This link does not lead into Big Interview. Please let us know where you found it."),
    ),
    NoPartnerID: Outcome(
        403,
        "no_partner_id",
        gettext_lazy(
            "Your account on this site has no access to Big Interview. If it should have access, please contact us and"
            " quote the reference below."
        ),
    ),
    SharedPartnerID: Outcome(
        403,
        "shared_partner_id",
        gettext_lazy(
            "Big Interview cannot be opened with your account, so that nobody sees another person’s interviews. Please"
            " contact us and quote the reference below."
        ),
    ),
    LaunchInProgress: Outcome(409, "in_progress", gettext_lazy("Big Interview is already being opened.")),
    MissingDetails: Outcome(
        422,
        "missing_details",
        gettext_lazy(
            "Big Interview requires your %(missing)s. Please contact us, so that we can add what is missing to your"
            " account on this site."
        ),
    ),
    InvalidAttributes: Outcome(
        422,
        "invalid_attributes",
        gettext_lazy(
            "Big Interview did not accept the name or the e-mail address of your account on this site. Please contact"
            " us and quote the reference below."
        ),
    ),
    TooManyVisits: Outcome(
        429,
        "too_many_visits",
        gettext_lazy("Big Interview has been opened very often from your network. Please try again in a minute."),
    ),
    NoAccount: Outcome(502, "no_account", OUT_OF_ORDER),
    UndecryptableKey: Outcome(502, "key_unreadable", OUT_OF_ORDER),
    KeyRejected: Outcome(502, "key_rejected", OUT_OF_ORDER),
    UnknownUser: Outcome(502, "unknown_user", OUT_OF_ORDER),
    UnexpectedResponse: Outcome(502, "unexpected_answer", OUT_OF_ORDER),
    TooManyLaunches: Outcome(
        503,
        "too_many_launches",
        gettext_lazy("Many people are opening Big Interview right now. Please try again in a few seconds."),
    ),
    RateLimited: Outcome(503, "rate_limited", NO_ANSWER),
    TemporaryFailure: Outcome(503, "unavailable", NO_ANSWER),
    BIIntegrationError: Outcome(502, "internal_error", OUT_OF_ORDER),
}
#: When to try again after a temporary failure, in seconds, if the Partner API does not say.
RETRY_AFTER = 60
#: When to try again after the first of two clicks, in seconds.
AFTER_DOUBLE_CLICK = int(DOUBLE_CLICK.total_seconds()) + 1


def error_json(error: BIIntegrationError) -> HttpResponse:
    """Return the JSON for front ends: ``error``, ``message`` and ``reference``."""
    outcome = _outcome(error)
    content = {
        "error": outcome.code,
        "message": str(error) if isinstance(error, NotAllowed) else _message(error),
        "reference": _reference(error),
    }
    return JsonResponse(content, status=outcome.status, headers=_retry_after(error))


def error_page(request: HttpRequest, error: BIIntegrationError) -> HttpResponse:
    """Return the page that explains to a student why Big Interview did not open."""
    context = {
        "message": _message(error),
        "detail": str(error) if isinstance(error, NotAllowed) else "",
        "reference": _reference(error),
        "retry_url": request.get_full_path() if isinstance(error, TemporaryFailure | TooManyLaunches) else None,
        "back_url": settings.RETURN_PAGE,
    }
    response = render(request, "django_bi_integration/sso/failed.html", context, status=_outcome(error).status)
    for name, value in _retry_after(error).items():
        response.headers[name] = value
    if isinstance(error, TooManyLaunches) and not isinstance(error, TooManyVisits):
        response.headers["Refresh"] = str(error.retry_after)  # a slot is free soon: the page tries again by itself
    return response


def embedded_page(request: HttpRequest) -> HttpResponse:
    """Return the page that offers the link in a new tab, for a student who sees it in a frame."""
    context = {
        "message": _("Big Interview cannot be shown inside another page."),
        "retry_url": request.get_full_path(),
        "new_tab": True,
        "back_url": settings.RETURN_PAGE,
    }
    return render(request, "django_bi_integration/sso/failed.html", context, status=403)


def in_progress_page(request: HttpRequest) -> HttpResponse:
    """Return the page for the second click of a double click. It continues by itself if the first click fails."""
    context = {"retry_url": request.get_full_path()}
    response = render(request, "django_bi_integration/sso/in_progress.html", context)
    response.headers["Refresh"] = str(AFTER_DOUBLE_CLICK)
    return response


def _outcome(error: BIIntegrationError) -> Outcome:
    return next(OUTCOMES[kind] for kind in type(error).__mro__ if kind in OUTCOMES)


def _message(error: BIIntegrationError) -> str:
    message = str(_outcome(error).message)
    if not isinstance(error, MissingDetails):
        return message
    names = {"first_name": _("first name"), "last_name": _("last name"), "email": _("e-mail address")}
    return message % {"missing": get_text_list([names[name] for name in error.names], _("and"))}


def _reference(error: BIIntegrationError) -> str | None:
    return error.session.reference if isinstance(error, LaunchFailure) and error.session else None


def _retry_after(error: BIIntegrationError) -> dict[str, str]:
    if isinstance(error, LaunchInProgress):
        return {"Retry-After": str(AFTER_DOUBLE_CLICK)}
    if isinstance(error, TooManyLaunches):
        return {"Retry-After": str(error.retry_after)}
    if isinstance(error, TemporaryFailure):
        return {"Retry-After": str(round(error.retry_after or RETRY_AFTER))}
    return {}
