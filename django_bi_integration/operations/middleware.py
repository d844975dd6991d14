"""Post to the webhook's own URL through the project's whole middleware, and see who answers.

Whatever redirects a delivery or turns it away before our view decides loses an event without a trace: Innovative
Educators counts a redirect as delivered.
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

#: Any outsider's address (RFC 5737): what lets only one's own machines pass shall show.
SENDER = "192.0.2.1"
BODY = b"{}"
#: The key of the request's ``META`` that tells that our view was reached.
REACHED = "django_bi_integration.reached"
#: Another one, which tells the stand-in for it what to answer.
STATUS = "django_bi_integration.status"
#: What our view says of a delivery that is not stored: it is rejected, or the database is away.
NOT_STORED = (403, 503)


@dataclass(frozen=True)
class Delivery:
    """One of the forms in which a vendor's delivery may come."""

    host: str
    scheme: str = "https"
    slash: bool = True
    headers: bool = True
    #: What the stand-in for our view answers with.
    status: int = 200

    @property
    def is_usual(self) -> bool:
        """Whether it comes as it should, by https, to the URL that was given to the vendor, and is stored."""
        return self.scheme == "https" and self.slash and self.headers and self.status == 200

    def is_told(self, status: int) -> bool:
        """Whether the vendor gets to know what our view answered: 200 alone is stored, no other may look delivered."""
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
            "PATH_INFO": path_info.encode().decode("latin-1"),  # as WSGI wants it
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
    """What a delivery was answered with, and whether it was our view that decided so.

    ``route`` is the URL pattern of another view that the path led to.
    """

    delivery: Delivery
    status: int
    location: str = ""
    is_ours: bool = False
    error: str = ""
    route: str = ""

    @property
    def problem(self) -> str:
        """What is wrong with it, where it is not ours."""
        if self.delivery.status == 200:
            return f"{self.delivery} does not reach the webhook: the answer is {self}."
        return f"{self.delivery} is answered with {self} where the webhook says {self.delivery.status}."

    def __str__(self) -> str:
        if self.error:
            return f"{self.status}, since {self.error}"
        name = responses.get(self.status, "")
        return f"{self.status} {name}{f' to {self.location}' if self.location else ''}"


@dataclass(frozen=True)
class Wall:
    """Something that keeps deliveries from our view: all of them, or those alone that come in a certain form."""

    problem: str
    remedy: str
    is_total: bool


class ProbeHandler(BaseHandler):
    """The project's middleware and URLs, around a stand-in for our view.

    The stand-in answers at once, so nothing is looked up, stored or counted. It has the attributes of the view, by
    which middleware tells what to let pass.
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
    """Return the path of a URL that is no vendor's; raise NoReverseMatch if the project does not include our URLs."""
    return own_path("webhook", registration_id=PROBE_ID)


def own_hosts() -> list[str]:
    """The hosts of ``ALLOWED_HOSTS``, as far as it names them; and those that PREPEND_WWW redirects to."""
    allowed = django_settings.ALLOWED_HOSTS
    hosts = [host.removeprefix(".") for host in allowed if host != "*"] or ["localhost"]
    if not django_settings.PREPEND_WWW:
        return hosts
    return hosts + [www for host in hosts if validate_host(www := f"www.{host}", allowed) and www not in hosts]


def find_walls(hosts: Iterable[str]) -> list[Wall]:
    """Whatever turns deliveries away that come to these hosts."""
    try:
        webhook_path()
    except NoReverseMatch:
        return [Wall("The project has no URL for webhooks.", REMEDY, is_total=True)]
    answers = probe(hosts)
    a_way_in = any(answer.is_ours for answer in answers if answer.delivery.is_usual)
    first_of_each: dict[tuple[int, str], Answer] = {}
    for answer in answers:
        if not answer.is_ours:
            first_of_each.setdefault((answer.status, find_remedy(answer)), answer)
    return [
        Wall(
            answer.problem,
            remedy,
            is_total=answer.delivery.is_usual and not a_way_in,
        )
        for (_, remedy), answer in first_of_each.items()
    ]


def probe(hosts: Iterable[str]) -> list[Answer]:
    """Deliver in every form to each of the hosts, signed out; the usual form first, what is not stored last."""
    forms = product(("https", "http"), (True, False), (True, False))
    deliveries = [Delivery(host, *form) for form in forms for host in hosts]
    deliveries += [Delivery(host, status=status) for status in NOT_STORED for host in hosts]
    handler = ProbeHandler()
    with _nothing_logged():
        try:
            handler.load_middleware()
        except Exception as error:  # noqa: BLE001 - middleware raises what it likes, and the project cannot start then
            return [Answer(delivery, 500, error=_shown(error)) for delivery in deliveries]
        # Middleware may set the language, the time zone, the URLconf: what it sets is forgotten after each delivery.
        return [copy_context().run(_post, handler, delivery) for delivery in deliveries]


@contextmanager
def _nothing_logged() -> Iterator[None]:
    """Django would log each delivery that is turned away, and mail each error to ADMINS: the answers tell it."""
    former = logging.root.manager.disable
    logging.disable()
    try:
        yield
    finally:
        logging.disable(former)


def _post(handler: ProbeHandler, delivery: Delivery) -> Answer:
    request = delivery.request()
    errors: list[str] = []

    def note(**kwargs: Any) -> None:
        errors.append(_shown(sys.exception()))

    got_request_exception.connect(note)
    try:
        response = handler.get_response(request)
    except Exception as error:  # noqa: BLE001 - DEBUG_PROPAGATE_EXCEPTIONS lets through what middleware raises
        return Answer(delivery, 500, error=_shown(error))
    finally:
        got_request_exception.disconnect(note)
    return Answer(
        delivery,
        response.status_code,
        location=response.get("Location", ""),
        is_ours=request.META.get(REACHED, False) and delivery.is_told(response.status_code),
        error=errors[0] if errors else "",
        route=match.route if (match := request.resolver_match) and not _is_ours(match) else "",
    )


def _shown(error: BaseException | None) -> str:
    return f"{type(error).__name__} was raised: {error}"


def find_remedy(answer: Answer) -> str:
    """Who probably answered in our place, and what to do about it."""
    delivery, target = answer.delivery, urlsplit(answer.location)
    domain, _ = split_domain_port(delivery.host)
    if answer.status == 400 and not validate_host(domain, django_settings.ALLOWED_HOSTS):
        return "Add the host of the vendors' URL to ALLOWED_HOSTS."
    if target.scheme == "https" and delivery.scheme == "http" and django_settings.SECURE_SSL_REDIRECT:
        return _exempt_from_https()
    if django_settings.PREPEND_WWW and target.netloc == f"www.{delivery.host}":
        return "PREPEND_WWW redirects it: give the vendors the URL with www. in front of the host, and no other."
    if answer.route:
        return f"The URL pattern {answer.route!r} takes the path: put the package's own in front of it."
    place = f"Let {_shared_path()} pass in {_suspects()}."
    if target.path and target.path == urlsplit(resolve_url(django_settings.LOGIN_URL)).path:
        return f"A vendor cannot log in. {place}"
    if answer.status in (401, 403):
        return f"The view asks for its own proof, and for no session or CSRF token. {place}"
    if answer.status == 404:
        return f"Middleware may choose a URLconf that lacks the package's URLs. {place}"
    return place


def _exempt_from_https() -> str:
    pattern = "^" + _shared_path().lstrip("/")
    remedy = (
        "SECURE_SSL_REDIRECT redirects plain http. Give the vendors https:// URLs alone, and let a delivery that comes"
        f" by http all the same arrive: SECURE_REDIRECT_EXEMPT = [r{pattern!r}]."
    )
    if getattr(django_settings, "SECURE_PROXY_SSL_HEADER", None):
        return remedy
    return f"{remedy} If a proxy ends TLS, set SECURE_PROXY_SSL_HEADER: without it, https is redirected as well."


def _shared_path() -> str:
    """What the paths of all registrations begin with."""
    return webhook_path().removesuffix(f"{PROBE_ID}/")


def _suspects() -> str:
    """The middleware that may have answered: Django's own lets webhooks pass, but for what is told by name."""
    foreign = [name for name in django_settings.MIDDLEWARE if not name.startswith("django.")]
    return " or ".join(foreign) or "your middleware"
