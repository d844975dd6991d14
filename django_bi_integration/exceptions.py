"""Every error of this package; the tree starts at BIIntegrationError.

BIIntegrationError
├── RetryLater             raised by a receiver: run me again later
├── GiveUp                 raised by a receiver: do not run me again
│   └── UnsupportedPool    the worker's pool cannot run async receivers
├── UndecryptableKey       a stored API key cannot be read with the encryption keys that there are
│   └── KeyOfAnotherAccount  it was entered for another subdomain
├── PartnerAPIError        Big Interview's Partner API did not do what it was asked
│   ├── KeyRejected         it rejected the API key
│   ├── InvalidAttributes  it rejected a name, an e-mail address or a partner id
│   ├── UnknownUser        it does not know the user
│   ├── UnexpectedAnswer   it answered something that its documentation does not know
│   └── TemporaryFailure   it may do it later
│       ├── RateLimited    it was asked too often
│       └── Unavailable    it cannot be reached, did not answer in time, or is out of order
└── LaunchError            single sign-on cannot start
    ├── NoAccount          there is no account to start it with
    ├── NotAllowed         it was asked to lead somewhere it must not lead
    ├── NoPartnerID        the user has no id that Big Interview would take
    ├── SharedPartnerID    another user has the same id
    ├── MissingDetails     the user lacks a name or an e-mail address
    ├── LaunchInProgress   one of the same user has just been started
    └── TooManyLaunches    as many as are allowed are waiting for the Partner API
        └── TooManyVisits  a network has started as many without a log-in as are allowed in a minute
"""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from django_bi_integration.models import SSOSession


class BIIntegrationError(Exception):
    """The base of every error that this package raises on its own account.

    ``session`` is the SSOSession that records a failed launch; None for everything else.
    """

    session: "SSOSession | None" = None


class RetryLater(BIIntegrationError):
    """Raised by a receiver that cannot do its work now and wants to be run again.

    ``after`` is the time to wait, as a timedelta or in seconds; without it, the usual back-off applies. The
    attempt counts towards the setting ``MAX_ATTEMPTS``.
    """

    def __init__(self, reason: str = "", *, after: timedelta | float | None = None) -> None:
        super().__init__(reason)
        self.after = after if isinstance(after, timedelta | None) else timedelta(seconds=after)


class GiveUp(BIIntegrationError):
    """Raised by a receiver that can never do its work for this event; it is marked failed at once."""


class UnsupportedPool(GiveUp):
    """An async receiver cannot run in this process, because a library replaced its threads by greenlets."""

    def __init__(self, library: str) -> None:
        super().__init__(
            f"An async receiver cannot run in a process that {library} has patched: its greenlets share one thread, and"
            " a thread can run only one event loop at a time. Start the worker with --pool=prefork, --pool=solo or"
            " --pool=threads, or make the receiver a plain function. Then run the failed receivers again."
        )


class UndecryptableKey(BIIntegrationError):
    """A stored API key was encrypted with a key that is neither in ``ENCRYPTION_KEYS`` nor Django's secret key."""


class KeyOfAnotherAccount(UndecryptableKey):
    """A stored API key was entered for another subdomain, so it is not sent to this one. Enter the key again."""


class PartnerAPIError(BIIntegrationError):
    """The Partner API did not do what it was asked; ``status`` is that of its answer, None where there was none."""

    def __init__(self, text: str, *, status: int | None = None) -> None:
        super().__init__(text)
        self.status = status


class KeyRejected(PartnerAPIError):
    """The API rejected the key, or what was asked for is not approved for the organisation (401, 403)."""


class InvalidAttributes(PartnerAPIError):
    """The API rejected what it was told of a user (422); ``fields`` has its messages by field, where it sent any."""

    def __init__(self, text: str, *, status: int | None = None, fields: Mapping[str, Sequence[str]]) -> None:
        super().__init__(text, status=status)
        self.fields = fields


class UnknownUser(PartnerAPIError):
    """The API does not know the user (404)."""


class UnexpectedAnswer(PartnerAPIError):
    """The API answered with a redirect, something that is no JSON, or JSON that lacks what it must have."""


class TemporaryFailure(PartnerAPIError):
    """The API may do it later; ``retry_after`` is the wait in seconds that it asks for, None where it says nothing."""

    def __init__(self, text: str, *, status: int | None = None, retry_after: float | None = None) -> None:
        super().__init__(text, status=status)
        self.retry_after = retry_after


class RateLimited(TemporaryFailure):
    """The API was asked too often (429)."""


class Unavailable(TemporaryFailure):
    """The API cannot be reached, did not answer in time, or is out of order (5xx)."""


class LaunchError(BIIntegrationError):
    """Single sign-on cannot start, for a reason on this side."""


class NoAccount(LaunchError):
    """There is no such account, or none that is active and has a key."""


class NotAllowed(LaunchError):
    """A page to go to is not on Big Interview's own host, or a page to come back to is not on an allowed one."""


class NoPartnerID(LaunchError):
    """The setting ``PARTNER_ID`` yields no id that Big Interview would take for the user."""


class SharedPartnerID(LaunchError):
    """Another user has, or had, the id that the setting ``PARTNER_ID`` yields: both would see the same interviews."""


class MissingDetails(LaunchError):
    """Big Interview requires what the user lacks; ``names`` are ``first_name``, ``last_name`` or ``email``."""

    def __init__(self, names: Sequence[str]) -> None:
        super().__init__(
            f"The user has no {', '.join(names)}, which Big Interview requires. If your project keeps them elsewhere,"
            " set BI_INTEGRATION['USER_DETAILS']."
        )
        self.names = names


class LaunchInProgress(LaunchError):
    """A launch of the same user at the same account has just been started: a double click, for example."""


class TooManyLaunches(LaunchError):
    """As many launches of this process as ``MAX_CONCURRENT_LAUNCHES`` allows are waiting for the Partner API.

    ``retry_after`` is the time in seconds after which another one may be tried.
    """

    def __init__(self, text: str, *, retry_after: int) -> None:
        super().__init__(text)
        self.retry_after = retry_after


class TooManyVisits(TooManyLaunches):
    """Visitors of one network have launched as often as ``VISITOR_LAUNCHES_PER_MINUTE`` allows."""
