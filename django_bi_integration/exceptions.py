"""Every exception of this package. Those marked with * can end a launch of single sign-on, see ``LaunchFailure``.

BIIntegrationError
├── RetryLater                 raised by a receiver: run me again later
├── GiveUp                     raised by a receiver: do not run me again
│   └── UnsupportedPool        the worker's pool cannot run async receivers
├── UndecryptableKey *         no current encryption key can decrypt the stored API key
│   └── KeyOfAnotherAccount    the stored API key was entered for another subdomain
├── PartnerAPIError *          a call of Big Interview's Partner API failed
│   ├── KeyRejected            the API rejected the API key
│   ├── InvalidAttributes      the API rejected a name, an e-mail address or a partner id
│   ├── UnknownUser            the API does not know the user
│   ├── UnexpectedResponse     the response is not one that the API's documentation describes
│   └── TemporaryFailure       the call may succeed later
│       ├── RateLimited        the API was called too often
│       └── Unavailable        the API could not be reached, did not answer in time, or failed
└── LaunchError *              single sign-on cannot start
    ├── NoAccount              no usable account to start with
    ├── NotAllowed             the requested page is not an allowed one
    ├── NoPartnerID            the user has no id that Big Interview accepts
    ├── SharedPartnerID        another user has the same id
    ├── MissingDetails         the user has no name or no e-mail address
    ├── LaunchInProgress       the same user has just started another launch
    └── TooManyLaunches        too many launches are waiting for the Partner API
        └── TooManyVisits      too many launches without a log-in came from one network
"""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

__all__ = [
    "BIIntegrationError",
    "GiveUp",
    "InvalidAttributes",
    "KeyOfAnotherAccount",
    "KeyRejected",
    "LaunchError",
    "LaunchFailure",
    "LaunchInProgress",
    "MissingDetails",
    "NoAccount",
    "NoPartnerID",
    "NotAllowed",
    "PartnerAPIError",
    "RateLimited",
    "RetryLater",
    "SharedPartnerID",
    "TemporaryFailure",
    "TooManyLaunches",
    "TooManyVisits",
    "Unavailable",
    "UndecryptableKey",
    "UnexpectedResponse",
    "UnknownUser",
    "UnsupportedPool",
]


class BIIntegrationError(Exception):
    """The base class of this package's exceptions."""


class LaunchFailure:
    """Mixin of the exceptions that can end a launch: LaunchError, PartnerAPIError and UndecryptableKey.

    ``session`` is the failed SSOSession if ``sso.start`` raised the exception and recorded the launch, and None
    otherwise.
    """

    session: Any = None  # its class is not imported here, because its module imports these exceptions


class RetryLater(BIIntegrationError):
    """Raised by a receiver that cannot do its work now and should run again.

    ``after`` is the time to wait, as a timedelta or in seconds. If it is None, the usual back-off applies. The
    attempt counts towards the setting ``MAX_ATTEMPTS``.
    """

    def __init__(self, reason: str = "", *, after: timedelta | float | None = None) -> None:
        super().__init__(reason)
        self.after = after if isinstance(after, timedelta | None) else timedelta(seconds=after)


class GiveUp(BIIntegrationError):
    """Raised by a receiver that can never do its work for this event. The receiver is marked as failed at once."""


class UnsupportedPool(GiveUp):
    """An async receiver cannot run in this process, because a library replaced its threads with greenlets."""

    def __init__(self, library: str) -> None:
        super().__init__(
            f"An async receiver cannot run in a process that {library} has patched: its greenlets share one thread, and"
            " a thread can run only one event loop at a time. Start the worker with --pool=prefork, --pool=solo or"
            " --pool=threads, or make the receiver a plain function. Then run the failed receivers again."
        )


class UndecryptableKey(LaunchFailure, BIIntegrationError):
    """The key that encrypted a stored API key is neither in ``ENCRYPTION_KEYS`` nor Django's secret key."""


class KeyOfAnotherAccount(UndecryptableKey):
    """The stored API key was entered for another subdomain, so it is not sent to this one. Enter the key again."""


class PartnerAPIError(LaunchFailure, BIIntegrationError):
    """A call of the Partner API failed. ``status`` is the HTTP status of the response, or None without a response."""

    def __init__(self, text: str, *, status: int | None = None) -> None:
        super().__init__(text)
        self.status = status


class KeyRejected(PartnerAPIError):
    """The API rejected the key, or has not approved the organisation for this call (401, 403)."""


class InvalidAttributes(PartnerAPIError):
    """The API rejected the user's attributes (422). ``fields`` maps each field to the API's messages about it."""

    def __init__(self, text: str, *, status: int | None = None, fields: Mapping[str, Sequence[str]]) -> None:
        super().__init__(text, status=status)
        self.fields = fields


class UnknownUser(PartnerAPIError):
    """The API does not know the user (404)."""


class UnexpectedResponse(PartnerAPIError):
    """The API responded with a redirect, with something other than JSON, or with JSON that lacks a required value."""


class TemporaryFailure(PartnerAPIError):
    """The call may succeed later. ``retry_after`` is the wait in seconds that the API asks for, or None."""

    def __init__(self, text: str, *, status: int | None = None, retry_after: float | None = None) -> None:
        super().__init__(text, status=status)
        self.retry_after = retry_after


class RateLimited(TemporaryFailure):
    """The API was called too often (429)."""


class Unavailable(TemporaryFailure):
    """The API could not be reached, did not answer in time, or failed (5xx)."""


class LaunchError(LaunchFailure, BIIntegrationError):
    """Single sign-on cannot start, for a reason on this side."""


class NoAccount(LaunchError):
    """The account does not exist, is inactive, has no API key, or does not allow anonymous users."""


class NotAllowed(LaunchError):
    """The page at Big Interview or the return URL is not an allowed one."""


class NoPartnerID(LaunchError):
    """The function in the setting ``PARTNER_ID`` returns no id that Big Interview accepts for the user."""


class SharedPartnerID(LaunchError):
    """Another user has, or had, the id that the setting ``PARTNER_ID`` yields: both would see the same interviews."""


class MissingDetails(LaunchError):
    """The user lacks details that Big Interview requires: ``names`` of ``first_name``, ``last_name`` and ``email``."""

    def __init__(self, names: Sequence[str]) -> None:
        super().__init__(
            f"The user has no {', '.join(names)}, which Big Interview requires. If your project keeps them elsewhere,"
            " set BI_INTEGRATION['USER_DETAILS']."
        )
        self.names = names


class LaunchInProgress(LaunchError):
    """The same user has just started another launch at the same account, for example with a double click."""


class TooManyLaunches(LaunchError):
    """As many launches of this process as ``MAX_CONCURRENT_LAUNCHES`` allows are waiting for the Partner API.

    ``retry_after`` is the number of seconds after which the launch may be tried again.
    """

    def __init__(self, text: str, *, retry_after: int) -> None:
        super().__init__(text)
        self.retry_after = retry_after


class TooManyVisits(TooManyLaunches):
    """Visitors of one network have started as many launches as ``VISITOR_LAUNCHES_PER_MINUTE`` allows."""
