"""PartnerClient: the calls of Big Interview's Partner API, with typed results.

Source: the partner documentation (github.com/biginterview/biginterview-docs, ``source/docs/partners/api``).
"""

import re
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from itertools import count
from random import uniform
from typing import Any, NoReturn
from urllib.parse import quote

from django.views.decorators.debug import sensitive_variables
from requests.adapters import BaseAdapter

from django_bi_integration.conf import settings
from django_bi_integration.events import Interview
from django_bi_integration.exceptions import (
    InvalidAttributes,
    KeyRejected,
    TemporaryFailure,
    UnexpectedResponse,
    UnknownUser,
)
from django_bi_integration.keys import checked_key
from django_bi_integration.partner_api.transport import Answer, BareKey, Transport
from django_bi_integration.vendors.big_interview import read_interview
from django_bi_integration.vendors.json_values import as_datetime, as_flag, as_mapping, as_text

#: The path that creates an anonymous user.
ANONYMOUS = "/api/users/anonymous"
#: How often an idempotent call is tried, and the wait before the second try in seconds.
TRIES = 3
FIRST_WAIT = 0.3
#: The characters that are valid in a token. The vendor's samples are 8 to 64 hexadecimal digits.
TOKEN = re.compile(r"[!-~]{1,1000}")


@dataclass(frozen=True, slots=True)
class PartnerUser:
    """A user at Big Interview. ``token`` starts single sign-on: treat it like the user's password.

    ``token_expires_at`` is None if the API sent no time, or an invalid one.
    """

    partner_id: str
    token: str = field(repr=False)
    token_expires_at: datetime | None
    created_at: datetime | None
    is_new: bool


@dataclass(frozen=True, slots=True)
class TrackStep:
    """One step of a track. ``link`` is a path on the organisation's Big Interview host."""

    step: str | None
    title: str | None
    link: str | None
    completed: bool | None


@dataclass(frozen=True, slots=True)
class Track:
    """A track guide, and the user's ``progress`` in it, from 0 to 1."""

    title: str | None
    progress: float | None
    steps: tuple[TrackStep, ...]


class PartnerClient:
    """Calls the Partner API of one organisation.

    ``base_url`` is the organisation's host with its scheme. A call, with its retries, takes at most ``budget`` seconds;
    the default is the setting ``API_BUDGET_SECONDS``. Only a server that sends its headers byte by byte can hold a call
    for longer. ``encoding`` is how a user's details are sent, "json" or "form"; the default is ``API_ENCODING``.
    ``transport`` is an adapter of requests that replaces the network. ``on_key_answer`` is called with True or False
    for each answer that shows whether the API accepts the key.
    Raises ValueError if the key is blank or cannot be sent in a header.

    Every method raises PartnerAPIError: KeyRejected, UnknownUser, InvalidAttributes, RateLimited, Unavailable or
    UnexpectedResponse. Redirects are not followed.
    """

    def __init__(
        self,
        base_url: str,
        api_key: str,
        *,
        budget: float | None = None,
        encoding: str | None = None,
        transport: BaseAdapter | None = None,
        on_key_answer: Callable[[bool], None] | None = None,
    ) -> None:
        self.budget = budget or float(settings.API_BUDGET_SECONDS)
        self._transport = Transport(
            base_url, BareKey(checked_key(api_key)), encoding=encoding or settings.API_ENCODING, adapter=transport
        )
        self._on_key_answer = on_key_answer or (lambda accepted: None)

    def __getstate__(self) -> NoReturn:
        raise TypeError("A client holds the API key, so it cannot be cached or sent in a message. Use the account.")

    @sensitive_variables()
    def create_or_refresh_user(self, partner_id: str, *, first_name: str, last_name: str, email: str) -> PartnerUser:
        """Create the user, or give an existing user a new token.

        The API requires the name and e-mail address of a new user and ignores those of an existing one. The call is
        idempotent, so temporary failures are retried.
        """
        details = {"first_name": first_name, "last_name": last_name, "email": email}
        user = _read_user(self._call("POST", f"/api/users/{_segment(partner_id)}", details))
        # Another user's token would open that user's interviews.
        if user.partner_id != partner_id:
            raise UnexpectedResponse("The API answered for another user.", status=201 if user.is_new else 200)
        return user

    @sensitive_variables()
    def create_anonymous_user(self) -> PartnerUser:
        """Create a user without a name, for 24 hours. Big Interview has to approve this for the organisation first.

        Every call creates another user, so it is not retried.
        """
        return _read_user(self._call("POST", ANONYMOUS, {}, tries=1))

    def tracks(self, partner_id: str) -> list[Track]:
        """Return the track guides, with the user's progress."""
        answer = self._call("GET", f"/api/users/{_segment(partner_id)}/tracks")
        return [_read_track(as_mapping(item)) for item in _items(answer.document, "tracks")]

    def interviews(self, partner_id: str) -> list[Interview]:
        """Return all of the user's interviews, the latest change first."""
        answer = self._call("GET", f"/api/users/{_segment(partner_id)}/interviews")
        interviews = map(as_mapping, _items(answer.document, "interviews"))
        return [read_interview(as_text(item.get("id")), partner_id, item) for item in interviews]

    def check_key(self) -> None:
        """Check whether the API accepts the key, by requesting a user that cannot exist.

        Raise KeyRejected if it does not, and another PartnerAPIError if the answer does not show whether it does.
        """
        with suppress(UnknownUser):
            self.tracks("django-bi-integration-key-check")

    @sensitive_variables()
    def _call(self, method: str, path: str, details: Mapping[str, str] | None = None, *, tries: int = TRIES) -> Answer:
        deadline = time.monotonic() + self.budget
        for number in count(1):
            try:
                answer = self._transport.send(method, path, details, deadline)
            except KeyRejected as rejection:
                # For an anonymous user, 403 may mean that Big Interview has not approved anonymous users.
                if path != ANONYMOUS or rejection.status == 401:
                    self._on_key_answer(False)
                raise
            except (UnknownUser, InvalidAttributes):
                self._on_key_answer(True)
                raise
            except TemporaryFailure as failure:
                wait = _back_off(number) if failure.retry_after is None else failure.retry_after
                # Enough time has to remain for another try after the wait.
                if number >= tries or wait > (deadline - time.monotonic()) / 2:
                    raise
            else:
                self._on_key_answer(True)
                return answer
            time.sleep(wait)
        raise AssertionError  # count() does not end


def _back_off(number: int) -> float:
    return float(FIRST_WAIT * 2 ** (number - 1) * uniform(0.5, 1))  # noqa: S311 - not a secret


def _segment(partner_id: str) -> str:
    """Return the id as one segment of a path, whatever characters it has."""
    return quote(partner_id, safe="")


@sensitive_variables()
def _read_user(answer: Answer) -> PartnerUser:
    user = as_mapping(answer.document.get("user"))
    token = as_mapping(user.get("token"))
    partner_id, text = as_text(user.get("partner_id")), as_text(token.get("token"))
    if partner_id is None or text is None or not TOKEN.fullmatch(text):
        raise UnexpectedResponse("The API's answer has no partner id, or no token.", status=answer.status)
    return PartnerUser(
        partner_id=partner_id,
        token=text,
        token_expires_at=as_datetime(token.get("expires_at")),
        created_at=as_datetime(user.get("created_at")),
        is_new=answer.status == 201,
    )


def _read_track(track: Mapping[str, Any]) -> Track:
    return Track(
        title=as_text(track.get("title")),
        progress=_as_number(track.get("progress")),
        steps=tuple(
            TrackStep(
                step=as_text(step.get("step")),
                title=as_text(step.get("title")),
                link=as_text(step.get("link")),
                completed=as_flag(step.get("completed")),
            )
            for step in map(as_mapping, _items(track, "tracks"))
        ),
    )


def _as_number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    with suppress(OverflowError):
        return float(value)
    return None


def _items(document: Mapping[str, Any], name: str) -> list[Any]:
    items = document.get(name)
    if not isinstance(items, list):
        raise UnexpectedResponse(f"The API's answer has no list of {name}.")
    return items
