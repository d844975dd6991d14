"""Start a launch: get a fresh token for a user, and the URL that logs them in at Big Interview.

Source: "Single Sign On" in the partner documentation, and its successor on support.biginterview.com.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from urllib.parse import quote

from django.contrib.auth.base_user import AbstractBaseUser
from django.contrib.auth.models import AnonymousUser
from django.http import HttpRequest
from django.utils import timezone
from django.utils.encoding import iri_to_uri
from django.views.decorators.debug import sensitive_variables
from requests.adapters import BaseAdapter

from django_bi_integration.exceptions import NotAllowed
from django_bi_integration.models import BigInterviewAccount, SSOSession
from django_bi_integration.sso.accounts import usable_account
from django_bi_integration.sso.destinations import check_page, destination
from django_bi_integration.sso.limits import limit_visitors, slot
from django_bi_integration.sso.records import begin, check_is_sole_owner, record_redirect, recording_failure
from django_bi_integration.sso.returns import check_return_url, return_url_parameter
from django_bi_integration.users import details_of, partner_id_of


@dataclass(frozen=True, slots=True)
class Launch:
    """A launch that is ready. Redirect the browser to ``url`` at once, and do not store it: it contains the token."""

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
    """Request a fresh token from Big Interview, and return the URL to redirect the browser to.

    ``user`` is None or an AnonymousUser for a visitor. ``account`` is an account, its subdomain, or None (the default).
    ``redirect_to`` is a path at Big Interview, or ``to`` is a page's name with ``options``: see ``destination``.
    ``return_url`` is where students go after logging out there: a path on this site or a URL of ``RETURN_URL_ORIGINS``.
    ``request`` is required for a path, and to record returns. ``transport`` is passed to PartnerClient.

    Raise NotAllowed for a path or URL, LaunchInProgress, TooManyLaunches, TooManyVisits, or ImproperlyConfigured if
    returns cannot be recorded; these leave no record. Raise any other LaunchError, PartnerAPIError or UndecryptableKey
    with the failed SSOSession as its ``session``. Do not call this in a transaction: a rollback would lose the record.
    """
    check_page(redirect_to, to)
    session = _new_session(user, redirect_to, return_url, request)
    parameter = return_url_parameter(session, request)
    with recording_failure(session), slot():  # the slot is free again before receivers of sso_failed run
        launch = _launch(session, account, to, options or {}, parameter, transport)
    record_redirect(session)
    return launch


def _new_session(
    user: AbstractBaseUser | AnonymousUser | None, redirect_to: str, return_url: str, request: HttpRequest | None
) -> SSOSession:
    """Return a session that is not stored yet; raise NotAllowed for the return URL, or TooManyVisits."""
    if return_url:
        check_return_url(return_url)
        if request is None and return_url.startswith("/"):
            raise NotAllowed("Without a request, a return URL needs its scheme and host.")
    if isinstance(user, AnonymousUser):
        user = None
    if user is None and request is not None:
        limit_visitors(request)
    session = SSOSession(redirect_to=redirect_to, return_url=iri_to_uri(return_url), requested_at=timezone.now())
    session.user = user  # type: ignore[assignment]  # the stubs assume Django's own user model
    return session


@sensitive_variables()
def _launch(
    session: SSOSession,
    account: BigInterviewAccount | str | None,
    to: str,
    options: Mapping[str, object],
    return_url: str,
    transport: BaseAdapter | None,
) -> Launch:
    """Store the session, get a token, and build the URL. The token is kept nowhere else."""
    user = session.user
    session.account = chosen = usable_account(account, anonymous=user is None)
    if user is not None:
        session.partner_id = partner_id_of(user)
    begin(session)
    check_is_sole_owner(session)
    if to:
        session.redirect_to = destination(to, session.partner_id, options)
    client = chosen.client(transport=transport)
    if user is None:
        partner = client.create_anonymous_user()
    else:
        partner = client.create_or_refresh_user(session.partner_id, **details_of(user))
    session.partner_id, session.token_expires_at = partner.partner_id, partner.token_expires_at
    values = {"token": partner.token, "redirect_to": session.redirect_to, "return_url": return_url}
    return Launch(session, _login_url(chosen.base_url, values), partner.token_expires_at)


@sensitive_variables()
def _login_url(base_url: str, values: Mapping[str, str]) -> str:
    """Return the URL to redirect the browser to, with each value percent-encoded exactly once."""
    query = "&".join(f"{name}={quote(value, safe='')}" for name, value in values.items() if value)
    return f"{base_url}/sso/login?{query}"
