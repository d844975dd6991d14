"""Find what blocks deliveries before they reach the webhook: middleware, a setting or another URL pattern.

A probe posts to the webhook's URL through the project's whole middleware. A redirect or a rejection there loses events
without a trace, because Innovative Educators counts a redirect as delivered.
"""

import logging
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import copy_context
from dataclasses import dataclass
from functools import wraps
from http.client import responses
from io import BytesIO
from itertools import product
from typing import Any
from urllib.parse import unquote, urlsplit
from wsgiref.util import setup_testing_defaults

from django.conf import settings as django_settings
from django.core.handlers.base import BaseHandler
from django.core.handlers.wsgi import WSGIRequest
from django.core.signals import got_request_exception
from django.http import HttpRequest, HttpResponse
from django.http.request import split_domain_port, validate_host
from django.shortcuts import resolve_url
from django.urls import NoReverseMatch, ResolverMatch, get_script_prefix

from django_bi_integration.paths import REMEDY, own_path
from django_bi_integration.webhooks.views import PROBE_ID, WebhookView

#: An outsider's address (RFC 5737), to find middleware that lets only internal machines pass.
SENDER = "192.0.2.1"
BODY = b"{}"
#: The key of the request's ``META`` that says that our view was reached.
REACHED = "django_bi_integration.reached"
#: The key of the status that the stand-in for our view responds with.
STATUS = "django_bi_integration.status"
#: The statuses of deliveries that are not stored: a rejection, and an unavailable database.
NOT_STORED = (403, 503)


@dataclass(frozen=True)
class Delivery:
    """One of the forms in which a vendor may send a delivery."""

    host: str
    scheme: str = "https"
    slash: bool = True
    headers: bool = True
    #: The status that the stand-in for our view responds with.
    status: int = 200

    @property
    def is_usual(self) -> bool:
        """True if it is sent as it should be: by https, to the URL that was given to the vendor, and stored."""
        return self.scheme == "https" and self.slash and self.headers and self.status == 200

    def is_passed_on(self, status: int) -> bool:
        """Return True if the vendor gets our view's response: 200 if it is stored, otherwise an error."""
        return status == 200 if self.status == 200 else status >= 400

    @property
    def path(self) -> str:
        return webhook_path() if self.slash else webhook_path().rstrip("/")

    def __str__(self) -> str:
        return f"POST {self.scheme}://{self.host}{self.path}{'' if self.headers else ' without a Content-Type'}"

    def request(self) -> WSGIRequest:
        path_info = "/" + unquote(self.path).removeprefix(get_script_prefix())
        environ: dict[str, Any] = {
            "REQUEST_METHOD": "POST",
            "SCRIPT_NAME": get_script_prefix().rstrip("/"),
            "PATH_INFO": path_info.encode().decode("latin-1"),  # as WSGI requires
            "REMOTE_ADDR": SENDER,
            "HTTP_HOST": self.host,
            "CONTENT_LENGTH": str(len(BODY)),
            "wsgi.input": BytesIO(BODY),
            "wsgi.url_scheme": self.scheme,
            STATUS: self.status,
        }
        if self.headers:
            environ |= {"CONTENT_TYPE": "application/json; charset=utf-8", "HTTP_USER_AGENT": "BigInterview/1.0"}
        if self.scheme == "https" and django_settings.SECURE_PROXY_SSL_HEADER:
            name, value = django_settings.SECURE_PROXY_SSL_HEADER
            environ[name] = value
        setup_testing_defaults(environ)
        return WSGIRequest(environ)


@dataclass(frozen=True)
class Answer:
    """The response to a delivery, and whether our view decided it.

    ``route`` is the URL pattern of another view that the path leads to.
    """

    delivery: Delivery
    status: int
    location: str = ""
    is_ours: bool = False
    error: str = ""
    route: str = ""

    @property
    def problem(self) -> str:
        """Describe the problem with an answer that is not our view's."""
        if self.delivery.status == 200:
            return f"{self.delivery} does not reach the webhook: the response is {self}."
        return f"{self.delivery} gets the response {self}, but the webhook's is {self.delivery.status}."

    def __str__(self) -> str:
        if self.error:
            return f"{self.status}, because {self.error}"
        name = responses.get(self.status, "")
        return f"{self.status} {name}{f' to {self.location}' if self.location else ''}"


@dataclass(frozen=True)
class Obstacle:
    """Something that blocks deliveries: all of them, or only those in a certain form."""

    problem: str
    remedy: str
    is_total: bool


class ProbeHandler(BaseHandler):
    """The project's middleware and URLs, around a stand-in for our view.

    The stand-in responds at once, so nothing is looked up, stored or counted. It has the attributes of the view,
    because middleware may decide by them which requests to let pass.
    """

    def resolve_request(self, request: HttpRequest) -> ResolverMatch:
        match = super().resolve_request(request)
        if _is_ours(match):
            match.func = _stand_in(match.func)
        return match


def _is_ours(match: ResolverMatch) -> bool:
    return getattr(match.func, "view_class", None) is WebhookView


def _stand_in(view: Any) -> Any:
    @wraps(view)
    def answer(request: HttpRequest, **kwargs: Any) -> HttpResponse:
        request.META[REACHED] = True
        return HttpResponse(status=request.META[STATUS])

    return answer


def webhook_path() -> str:
    """Return the path of a webhook of no vendor; raise NoReverseMatch if the project does not include our URLs."""
    return own_path("webhook", registration_id=PROBE_ID)


def own_hosts() -> list[str]:
    """Return the hosts that ``ALLOWED_HOSTS`` names, and those that PREPEND_WWW redirects to."""
    allowed = django_settings.ALLOWED_HOSTS
    hosts = [host.removeprefix(".") for host in allowed if host != "*"] or ["localhost"]
    if not django_settings.PREPEND_WWW:
        return hosts
    return hosts + [www for host in hosts if validate_host(www := f"www.{host}", allowed) and www not in hosts]


def find_obstacles(hosts: Iterable[str]) -> list[Obstacle]:
    """Return what blocks deliveries to these hosts."""
    try:
        webhook_path()
    except NoReverseMatch:
        return [Obstacle("The project has no URL for webhooks.", REMEDY, is_total=True)]
    answers = probe(hosts)
    is_reachable = any(answer.is_ours for answer in answers if answer.delivery.is_usual)
    first_of_each: dict[tuple[int, str], Answer] = {}
    for answer in answers:
        if not answer.is_ours:
            first_of_each.setdefault((answer.status, find_remedy(answer)), answer)
    return [
        Obstacle(
            answer.problem,
            remedy,
            is_total=answer.delivery.is_usual and not is_reachable,
        )
        for (_, remedy), answer in first_of_each.items()
    ]


def probe(hosts: Iterable[str]) -> list[Answer]:
    """Deliver in every form to each host, without a session: the usual form first, those that are not stored last."""
    forms = product(("https", "http"), (True, False), (True, False))
    deliveries = [Delivery(host, *form) for form in forms for host in hosts]
    deliveries += [Delivery(host, status=status) for status in NOT_STORED for host in hosts]
    handler = ProbeHandler()
    with _nothing_logged():
        try:
            handler.load_middleware()
        except Exception as error:  # noqa: BLE001 - middleware may raise anything, and the project cannot start then
            return [Answer(delivery, 500, error=_shown(error)) for delivery in deliveries]
        # Middleware may set the language, the time zone or the URLconf. Each delivery gets a separate context.
        return [copy_context().run(_post, handler, delivery) for delivery in deliveries]


@contextmanager
def _nothing_logged() -> Iterator[None]:
    """Keep Django from logging each rejected delivery and from mailing each error to ADMINS."""
    previous = logging.root.manager.disable
    logging.disable()
    try:
        yield
    finally:
        logging.disable(previous)


def _post(handler: ProbeHandler, delivery: Delivery) -> Answer:
    request = delivery.request()
    errors: list[str] = []

    def note(**kwargs: Any) -> None:
        errors.append(_shown(sys.exception()))

    got_request_exception.connect(note)
    try:
        response = handler.get_response(request)
    except Exception as error:  # noqa: BLE001 - DEBUG_PROPAGATE_EXCEPTIONS lets middleware's exceptions through
        return Answer(delivery, 500, error=_shown(error))
    finally:
        got_request_exception.disconnect(note)
    return Answer(
        delivery,
        response.status_code,
        location=response.get("Location", ""),
        is_ours=request.META.get(REACHED, False) and delivery.is_passed_on(response.status_code),
        error=errors[0] if errors else "",
        route=match.route if (match := request.resolver_match) and not _is_ours(match) else "",
    )


def _shown(error: BaseException | None) -> str:
    return f"{type(error).__name__} was raised: {error}"


def find_remedy(answer: Answer) -> str:
    """Return a remedy for an answer, depending on its probable sender."""
    delivery, target = answer.delivery, urlsplit(answer.location)
    domain, _ = split_domain_port(delivery.host)
    if answer.status == 400 and not validate_host(domain, django_settings.ALLOWED_HOSTS):
        return "Add the host of the vendors' URL to ALLOWED_HOSTS."
    if target.scheme == "https" and delivery.scheme == "http" and django_settings.SECURE_SSL_REDIRECT:
        return _exempt_from_https()
    if django_settings.PREPEND_WWW and target.netloc == f"www.{delivery.host}":
        return "PREPEND_WWW redirects it. Give the vendors only the URL with www. in front of the host."
    if answer.route:
        return f"The URL pattern {answer.route!r} matches the path. Put the package's URLs before it."
    place = f"Let {_shared_path()} pass in {_suspects()}."
    if target.path and target.path == urlsplit(resolve_url(django_settings.LOGIN_URL)).path:
        return f"A vendor cannot log in. {place}"
    if answer.status in (401, 403):
        return f"The view authenticates deliveries itself, and needs no session or CSRF token. {place}"
    if answer.status == 404:
        return f"Middleware may choose a URLconf that lacks the package's URLs. {place}"
    return place


def _exempt_from_https() -> str:
    pattern = "^" + _shared_path().lstrip("/")
    remedy = (
        "SECURE_SSL_REDIRECT redirects plain http. Give the vendors only https:// URLs, and accept a delivery by http"
        f" anyway: SECURE_REDIRECT_EXEMPT = [r{pattern!r}]."
    )
    if getattr(django_settings, "SECURE_PROXY_SSL_HEADER", None):
        return remedy
    return f"{remedy} If a proxy terminates TLS, set SECURE_PROXY_SSL_HEADER. Without it, https is redirected, too."


def _shared_path() -> str:
    """Return the beginning that the paths of all registrations share."""
    return webhook_path().removesuffix(f"{PROBE_ID}/")


def _suspects() -> str:
    """Return the middleware that may have responded. Django's own lets webhooks pass, except for the cases above."""
    foreign = [name for name in django_settings.MIDDLEWARE if not name.startswith("django.")]
    return " or ".join(foreign) or "your middleware"
