"""Single sign-on into Big Interview: start a launch, come back.

Source: "Single Sign On" in the partner documentation, and its successor on support.biginterview.com.
"""

import logging
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from urllib.parse import quote

from django.contrib.auth.base_user import AbstractBaseUser
from django.contrib.auth.models import AnonymousUser
from django.core.exceptions import ImproperlyConfigured
from django.http import HttpRequest
from django.urls import NoReverseMatch, get_script_prefix
from django.utils import timezone
from django.utils.encoding import iri_to_uri
from django.views.decorators.debug import sensitive_variables
from requests.adapters import BaseAdapter

from django_bi_integration.conf import settings
from django_bi_integration.exceptions import (
    BIIntegrationError,
    LaunchInProgress,
    NoAccount,
    NotAllowed,
    TooManyLaunches,
)
from django_bi_integration.models import BigInterviewAccount, SSOSession
from django_bi_integration.models.account import LABEL
from django_bi_integration.paths import own_path
from django_bi_integration.signals import sso_failed, sso_launched, sso_returned
from django_bi_integration.sso.destinations import check_path, check_return_url, destination, leads_into_sign_on
from django_bi_integration.sso.limits import limit_visitors, slot
from django_bi_integration.sso.records import begin, check_is_sole_owner, note, record_failure
from django_bi_integration.text import clean, in_plane
from django_bi_integration.transactions import retry_on_conflict
from django_bi_integration.users import details_of, partner_id_of

logger = logging.getLogger(__name__)

Status = SSOSession.Status


@dataclass(frozen=True, slots=True)
class Launch:
    """A launch that may go: send the browser to ``url``, once and soon, and keep it nowhere. It carries the token."""

    session: SSOSession
    url: str = field(repr=False)
    expires_at: datetime | None


def start(
    user: AbstractBaseUser | AnonymousUser | None,
    *,
    account: BigInterviewAccount | str | None = None,
    redirect_to: str = "",
    to: str = "",
    options: Mapping[str, object] | None = None,
    return_url: str = "",
    request: HttpRequest | None = None,
    transport: BaseAdapter | None = None,
) -> Launch:
    """Ask for a fresh token and say where to send the browser.

    ``user`` is None (or Django's AnonymousUser) for a visitor who is not logged in, at an account that allows that.
    ``account`` is one, or its subdomain; the default account if it is left out. The page at Big Interview is
    ``redirect_to``, a path there, or ``to``, the name of one (see ``targets.destination``) with its ``options``; the
    dashboard without either. ``return_url`` is where they go after Big Interview: a path on this site, or a URL of
    ``RETURN_URL_ORIGINS``.
    With a ``request`` and ``TRACK_RETURNS`` they come back through this project first, and the return is recorded.
    ``transport`` is handed to the PartnerClient.

    Raises NotAllowed for a path or a URL, LaunchInProgress, TooManyLaunches and TooManyVisits, and ImproperlyConfigured
    if ``TRACK_RETURNS`` needs this package's URLs and the request's URLconf does not include them, of which nothing is
    recorded; and, with the failed SSOSession as its ``session``, any other LaunchError, a PartnerAPIError, or
    UndecryptableKey. Do not call it within a transaction that may be rolled back: the record would go with it.
    """
    if isinstance(user, AnonymousUser):
        user = None
    _check_targets(redirect_to, to, return_url, request)
    if user is None and request is not None:
        limit_visitors(request)
    session = SSOSession(redirect_to=redirect_to, return_url=iri_to_uri(return_url), requested_at=timezone.now())
    back = _return_url(session, request)
    session.user = user  # type: ignore[assignment]  # the stubs know Django's own user model
    try:
        with slot():  # not while receivers of sso_failed run
            launch = _attempt(session, user, account, to, options or {}, back, transport)
    except (LaunchInProgress, TooManyLaunches):
        raise
    except Exception as error:
        _fail(session, error)
        raise
    note(session, status=Status.REDIRECTED, redirected_at=timezone.now())
    sso_launched.send_robust(SSOSession, session=session)
    return launch


def is_open_to_visitors(account: str | None = None) -> bool:
    """Whether who is not logged in may start at the account of that subdomain, or at the default one."""
    try:
        _usable_account(account, anonymous=True)
    except NoAccount:
        return False
    return True


def come_back(session: SSOSession) -> str:
    """Record the first return of a launch, and say where to go on to."""
    now = timezone.now()
    returning = SSOSession.objects.filter(pk=session.pk, status=Status.REDIRECTED)
    if retry_on_conflict(lambda: returning.update(status=Status.RETURNED, returned_at=now, in_progress=None)):
        session.status, session.returned_at = Status.RETURNED, now
        sso_returned.send_robust(SSOSession, session=session)
    if session.return_url:
        with suppress(NotAllowed):  # the setting may have changed since the launch
            return check_return_url(session.return_url)
    page = str(settings.RETURN_PAGE)
    return get_script_prefix() if leads_into_sign_on(page) else page


def _check_targets(redirect_to: str, to: str, return_url: str, request: HttpRequest | None) -> None:
    if redirect_to and to:
        raise NotAllowed("Give a path or the name of a page, not both.")
    if redirect_to:
        check_path(redirect_to)
    if return_url:
        check_return_url(return_url)
        if request is None and return_url.startswith("/"):
            raise NotAllowed("Without a request, a page to come back to needs its scheme and host.")


def _usable_account(account: BigInterviewAccount | str | None, *, anonymous: bool) -> BigInterviewAccount:
    usable = BigInterviewAccount.objects.usable()
    if account is None:
        found = BigInterviewAccount.objects.default()
    elif isinstance(account, BigInterviewAccount):
        found = usable.filter(pk=account.pk).first()
    else:
        found = usable.filter(subdomain=account).first() if LABEL.match(account) else None
    if found is None:
        named = "" if account is None else f" {clean(str(account), 63)!r}"
        raise NoAccount(f"There is no Big Interview account{named} that is active and has an API key.")
    if anonymous and not found.allows_anonymous:
        raise NoAccount(f"The Big Interview account {found} does not allow anonymous users.")
    return found


@sensitive_variables()
def _attempt(
    session: SSOSession,
    user: AbstractBaseUser | None,
    account: BigInterviewAccount | str | None,
    to: str,
    options: Mapping[str, object],
    back: str,
    transport: BaseAdapter | None,
) -> Launch:
    session.account = _usable_account(account, anonymous=user is None)
    if user is not None:
        session.partner_id = partner_id_of(user)
    begin(session)
    if user is not None:
        check_is_sole_owner(session, user)
    if to:
        session.redirect_to = destination(to, session.partner_id, options)
    return _launch(session, user, back, transport)


@sensitive_variables()
def _launch(
    session: SSOSession, user: AbstractBaseUser | None, return_url: str, transport: BaseAdapter | None
) -> Launch:
    """Get a token, and note what came with it; the token itself goes nowhere but into the URL."""
    assert session.account is not None  # noqa: S101 - for the type checker
    client = session.account.client(transport=transport)
    if user is None:
        partner = client.create_anonymous_user()
    else:
        partner = client.create_or_refresh_user(session.partner_id, **details_of(user))
    session.partner_id = clean(partner.partner_id, 64)
    session.token_expires_at = partner.token_expires_at
    values = {"token": partner.token, "redirect_to": session.redirect_to, "return_url": return_url}
    url = _login_url(session.account.base_url, values)
    return Launch(session, url, partner.token_expires_at)


@sensitive_variables()
def _login_url(base_url: str, values: Mapping[str, str]) -> str:
    """Where the browser goes: each value is percent-encoded exactly once."""
    query = "&".join(f"{name}={quote(value, safe='')}" for name, value in values.items() if value)
    return f"{base_url}/sso/login?{query}"


def _return_url(session: SSOSession, request: HttpRequest | None) -> str:
    """Return the URL that Big Interview is given to come back to; raise ImproperlyConfigured if it cannot exist."""
    if request is None:
        return session.return_url
    if settings.TRACK_RETURNS:
        try:
            return request.build_absolute_uri(own_path("sso-return", session_id=session.pk))
        except NoReverseMatch as error:
            raise ImproperlyConfigured(f"TRACK_RETURNS is on. {error} Or set TRACK_RETURNS to False.") from error
    return request.build_absolute_uri(session.return_url) if session.return_url else ""


def _fail(session: SSOSession, error: Exception) -> None:
    # Other exceptions' messages may contain anything, so only the class name is stored.
    text = f"{type(error).__name__}: {error}" if isinstance(error, BIIntegrationError) else type(error).__name__
    recorded = record_failure(session, type(error).__name__, in_plane(clean(text, 2_000)))
    logger.warning("launch %s failed: %s", recorded.reference, type(error).__name__)
    if isinstance(error, BIIntegrationError):
        error.session = recorded
    sso_failed.send_robust(SSOSession, session=recorded, error=error)
