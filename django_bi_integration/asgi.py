"""For a project's ``asgi.py``: limit the size of the body of a request to a webhook.

Under ASGI, Django reads the whole body, into a file if it is large, before it looks for a view.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from django.core.handlers.asgi import get_script_prefix
from django.urls import Resolver404, resolve
from django.utils import translation

from django_bi_integration.conf import settings

__all__ = ["limit_body"]

Scope = dict[str, Any]
Message = Mapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

#: A part of each webhook's path, so that most requests are passed on without being resolved.
PART = "webhooks/"


def limit_body(application: Application, *, urlconf: str | None = None) -> Application:
    """Wrap an ASGI application so that a webhook reads no more of a body than ``MAX_BODY_BYTES`` and one byte.

    The wrapper sends no response itself. It ends the body early, and the view rejects the request with the usual
    status: 404, 401, 403 or 413. Requests for other URLs, and other protocols, are passed on unchanged.
    ``urlconf`` is the URLconf that includes this package's URLs, if it is not ``ROOT_URLCONF``. If there are several,
    wrap the application once for each.
    """

    async def limited(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and _is_webhook(scope, urlconf):
            receive = _Limited(receive, _declared_length(scope), settings.MAX_BODY_BYTES)
        await application(scope, receive, send)

    return limited


def _is_webhook(scope: Scope, urlconf: str | None) -> bool:
    path: str = scope["path"]
    prefix = get_script_prefix(scope).rstrip("/")
    if path.startswith(f"{prefix}/"):
        path = path[len(prefix) :]
    if PART not in path:
        return False
    # If the URLs are in i18n_patterns, the language is a part of the path, as for LocaleMiddleware.
    with translation.override(translation.get_language_from_path(path)):
        try:
            match = resolve(path, urlconf)
        except Resolver404:
            return False
    return match.app_names[-1:] == ["django_bi_integration"] and match.url_name == "webhook"


def _declared_length(scope: Scope) -> float:
    """Return the Content-Length, or 0. It is a float, because Python does not parse an int of 5,000 digits."""
    length = dict(scope["headers"]).get(b"content-length", b"")
    return float(length) if length.isdigit() else 0


class _Limited:
    """The ``receive`` of a request: pass on the body up to one byte above the limit, and then end it."""

    def __init__(self, receive: Receive, declared: float, limit: int) -> None:
        self._receive = receive
        # If the declared length is too large, nothing of the body is read, because the view checks the header first.
        self._left = limit + 1 if declared <= limit else 0
        self._is_cut = False

    async def __call__(self) -> Message:
        if self._is_cut:
            # The server still waits to pass on the rest. Django now only waits for a disconnect, and cancels this call
            # when the response has been sent.
            await asyncio.get_running_loop().create_future()
        if self._left == 0:
            return self._end(b"")
        message = await self._receive()
        body = message.get("body", b"")
        if len(body) >= self._left and message["type"] == "http.request":
            return self._end(body[: self._left])
        self._left -= len(body)
        return message

    def _end(self, body: bytes) -> Message:
        self._is_cut = True
        return {"type": "http.request", "body": body, "more_body": False}
