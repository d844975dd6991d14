"""The view that vendors post their events to."""

from collections.abc import Callable
from functools import cached_property, partial
from typing import Any
from uuid import UUID

from django.db import Error as DatabaseFailure
from django.db import connections, transaction
from django.http import HttpRequest, HttpResponse, UnreadablePostError
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.debug import sensitive_variables
from rest_framework.negotiation import BaseContentNegotiation
from rest_framework.renderers import BaseRenderer, JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView, exception_handler

from django_bi_integration.conf import settings
from django_bi_integration.models import WebhookRegistration
from django_bi_integration.webhooks import rejections
from django_bi_integration.webhooks.authentication import authenticate
from django_bi_integration.webhooks.receive import receive
from django_bi_integration.webhooks.registration_cache import with_registration
from django_bi_integration.webhooks.rejection_counter import rejection_counter
from django_bi_integration.webhooks.self_report import report_for

STORED = b'{"status":"stored"}'

#: An id that no registration has. ``bi_doctor`` posts to it: the request is rejected like one to any unknown id, and
#: not counted. If it has a signed token, the response also reports the address that this process sees, and whether the
#: process notifies workers.
PROBE_ID = UUID(int=0)


class AlwaysJSON(BaseContentNegotiation):
    """Respond in JSON whatever the vendor's ``Accept`` or ``?format=`` says."""

    def select_parser(self, request: Request, parsers: Any) -> None:
        return None

    def select_renderer(
        self, request: Request, renderers: Any, format_suffix: str | None = None
    ) -> tuple[BaseRenderer, str]:
        return renderers[0], renderers[0].media_type


class WebhookView(APIView):
    """Receive one delivery. Every policy is set here, so that no project-wide default applies."""

    authentication_classes = []  # by the registration, in post()
    permission_classes = []
    throttle_classes = []
    parser_classes = []
    renderer_classes = [JSONRenderer]
    content_negotiation_class = AlwaysJSON
    versioning_class = None
    metadata_class = None
    schema = None
    http_method_names = ["post"]

    @classmethod
    def as_view(cls, **options: Any) -> Any:
        # An error report must contain neither the key nor what the body says about a student.
        view = sensitive_variables()(super().as_view(**options))
        # A transaction around the request would end after the response was decided, and could still fail then. One on
        # another database of the host's would make deliveries depend on that database.
        for alias in connections:
            view = transaction.non_atomic_requests(using=alias)(view)
        return csrf_exempt(view)

    def post(self, request: Request, registration_id: UUID) -> HttpResponse:
        with_registration(registration_id, partial(self._receive, request))
        return HttpResponse(STORED, content_type="application/json")

    def _receive(self, request: Request, registration: WebhookRegistration, expected_row: str | None) -> None:
        authenticate(request, registration)
        if isinstance(self._body, rejections.Rejected):
            raise self._body
        receive(registration, self._body, expected_row=expected_row)

    @cached_property
    def _body(self) -> bytes | rejections.Rejected:
        """The body, or its rejection. A body can be read only once, whatever the registration is tried with."""
        try:
            return read_body(self.request)
        except rejections.Rejected as rejection:
            return rejection

    def http_method_not_allowed(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Response:
        raise rejections.WrongMethod

    def handle_exception(self, exc: Exception) -> Response:
        if isinstance(exc, DatabaseFailure):
            exc = rejections.storage_unavailable(exc)
        if self.kwargs["registration_id"] == PROBE_ID:
            return self._with_report(super().handle_exception(exc))
        if isinstance(exc, rejections.Rejected):
            rejection_counter.count(exc, self.request, self.kwargs["registration_id"])
        return super().handle_exception(exc)

    def _with_report(self, response: Response) -> Response:
        """Add this process's report to the response if the request, one of ``bi_doctor``'s, has a signed token."""
        if report := report_for(self.request):
            response.data["report"] = report
            response["Cache-Control"] = "no-store"
        return response

    def get_exception_handler(self) -> Callable[..., Response | None]:
        return exception_handler


def read_body(request: Request) -> bytes:
    """Read the body, bounded by our own limit: a body above the project's would be answered with a 400 in HTML.

    Raise LengthRequired, TooLarge, or NotAnObject if the sender broke off.
    """
    length = request.META.get("CONTENT_LENGTH") or ""
    limit: int = settings.MAX_BODY_BYTES
    # As a float, because Python does not parse an integer of 5,000 digits.
    if length.isdecimal() and float(length) > limit:
        raise rejections.TooLarge
    try:
        body = request.read(limit + 1)
    except UnreadablePostError as error:
        raise rejections.NotAnObject from error
    if len(body) > limit:
        raise rejections.TooLarge
    if not body and not length:
        raise rejections.LengthRequired
    return body
