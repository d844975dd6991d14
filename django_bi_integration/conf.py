"""Every setting of ``BI_INTEGRATION``: its name, type and default, read live."""

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from django.conf import settings as django_settings

NAMESPACE = "BI_INTEGRATION"

#: A function, or its dotted path.
Function: TypeAlias = str | Callable[..., Any]


class Settings:
    """The settings in ``settings.BI_INTEGRATION`` as attributes; a setting that it leaves out has its default here."""

    # The proxies whose X-Forwarded-For is trusted: one entry per hop, outermost first. An entry is an address, a CIDR
    # network, or a list of them.
    TRUSTED_PROXIES: Sequence[str | Sequence[str]] = ()
    # The largest webhook body that is accepted, in bytes.
    MAX_BODY_BYTES: int = 262_144
    # Seconds after which another worker may claim an event that a worker has claimed.
    LEASE_SECONDS: int = 60
    # How often a receiver is tried for one event before it has failed.
    MAX_ATTEMPTS: int = 10
    # The wait before the second attempt; it doubles with each further attempt, up to the limit below.
    RETRY_FIRST_SECONDS: int = 15
    RETRY_LIMIT_SECONDS: int = 3600
    # True: receivers do not get events that are older than one that was already dispatched.
    SKIP_STALE: bool = False
    # Dotted path of the Celery app that notifies workers; empty: the current app.
    CELERY_APP: str = ""

    # Big Interview's address; {org} stands for the organisation's subdomain.
    BASE_URL: str = "https://{org}.biginterview.com"
    # The keys that encrypt the Partner API keys, newest first. Django's secret key is always the last of them.
    ENCRYPTION_KEYS: Sequence[str] = ()
    # How names and e-mail addresses are sent to the Partner API: "json" or "form".
    API_ENCODING: str = "json"
    # Seconds that the Partner API may take, retries included, while a student waits.
    API_BUDGET_SECONDS: int = 8
    # How many launches of a process may wait for the Partner API at once; fewer than the process has threads.
    MAX_CONCURRENT_LAUNCHES: int = 2
    # How many launches a minute visitors of one network may start without logging in.
    VISITOR_LAUNCHES_PER_MINUTE: int = 30
    # A user's id at Big Interview, the user with an id, and a user's name and e-mail address.
    PARTNER_ID: Function = "django_bi_integration.users.primary_key"
    PARTNER_USER: Function = "django_bi_integration.users.user_by_primary_key"
    USER_DETAILS: Function = "django_bi_integration.users.usual_details"
    # The origins (scheme and host) of other sites that students may return to.
    RETURN_URL_ORIGINS: Sequence[str] = ()
    # True: students return through this project, so that their return is recorded.
    TRACK_RETURNS: bool = True
    # The page that returning students are redirected to if no return_url was given.
    RETURN_PAGE: str = "/"

    def __getattribute__(self, name: str) -> Any:
        default = super().__getattribute__(name)
        if not name.isupper():
            return default
        given = getattr(django_settings, NAMESPACE, {})
        value = given.get(name, default) if isinstance(given, dict) else default
        # A check rejects text instead of a list, but not every server runs the checks. Its characters are not entries.
        return (value,) if isinstance(default, tuple) and isinstance(value, str) else value


settings = Settings()
