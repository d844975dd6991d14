"""HTTP requests to the Partner API: each ends in time, and each error is a PartnerAPIError."""

import re
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import Any

import requests
from django.utils import timezone
from django.views.decorators.debug import sensitive_variables
from requests.adapters import BaseAdapter
from requests.auth import AuthBase

import django_bi_integration
from django_bi_integration.exceptions import (
    InvalidAttributes,
    KeyRejected,
    PartnerAPIError,
    RateLimited,
    Unavailable,
    UnexpectedResponse,
    UnknownUser,
)
from django_bi_integration.json_body import read_object
from django_bi_integration.text import clean
from django_bi_integration.vendors.json_values import as_mapping, as_text

#: The time to connect, in seconds, unless less is left.
CONNECT_TIMEOUT = 3.0
#: How much of the body is read between two looks at the clock, in bytes.
PIECE = 64
#: The largest body that is read, in bytes. All of a user's interviews come in one.
MAX_ANSWER_BYTES = 10_485_760
#: The longest wait that is read from a ``Retry-After`` header, in seconds.
LONGEST_WAIT = 86_400.0


@dataclass(frozen=True, slots=True)
class Answer:
    """A success: the status, 200 or 201, and the JSON object in the body, which may contain a token."""

    status: int
    document: Mapping[str, Any] = field(repr=False)


class NoRedirectSession(requests.Session):
    """Ignores redirects. Even with ``allow_redirects=False``, requests would parse them and read the whole body."""

    def get_redirect_target(self, resp: requests.Response) -> None:
        return None


class BareKey(AuthBase):
    """Sends the API key as the whole ``Authorization`` header, without a scheme such as "Bearer".

    The key is passed around as this object, so that tools which collect the variables of an error do not show it.
    """

    def __init__(self, key: str) -> None:
        self.key = key

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = self.key
        return request


class Transport:
    """Requests to one host. ``adapter`` replaces the network; ``encoding`` is "json" or "form".

    A request ends at its deadline. A wait for a connection or for data may last for the time that is left when the
    request is sent, and the deadline is checked after every ``PIECE`` bytes of the body, so a slow connection or a body
    that stalls exceeds the deadline by one such wait at most.

    One case has no limit: Python reads the headers, and the lines between the chunks of a chunked body, in one call. A
    server that drips them byte by byte can hold the request for longer. ``MAX_CONCURRENT_LAUNCHES`` bounds how many
    launches of a process it can hold.
    """

    def __init__(self, base_url: str, auth: BareKey, *, encoding: str, adapter: BaseAdapter | None) -> None:
        self.base_url = base_url.rstrip("/")
        self.encoding = encoding
        self.adapter = adapter
        self._auth = auth

    @sensitive_variables()
    def send(self, method: str, path: str, details: Mapping[str, str] | None, deadline: float) -> Answer:
        """Send one request and return the answer; raise PartnerAPIError for any answer that is not a success.

        ``deadline`` is a time of ``time.monotonic()``.
        """
        response, body = self._exchange(method, path, details, deadline)
        try:
            document = read_object(body)
        except ValueError:
            document = None
        if response.status_code not in (200, 201):
            raise self._error(response, as_mapping(as_mapping(document).get("error")))
        if document is None:
            raise UnexpectedResponse("The API's answer is not a JSON object.", status=response.status_code)
        return Answer(response.status_code, document)

    @sensitive_variables()
    def _exchange(
        self, method: str, path: str, details: Mapping[str, str] | None, deadline: float
    ) -> tuple[requests.Response, bytes]:
        failure: PartnerAPIError
        try:
            with NoRedirectSession() as session:
                response = self._request(session, method, path, details, deadline)
                return response, _read(response, deadline)
        except PartnerAPIError:
            raise
        except requests.RequestException as error:
            failure = Unavailable(f"The Partner API cannot be reached: {_reason(error, deadline)}")
        except Exception as error:  # noqa: BLE001 - requests and urllib3 leak other exceptions for malformed responses
            failure = UnexpectedResponse(f"The Partner API's answer cannot be read: {type(error).__name__}")
        # Raised outside of the except clauses: their exception holds the request, and with it the key.
        raise failure

    @sensitive_variables()
    def _request(
        self,
        session: requests.Session,
        method: str,
        path: str,
        details: Mapping[str, str] | None,
        deadline: float,
    ) -> requests.Response:
        if self.adapter is not None:
            session.mount("http://", self.adapter)
            session.mount("https://", self.adapter)
        left = max(deadline - time.monotonic(), 0.1)
        return session.request(
            method,
            self.base_url + path,
            headers={"Accept": "application/json", "User-Agent": _user_agent()},
            auth=self._auth,  # a header set with headers= would be replaced by the credentials in a .netrc file
            json=details if self.encoding == "json" else None,
            data=details if self.encoding == "form" else None,
            timeout=(min(left, CONNECT_TIMEOUT), left),
            allow_redirects=False,
            stream=True,
        )

    @sensitive_variables()
    def _error(self, response: requests.Response, error: Mapping[str, Any]) -> PartnerAPIError:
        """Return the exception for a response. The API's ``{"error": {"type", "message"}}`` may be missing."""
        status = response.status_code
        # The documentation calls the message "human-readable", but shows an object with a list of texts for each field.
        message = error.get("message")
        fields = self._fields(message)
        quote = clean("; ".join(f"{name}: {', '.join(texts)}" for name, texts in fields.items()), 500)
        quote = quote or self._redacted(message, 500)
        text = f"The Partner API answered {status}" + (f": {quote}" if quote else ".")
        if status in (401, 403):
            return KeyRejected(text, status=status)
        if status == 404 and "html" in response.headers.get("Content-Type", ""):
            return UnexpectedResponse("The Partner API's URL leads to a web page. Check the subdomain.", status=status)
        if status == 404:
            return UnknownUser(text, status=status)
        if status == 422:
            return InvalidAttributes(text, status=status, fields=fields)
        if status == 429:
            return RateLimited(text, status=status, retry_after=_retry_after(response))
        if status >= 500:
            return Unavailable(text, status=status, retry_after=_retry_after(response))
        return UnexpectedResponse(text, status=status)

    def _fields(self, message: object) -> dict[str, tuple[str, ...]]:
        def texts(value: object) -> tuple[str, ...]:
            several: Sequence[object] = value if isinstance(value, list) else [value]
            return tuple(text for item in several if (text := self._redacted(item, 200)))

        return {self._redacted(name, 100): texts(value) for name, value in as_mapping(message).items()}

    def _redacted(self, value: object, length: int) -> str:
        """Return a text of the API without the key, which the API may quote when it rejects the key."""
        return clean((as_text(value) or "").replace(self._auth.key, "***"), length)


@sensitive_variables()
def _read(response: requests.Response, deadline: float) -> bytes:
    body = bytearray()
    pieces = response.iter_content(PIECE)
    while time.monotonic() < deadline:
        piece = next(pieces, None)
        if piece is None:
            return bytes(body)
        body += piece
        if len(body) > MAX_ANSWER_BYTES:
            raise UnexpectedResponse("The API's answer is too large.", status=response.status_code)
    raise Unavailable("The Partner API cannot be reached: no answer in time")


def _reason(error: requests.RequestException, deadline: float) -> str:
    """Return why there is no answer, without the libraries' texts, which may quote the response and its token."""
    if isinstance(error, requests.Timeout) or time.monotonic() >= deadline:
        return "no answer in time"
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, OSError) and seen.strerror:
            return f"{type(seen).__name__}: {clean(seen.strerror, 200)}"
        seen = seen.__cause__ or seen.__context__
    return type(error).__name__


def _retry_after(response: requests.Response) -> float | None:
    """Return the header in seconds, given as seconds or as a date; None if it is missing or invalid."""
    text = response.headers.get("Retry-After", "").strip()
    if re.fullmatch(r"[0-9]+(\.[0-9]*)?", text):
        return min(float(text), LONGEST_WAIT)
    with suppress(ValueError, TypeError, OverflowError):
        return min(max(0.0, (parsedate_to_datetime(text) - timezone.now()).total_seconds()), LONGEST_WAIT)
    return None


def _user_agent() -> str:
    return f"django-bi-integration/{django_bi_integration.__version__}"
