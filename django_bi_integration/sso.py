"""Single sign-on into Big Interview: start a launch, come back.

Source: "Single Sign On" in the partner documentation, and its successor on support.biginterview.com.
"""

import hashlib
import logging
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import quote

from django.contrib.auth.base_user import AbstractBaseUser
from django.contrib.auth.models import AnonymousUser
from django.db import IntegrityError, transaction
from django.db.models import Q
from django.http import HttpRequest
from django.urls import get_script_prefix, reverse
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
    SharedPartnerID,
)
from django_bi_integration.models import BigInterviewAccount, SSOSession
from django_bi_integration.models.account import LABEL
from django_bi_integration.people import belongs_to_another, details_of, partner_id_of
from django_bi_integration.signals import sso_failed, sso_launched, sso_returned
from django_bi_integration.targets import check_path, check_return_url, destination, leads_into_sign_on
from django_bi_integration.text import clean, in_plane
from django_bi_integration.webhooks.conflicts import despite_conflicts

logger = logging.getLogger(__name__)

#: For so long a second launch of the same user at the same account is taken for the same click.
DOUBLE_CLICK = timedelta(seconds=3)
#: How often a launch finds its place taken and, at the next look, free, before that is taken for an error.
TRIES = 10

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

    Raises NotAllowed for a path or a URL and LaunchInProgress, of which nothing is recorded; and, with the failed
    SSOSession as its ``session``, any other LaunchError, a PartnerAPIError, or UndecryptableKey. Do not call it within
    a transaction that may be rolled back: the record would go with it.
    """
    if isinstance(user, AnonymousUser):
        user = None
    _check_targets(redirect_to, to, return_url, request)
    session = SSOSession(redirect_to=redirect_to, return_url=iri_to_uri(return_url), requested_at=timezone.now())
    session.user = user  # type: ignore[assignment]  # the stubs know Django's own user model
    try:
        session.account = _usable_account(account, anonymous=user is None)
        if user is not None:
            session.partner_id = partner_id_of(user)
        _begin(session)
        if user is not None:
            _check_is_sole_owner(session, user)
        if to:
            session.redirect_to = destination(to, session.partner_id, options or {})
        launch = _launch(session, user, request, transport)
    except LaunchInProgress:
        raise
    except Exception as error:
        _fail(session, error)
        raise
    _note(session, status=Status.REDIRECTED, redirected_at=timezone.now())
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
    if despite_conflicts(lambda: returning.update(status=Status.RETURNED, returned_at=now, in_progress=None)):
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


def _begin(session: SSOSession) -> None:
    """Store the session, as the only one of its user at its account for a while; raises LaunchInProgress."""
    session.in_progress = _digest(session)
    for tries_left in reversed(range(TRIES)):
        despite_conflicts(lambda: _release(session.in_progress))
        try:
            despite_conflicts(lambda: _insert(session))
        except IntegrityError:
            if SSOSession.objects.filter(in_progress=session.in_progress).exists():
                raise LaunchInProgress("A launch has just been started.") from None
            if not tries_left:
                raise
            # The launch that was in the way has failed meanwhile, and made room.
        else:
            return


@transaction.atomic
def _insert(session: SSOSession) -> None:
    session.save(force_insert=True)


def _note(session: SSOSession, **changes: Any) -> None:
    """Store what has become of the session, and nothing that others may have changed of it by now."""
    told = {name: getattr(session, name) for name in ("partner_id", "redirect_to", "token_expires_at")}
    for name, value in changes.items():
        setattr(session, name, value)
    despite_conflicts(lambda: SSOSession.objects.filter(pk=session.pk).update(**told, **changes))


def _digest(session: SSOSession) -> str | None:
    if session.user_id is None:
        return None
    return hashlib.sha256(f"{session.user_id} at {session.account_id}".encode()).hexdigest()


def _release(in_progress: str | None) -> None:
    """Make room for another launch where the latest one is too old to be the first of a double click."""
    now = timezone.now()
    is_over = ~Q(status=Status.REQUESTED) & Q(requested_at__lt=now - DOUBLE_CLICK)
    has_died = Q(requested_at__lt=now - _patience())
    is_of_another_clock = Q(requested_at__gt=now + DOUBLE_CLICK)
    SSOSession.objects.filter(is_over | has_died | is_of_another_clock, in_progress=in_progress).update(
        in_progress=None
    )


def _patience() -> timedelta:
    """Return how long a launch may be underway before its process counts as dead."""
    return timedelta(seconds=settings.API_BUDGET_SECONDS) + DOUBLE_CLICK


def _check_is_sole_owner(session: SSOSession, user: AbstractBaseUser) -> None:
    """Raise SharedPartnerID if the id of the session leads to another user, or another user has launched with it.

    The session is stored by now: of two users who launch at once, at least one finds the other's.
    """
    shared = f"{session.partner_id!r}, the id that BI_INTEGRATION['PARTNER_ID'] gives to the user {user.pk}"
    if belongs_to_another(session.partner_id, user):
        raise SharedPartnerID(
            f"BI_INTEGRATION['PARTNER_USER'] finds another user, or several, for {shared}. Correct the two settings:"
            " each user needs an id of their own."
        )
    got_through = Q(status__in=[Status.REDIRECTED, Status.RETURNED])
    may_get_through = Q(status=Status.REQUESTED, requested_at__gt=timezone.now() - _patience())
    of_another = Q(user__lt=user.pk) | Q(user__gt=user.pk)  # two ranges of the index; exclude() reads the user's own
    others = SSOSession.objects.filter(
        got_through | may_get_through, of_another, account=session.account, partner_id=session.partner_id
    )
    for other, partner_id in others.values_list("user_id", "partner_id").distinct():
        if partner_id == session.partner_id:  # a database may take "Abc" for "abc"
            raise SharedPartnerID(
                f"The user {other} has signed on with {shared}. Each user needs an id that nobody else has had: correct"
                " the setting. If both users are the same person, move or delete the earlier user's single sign-ons."
            )


@sensitive_variables()
def _launch(
    session: SSOSession, user: AbstractBaseUser | None, request: HttpRequest | None, transport: BaseAdapter | None
) -> Launch:
    """Get a token, and note what came with it; the token itself goes nowhere but into the URL."""
    assert session.account is not None  # noqa: S101 - for the type checker
    return_url = _return_url(session, request)
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
    if request is None:
        return session.return_url
    if settings.TRACK_RETURNS:
        return request.build_absolute_uri(reverse("django_bi_integration:sso-return", args=[session.pk]))
    return request.build_absolute_uri(session.return_url) if session.return_url else ""


def _fail(session: SSOSession, error: Exception) -> None:
    logger.warning("launch %s failed: %s", session.reference, type(error).__name__)
    # What other errors say, those of the host project's own functions for example, is nobody knows what.
    text = f"{type(error).__name__}: {error}" if isinstance(error, BIIntegrationError) else type(error).__name__
    if session._state.adding:
        session.in_progress = None
        _insert(session)
    _note(session, status=Status.FAILED, in_progress=None, error=in_plane(clean(text, 2_000)))
    if isinstance(error, BIIntegrationError):
        error.session = session
    sso_failed.send_robust(SSOSession, session=session, error=error)
