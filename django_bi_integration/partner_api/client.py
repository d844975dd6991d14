"""PartnerClient: Big Interview's Partner API.

Source: the partner documentation (github.com/biginterview/biginterview-docs, ``source/docs/partners/api``).
"""

import re
import socket
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from email.utils import parsedate_to_datetime
from functools import partial
from itertools import count
from random import uniform
from typing import Any, NoReturn
from urllib.parse import quote

import requests
from django.utils import timezone
from django.views.decorators.debug import sensitive_variables
from requests.adapters import BaseAdapter, HTTPAdapter
from requests.auth import AuthBase

import django_bi_integration
from django_bi_integration.conf import settings
from django_bi_integration.events import Interview
from django_bi_integration.exceptions import (
    InvalidAttributes,
    KeyRejected,
    PartnerAPIError,
    RateLimited,
    TemporaryFailure,
    Unavailable,
    UnexpectedAnswer,
    UnknownUser,
)
from django_bi_integration.json_body import read_object
from django_bi_integration.keys import checked_key
from django_bi_integration.text import clean
from django_bi_integration.vendors.big_interview import read_interview
from django_bi_integration.vendors.json_values import as_datetime, as_flag, as_mapping, as_text

#: Where an anonymous user is made.
ANONYMOUS = "/api/users/anonymous"
#: How often a call is made that may be made again, and the wait before the second time, in seconds.
TRIES = 3
FIRST_WAIT = 0.3
#: The longest wait that an answer may ask for, in seconds.
LONGEST_WAIT = 86_400.0
#: Seconds to agree on a connection, within the budget.
CONNECT_TIMEOUT = 3.0
#: The largest answer that is read, in bytes: all of a user's interviews come in one.
MAX_ANSWER_BYTES = 10_485_760
#: What may stand in a URL as a token; the samples are hexadecimal, of 8 to 64 characters.
TOKEN = re.compile(r"[!-~]{1,1000}")


@dataclass(frozen=True, slots=True)
class PartnerUser:
    """A user as the API answers for one; ``token`` starts single sign-on, and is as good as a password.

    ``token_expires_at`` is None where the API gave no time that can be read.
    """

    partner_id: str
    token: str = field(repr=False)
    token_expires_at: datetime | None
    created_at: datetime | None
    is_new: bool


@dataclass(frozen=True, slots=True)
class TrackStep:
    """One step of a track; ``link`` is a path on the organisation's own Big Interview host."""

    step: str | None
    title: str | None
    link: str | None
    completed: bool | None


@dataclass(frozen=True, slots=True)
class Track:
    """A track guide, and how far the user has come in it: ``progress`` is from 0 to 1."""

    title: str | None
    progress: float | None
    steps: tuple[TrackStep, ...]


class PartnerClient:
    """Asks the Partner API of one organisation.

    ``base_url`` is the organisation's host with its scheme. A call takes ``budget`` seconds at most, its repetitions
    included; the default is the setting ``API_BUDGET_SECONDS``. ``encoding`` is how names are sent, "json" or
    "form"; the default is ``API_ENCODING``. ``transport`` takes the place of the network, as an adapter of requests.
    ``on_key_answer`` is called with each answer that says whether the API accepts the key: True or False.
    Raises ValueError for a key that is blank or could not be sent in a header.

    Every method raises a PartnerAPIError: KeyRejected, UnknownUser, InvalidAttributes, RateLimited, Unavailable or
    UnexpectedAnswer. Redirects are not followed.
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
        self.base_url = base_url.rstrip("/")
        self._auth = _BareKey(checked_key(api_key))
        self.budget = budget or float(settings.API_BUDGET_SECONDS)
        self.encoding = encoding or settings.API_ENCODING
        self.transport = transport
        self._on_key_answer = on_key_answer or (lambda accepted: None)

    def __getstate__(self) -> NoReturn:
        raise TypeError("A client holds the API key: no cache and no message may hold it. Keep the account instead.")

    @sensitive_variables()
    def create_or_refresh_user(self, partner_id: str, *, first_name: str, last_name: str, email: str) -> PartnerUser:
        """Make the user, or give the one there is a new token.

        The API requires names and e-mail address of a new user, and ignores them of a known one. It is
        idempotent, so temporary faults are tried again.
        """
        details = {"first_name": first_name, "last_name": last_name, "email": email}
        user = _read_user(*self._call("POST", f"/api/users/{_segment(partner_id)}", details))
        # A token for somebody else would open somebody else's interviews.
        if user.partner_id != partner_id:
            raise UnexpectedAnswer("The API answered for another user.", status=201 if user.is_new else 200)
        return user

    @sensitive_variables()
    def create_anonymous_user(self) -> PartnerUser:
        """Make a user who has no name, and lives for 24 hours; the vendor has to approve of it for the organisation.

        Each call makes another user, so it is made once.
        """
        return _read_user(*self._call("POST", ANONYMOUS, {}, tries=1))

    def tracks(self, partner_id: str) -> list[Track]:
        """The track guides, with what the user has done of them."""
        _, document = self._call("GET", f"/api/users/{_segment(partner_id)}/tracks")
        return [_read_track(as_mapping(item)) for item in _items(document, "tracks")]

    def interviews(self, partner_id: str) -> list[Interview]:
        """Every interview of the user, latest change first."""
        _, document = self._call("GET", f"/api/users/{_segment(partner_id)}/interviews")
        interviews = map(as_mapping, _items(document, "interviews"))
        return [read_interview(as_text(item.get("id")), partner_id, item) for item in interviews]

    def check_key(self) -> None:
        """Find out whether the API takes the key, by asking for a user whom there cannot be.

        Raises KeyRejected where it does not, and any other PartnerAPIError where that cannot be told.
        """
        with suppress(UnknownUser):
            self.tracks("django-bi-integration-key-check")

    @sensitive_variables()
    def _call(
        self, method: str, path: str, details: Mapping[str, str] | None = None, *, tries: int = TRIES
    ) -> tuple[int, Mapping[str, Any]]:
        deadline = time.monotonic() + self.budget
        for number in count(1):
            try:
                answer = _understand(*self._exchange(method, path, details, deadline), self._auth)
            except KeyRejected as rejection:
                # A 403 for an anonymous user may mean that Big Interview has not approved of such users.
                if path != ANONYMOUS or rejection.status == 401:
                    self._on_key_answer(False)
                raise
            except (UnknownUser, InvalidAttributes):
                self._on_key_answer(True)
                raise
            except TemporaryFailure as failure:
                wait = _back_off(number) if failure.retry_after is None else failure.retry_after
                # What is left after the wait has to be worth a try.
                if number >= tries or wait > (deadline - time.monotonic()) / 2:
                    raise
            else:
                self._on_key_answer(True)
                return answer
            time.sleep(wait)
        raise AssertionError  # count() does not end

    @sensitive_variables()
    def _exchange(
        self, method: str, path: str, details: Mapping[str, str] | None, deadline: float
    ) -> tuple[requests.Response, bytes]:
        """Send one request and read its answer; both end by the deadline, however slowly it drips in."""
        left = max(deadline - time.monotonic(), 0.1)
        transport = self.transport or _Network()
        cut_off = _CutOff(left, transport)
        failure: PartnerAPIError | None = None
        with NoRedirectSession() as session:
            session.mount("http://", transport)
            session.mount("https://", transport)
            try:
                with cut_off:
                    response = session.request(
                        method,
                        self.base_url + path,
                        headers={"Accept": "application/json", "User-Agent": _user_agent()},
                        # As headers=, it would give way to what a .netrc has for this host.
                        auth=self._auth,
                        json=details if self.encoding == "json" else None,
                        data=details if self.encoding == "form" else None,
                        timeout=(min(left, CONNECT_TIMEOUT), left),
                        allow_redirects=False,
                        stream=True,
                    )
                    body = _read(response)
            except PartnerAPIError:
                raise
            except requests.RequestException as error:
                late = cut_off.happened or isinstance(error, requests.Timeout)
                reason = "no answer in time" if late else _reason(error)
                failure = Unavailable(f"The Partner API cannot be reached: {reason}")
            except Exception as error:  # noqa: BLE001 - what the libraries say of an answer that they did not foresee
                failure = UnexpectedAnswer(f"The Partner API's answer cannot be read: {type(error).__name__}")
        if cut_off.happened:  # what was read until then may look whole
            failure = Unavailable("The Partner API cannot be reached: no answer in time")
        if failure is not None:
            # Raised here, where no other error is being handled: that one holds the request, and with it the key.
            raise failure
        return response, body


class NoRedirectSession(requests.Session):
    """Looks at no redirect: even one that is not followed would be parsed, and its body read without a bound."""

    def get_redirect_target(self, resp: requests.Response) -> None:
        return None


class _BareKey(AuthBase):
    """The key is the whole header: no "Bearer", no "Token".

    It is handed on as this, so that no tool which collects the variables of an error shows it.
    """

    def __init__(self, key: str) -> None:
        self.key = key

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = self.key
        return request


class _Network(HTTPAdapter):
    """HTTP, whose connection another thread can cut off: time-outs alone begin anew with every byte."""

    def init_poolmanager(self, *arguments: Any, **options: Any) -> None:
        super().init_poolmanager(*arguments, **options)
        self.lines: list[socket.socket] = []
        self.is_cut_off = False
        self._watch(self.poolmanager)

    def proxy_manager_for(self, *arguments: Any, **options: Any) -> Any:
        manager = super().proxy_manager_for(*arguments, **options)
        self._watch(manager)
        return manager

    def _watch(self, manager: Any) -> None:
        pools = manager.pool_classes_by_scheme
        manager.pool_classes_by_scheme = {scheme: self._watched(pool) for scheme, pool in pools.items()}

    def _watched(self, pool: Any) -> Any:
        network = self

        class Connection(pool.ConnectionCls):  # type: ignore[misc]  # HTTP, HTTPS, or either through a proxy
            def _new_conn(self) -> socket.socket:
                line: socket.socket = super()._new_conn()
                network.lines.append(line.dup())  # before TLS, which would have a say in the shutdown
                if network.is_cut_off:  # while the name was looked up, for example
                    network.cut_off()
                return line

        return type(pool.__name__, (pool,), {"ConnectionCls": Connection})

    def cut_off(self) -> None:
        self.is_cut_off = True
        for line in self.lines:
            with suppress(OSError):  # the other side may have hung up already
                line.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        super().close()
        for line in self.lines:
            line.close()


class _CutOff:
    """Cuts the transport off after so many seconds, unless the block has ended."""

    def __init__(self, seconds: float, transport: BaseAdapter) -> None:
        self.happened = False
        self._timer = threading.Timer(seconds, partial(self._happen, transport))
        self._timer.daemon = True

    def _happen(self, transport: BaseAdapter) -> None:
        self.happened = True
        if isinstance(transport, _Network):
            transport.cut_off()

    def __enter__(self) -> None:
        self._timer.start()

    def __exit__(self, *exception: object) -> None:
        self._timer.cancel()
        self._timer.join()  # so that it never cuts off a line that is closed, whose number another may have by then


def _reason(error: BaseException) -> str:
    """What the operating system says; the libraries' own texts may quote the answer, and with it a token."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, OSError) and seen.strerror:
            return f"{type(seen).__name__}: {clean(seen.strerror, 200)}"
        seen = seen.__cause__ or seen.__context__
    return type(error).__name__


def _back_off(number: int) -> float:
    return float(FIRST_WAIT * 2 ** (number - 1) * uniform(0.5, 1))  # noqa: S311 - no secret


def _user_agent() -> str:
    return f"django-bi-integration/{django_bi_integration.__version__}"


def _segment(partner_id: str) -> str:
    """The id as one segment of a path, whatever is in it."""
    return quote(partner_id, safe="")


@sensitive_variables()
def _read(response: requests.Response) -> bytes:
    body = bytearray()
    for chunk in response.iter_content(65_536):
        body += chunk
        if len(body) > MAX_ANSWER_BYTES:
            raise UnexpectedAnswer("The API's answer is too large.", status=response.status_code)
    return bytes(body)


@sensitive_variables()
def _understand(response: requests.Response, body: bytes, auth: _BareKey) -> tuple[int, Mapping[str, Any]]:
    """The status and the JSON object of a success; raises what any other answer means."""
    status = response.status_code
    try:
        document = read_object(body)
    except ValueError:
        document = None
    if status not in (200, 201):
        raise _failure(response, as_mapping(as_mapping(document).get("error")), auth)
    if document is None:
        raise UnexpectedAnswer("The API's answer is not a JSON object.", status=status)
    return status, document


@sensitive_variables()
def _failure(response: requests.Response, error: Mapping[str, Any], auth: _BareKey) -> PartnerAPIError:
    """What an answer without success means. The API sends ``{"error": {"type", "message"}}`` when it can."""
    status = response.status_code
    # The documentation calls the message "human-readable" and shows an object of fields.
    message = error.get("message")
    fields = _fields(message, auth)
    said = "; ".join(f"{name}: {', '.join(texts)}" for name, texts in fields.items())
    said = clean(said, 500) or _quoted(message, auth, 500)
    told = f"The Partner API answered {status}" + (f": {said}" if said else ".")
    if status in (401, 403):
        return KeyRejected(told, status=status)
    if status == 404 and "html" in response.headers.get("Content-Type", ""):
        return UnexpectedAnswer(
            "There is a web page where the Partner API should be: is the subdomain right?", status=404
        )
    if status == 404:
        return UnknownUser(told, status=status)
    if status == 422:
        return InvalidAttributes(told, status=status, fields=fields)
    if status == 429:
        return RateLimited(told, status=status, retry_after=_retry_after(response))
    if status >= 500:
        return Unavailable(told, status=status, retry_after=_retry_after(response))
    return UnexpectedAnswer(told, status=status)


def _quoted(value: object, auth: _BareKey, length: int) -> str:
    """What the API says, as it may be told: it may quote the key that it rejects."""
    return clean((as_text(value) or "").replace(auth.key, "***"), length)


def _fields(message: object, auth: _BareKey) -> dict[str, tuple[str, ...]]:
    def texts(value: object) -> tuple[str, ...]:
        several: Sequence[object] = value if isinstance(value, list) else [value]
        return tuple(text for item in several if (text := _quoted(item, auth, 200)))

    return {_quoted(name, auth, 100): texts(value) for name, value in as_mapping(message).items()}


def _retry_after(response: requests.Response) -> float | None:
    """Seconds, from a header that has seconds or a date."""
    told = response.headers.get("Retry-After", "").strip()
    if re.fullmatch(r"[0-9]+(\.[0-9]*)?", told):
        return min(float(told), LONGEST_WAIT)
    with suppress(ValueError, TypeError, OverflowError):
        return min(max(0.0, (parsedate_to_datetime(told) - timezone.now()).total_seconds()), LONGEST_WAIT)
    return None


@sensitive_variables()
def _read_user(status: int, document: Mapping[str, Any]) -> PartnerUser:
    user = as_mapping(document.get("user"))
    token = as_mapping(user.get("token"))
    partner_id, text = as_text(user.get("partner_id")), as_text(token.get("token"))
    if partner_id is None or text is None or not TOKEN.fullmatch(text):
        raise UnexpectedAnswer("The API's answer has no partner id, or no token.", status=status)
    return PartnerUser(
        partner_id=partner_id,
        token=text,
        token_expires_at=as_datetime(token.get("expires_at")),
        created_at=as_datetime(user.get("created_at")),
        is_new=status == 201,
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
        raise UnexpectedAnswer(f"The API's answer has no list of {name}.")
    return items
