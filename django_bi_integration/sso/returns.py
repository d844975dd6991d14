"""Returning from Big Interview: which return URLs are allowed, and what happens when a student returns."""

import re
from contextlib import suppress
from urllib.parse import quote, unquote, urljoin, urlsplit

from django.core.exceptions import ImproperlyConfigured
from django.http import HttpRequest
from django.urls import NoReverseMatch, Resolver404, get_script_prefix, resolve
from django.utils import timezone
from django.utils.translation import get_language, get_language_from_path, override

from django_bi_integration.conf import settings
from django_bi_integration.exceptions import NotAllowed
from django_bi_integration.models import SSOSession
from django_bi_integration.paths import own_path
from django_bi_integration.signals import sso_returned
from django_bi_integration.sso.destinations import DECODINGS, LONGEST, UNPRINTABLE, check_path
from django_bi_integration.transactions import retry_on_conflict

#: The ``app_name`` of this package's URLs.
APP_NAME = "django_bi_integration"


def check_return_url(url: str) -> str:
    """Return ``url`` if it is a path on this site or a URL of ``RETURN_URL_ORIGINS``.

    Raise NotAllowed for any other URL, and for one that leads into single sign-on: logging out at Big Interview
    would log the student in again.
    """
    if url.startswith("/"):
        check_path(url)
    else:
        _check_absolute(url)
    if leads_into_sign_on(url):
        raise NotAllowed("The return URL leads back into single sign-on. Give a page of your site.")
    return url


def _check_absolute(url: str) -> None:
    if (
        len(quote(url, safe="", errors="replace")) > LONGEST
        or not url.isascii()
        or UNPRINTABLE.search(url)
        or "\\" in url
        or " " in url
    ):
        raise NotAllowed("The return URL is too long, or contains characters that are not valid in a URL.")
    try:
        parts = urlsplit(url)
    except ValueError:
        raise NotAllowed("The return URL is not a valid URL.") from None
    # Compare everything before the path, including user info and port.
    if f"{parts.scheme}://{parts.netloc}" not in settings.RETURN_URL_ORIGINS:
        raise NotAllowed("The return URL's scheme and host are not in BI_INTEGRATION['RETURN_URL_ORIGINS'].")


def leads_into_sign_on(url: str) -> bool:
    """Return whether the path of ``url`` is one of this package's URLs, however it is encoded.

    The host is not compared: the same path on another allowed origin would start a launch there.
    """
    try:
        path = urlsplit(url).path
    except ValueError:
        return False  # not a URL
    for _ in range(DECODINGS + 1):
        if _is_own_view(path):
            return True
        path = unquote(path)
    return False


def _is_own_view(path: str) -> bool:
    # Browsers and servers resolve dot segments and may merge slashes before Django sees the path.
    plain = urljoin("/", re.sub("/+", "/", path))
    path_info = "/" + plain.removeprefix(get_script_prefix()).removeprefix("/")
    with override(get_language_from_path(path_info) or get_language()):  # for i18n_patterns
        for candidate in (path_info, f"{path_info}/"):  # APPEND_SLASH redirects to the second
            with suppress(Resolver404):
                if APP_NAME in resolve(candidate).app_names:
                    return True
    return False


def return_url_parameter(session: SSOSession, request: HttpRequest | None) -> str:
    """Return the URL to which Big Interview redirects the student after logging out, or "" for the vendor's page.

    With ``TRACK_RETURNS``, that is this package's ``sso-return``. Raise ImproperlyConfigured if the URLconf does not
    include it.
    """
    if request is None:
        return session.return_url
    if settings.TRACK_RETURNS:
        try:
            return request.build_absolute_uri(own_path("sso-return", session_id=session.pk))
        except NoReverseMatch as error:
            raise ImproperlyConfigured(f"TRACK_RETURNS is on. {error} Or set TRACK_RETURNS to False.") from error
    return request.build_absolute_uri(session.return_url) if session.return_url else ""


def record_return(session: SSOSession) -> str:
    """Record the student's return, if it is the first one of this launch, and return the URL to redirect to."""
    now = timezone.now()
    launched = SSOSession.objects.filter(pk=session.pk, status=SSOSession.Status.REDIRECTED)
    values = {"status": SSOSession.Status.RETURNED, "returned_at": now, "in_progress": None}
    if retry_on_conflict(lambda: launched.update(**values)):
        session.status, session.returned_at = SSOSession.Status.RETURNED, now
        sso_returned.send_robust(SSOSession, session=session)
    if session.return_url:
        with suppress(NotAllowed):  # the setting may have changed since the launch
            return check_return_url(session.return_url)
    page = str(settings.RETURN_PAGE)
    return get_script_prefix() if leads_into_sign_on(page) else page
