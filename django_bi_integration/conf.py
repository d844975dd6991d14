"""Every setting of ``BI_INTEGRATION``: its name, type and default, read live."""

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from django.conf import settings as django_settings

NAMESPACE = "BI_INTEGRATION"

#: A function, or its dotted path.
Function: TypeAlias = str | Callable[..., Any]


class Settings:
    """Attribute access to the dict ``settings.BI_INTEGRATION``; what it leaves out has the default here."""

    # Whose X-Forwarded-For counts: one entry per hop, outermost first. An entry is an address, a CIDR network, or a
    # list of them. Empty: nobody's.
    TRUSTED_PROXIES: Sequence[str | Sequence[str]] = ()
    # The largest webhook body that is accepted, in bytes.
    MAX_BODY_BYTES: int = 262_144
    # How long a worker may keep an event to itself before another may take it over.
    LEASE_SECONDS: int = 60
    # How often a receiver is tried for one event before it is failed.
    MAX_ATTEMPTS: int = 10
    # The wait before the second attempt; it doubles with every further one, up to the limit below.
    RETRY_FIRST_SECONDS: int = 15
    RETRY_LIMIT_SECONDS: int = 3600
    # Whether events older than what was dispatched already are kept from the receivers.
    SKIP_STALE: bool = False
    # Dotted path of the Celery app that notifies workers; empty: the current app.
    CELERY_APP: str = ""

    # Where Big Interview is; {org} stands for the organisation's subdomain.
    BASE_URL: str = "https://{org}.biginterview.com"
    # What encrypts the Partner API keys, newest first. Django's own secret key always stands behind them.
    ENCRYPTION_KEYS: Sequence[str] = ()
    # How the Partner API is told names and e-mail addresses: "json" or "form".
    API_ENCODING: str = "json"
    # How long the Partner API may take, retries included, while a student waits.
    API_BUDGET_SECONDS: int = 8
    # How many launches of a process may wait for the Partner API at once; keep it below the number of its threads.
    MAX_CONCURRENT_LAUNCHES: int = 2
    # How many launches a minute the visitors of one address may start without a log-in.
    VISITOR_LAUNCHES_PER_MINUTE: int = 30
    # A user's id at Big Interview, the user with an id, and a user's name and e-mail address.
    PARTNER_ID: Function = "django_bi_integration.users.primary_key"
    PARTNER_USER: Function = "django_bi_integration.users.user_by_primary_key"
    USER_DETAILS: Function = "django_bi_integration.users.usual_details"
    # Where students may be sent after Big Interview: scheme and host.
    RETURN_URL_ORIGINS: Sequence[str] = ()
    # Whether students return through this project, so that their return is recorded.
    TRACK_RETURNS: bool = True
    # Where returning students are redirected if no return_url was given.
    RETURN_PAGE: str = "/"

    def __getattribute__(self, name: str) -> Any:
        default = super().__getattribute__(name)
        if not name.isupper():
            return default
        given = getattr(django_settings, NAMESPACE, {})
        value = given.get(name, default) if isinstance(given, dict) else default
        # A check rejects text in place of a list, but not every server runs the checks; its characters are no entries.
        return (value,) if isinstance(default, tuple) and isinstance(value, str) else value


settings = Settings()
