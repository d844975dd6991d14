"""For a project's ``asgi.py``: bound what a request to a webhook may upload.

Under ASGI, Django reads the whole body, into a file if it is large, before it looks for a view.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from django.core.handlers.asgi import get_script_prefix
from django.urls import Resolver404, resolve
from django.utils import translation

from django_bi_integration.conf import settings

Scope = dict[str, Any]
Message = Mapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

#: A part of each webhook's path: most requests are passed on without being resolved.
PART = "webhooks/"


def limit_body(application: Application, *, urlconf: str | None = None) -> Application:
    """Wrap an ASGI application so that a webhook reads no more of a body than ``MAX_BODY_BYTES`` and one byte.

    The wrapper answers nothing itself. It ends the body early, and the view rejects the request with the status that it
    gives any other: 404, 401, 403 or 413. Requests for other URLs, and other protocols, are passed on untouched.
    ``urlconf`` is the URLconf that includes this package's URLs, if it is not ``ROOT_URLCONF``; with several, call this
    once for each.
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
    # The language is a part of the path if the URLs are in i18n_patterns, as LocaleMiddleware will find out.
    with translation.override(translation.get_language_from_path(path)):
        try:
            match = resolve(path, urlconf)
        except Resolver404:
            return False
    return match.app_names[-1:] == ["django_bi_integration"] and match.url_name == "webhook"


def _declared_length(scope: Scope) -> float:
    """Return the Content-Length, 0 if there is none. As a float, because Python reads no integer of 5,000 digits."""
    length = dict(scope["headers"]).get(b"content-length", b"")
    return float(length) if length.isdigit() else 0


class _Limited:
    """The ``receive`` of a request: hand on the body up to one byte above the limit, and then say that it has ended."""

    def __init__(self, receive: Receive, declared: float, limit: int) -> None:
        self._receive = receive
        # Of a body that declares itself too large, nothing is read: the view looks at the header first.
        self._left = limit + 1 if declared <= limit else 0
        self._is_cut = False

    async def __call__(self) -> Message:
        if self._is_cut:
            # The server still waits to hand on the rest. Django listens for a disconnect meanwhile, and accepts nothing
            # else: it cancels this when the response has been sent.
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
