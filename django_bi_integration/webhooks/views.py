"""Where vendors post their events."""

import logging
from collections.abc import Callable
from typing import Any
from uuid import UUID

from django.db import Error as DatabaseFailure
from django.db import connections, transaction
from django.http import HttpResponse, UnreadablePostError
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.debug import sensitive_variables
from rest_framework import status
from rest_framework.exceptions import APIException
from rest_framework.negotiation import BaseContentNegotiation
from rest_framework.renderers import BaseRenderer, JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView, exception_handler

from django_bi_integration.conf import settings
from django_bi_integration.models import WebhookRegistration
from django_bi_integration.models.registration import RegistrationChanged
from django_bi_integration.sql import error_number
from django_bi_integration.text import end_of
from django_bi_integration.webhooks import rejections
from django_bi_integration.webhooks.authentication import FromAllowedNetwork, RegistrationKey, find_registration, prove
from django_bi_integration.webhooks.client_address import client_address, forwarded_for, peer
from django_bi_integration.webhooks.receive import receive
from django_bi_integration.webhooks.rejection_counter import Kind, Source, rejection_counter
from django_bi_integration.webhooks.self_report import report_for

logger = logging.getLogger(__name__)

STORED = b'{"status":"stored"}'

#: An id that no registration has. ``bi_doctor`` posts to it: it is rejected like any unknown one, and not counted. With
#: a signed token, the answer also reports the address that this process sees, and whether it notifies workers.
PROBE_ID = UUID(int=0)


class StorageUnavailable(APIException):
    """The event could not be stored; the vendor shall send it again."""

    status_code = status.HTTP_503_SERVICE_UNAVAILABLE
    default_detail = "Try again later."
    wait = 30  # seconds; becomes Retry-After


class AlwaysJSON(BaseContentNegotiation):
    """Answers in JSON whatever the vendor's ``Accept`` or ``?format=`` says."""

    def select_parser(self, request: Request, parsers: Any) -> None:
        return None

    def select_renderer(
        self, request: Request, renderers: Any, format_suffix: str | None = None
    ) -> tuple[BaseRenderer, str]:
        return renderers[0], renderers[0].media_type


class WebhookView(APIView):
    """Where a vendor posts its events. Every policy is set here, so that no project-wide default applies."""

    authentication_classes = [RegistrationKey]
    permission_classes = [FromAllowedNetwork]
    throttle_classes = []
    parser_classes = []
    renderer_classes = [JSONRenderer]
    content_negotiation_class = AlwaysJSON
    versioning_class = None
    metadata_class = None
    schema = None
    http_method_names = ["post"]

    registration: WebhookRegistration
    #: Whether this process knew it, and the database is yet to be asked if it is still so.
    is_recalled = False

    @classmethod
    def as_view(cls, **options: Any) -> Any:
        # The report of an error has neither the key nor what the body says of a student.
        view = sensitive_variables()(super().as_view(**options))
        # A request's own transaction would end after the answer was decided, and could then still fail. One on
        # another database of the host's would need that to be there.
        for alias in connections:
            view = transaction.non_atomic_requests(using=alias)(view)
        return csrf_exempt(view)

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        if request.method != "POST":
            raise rejections.WrongMethod
        super().initial(request, *args, **kwargs)

    def post(self, request: Request, registration_id: UUID) -> HttpResponse:
        try:
            body = read_body(request)
            receive(self.registration, body, recalled=self.is_recalled)
        except RegistrationChanged:
            self._prove_anew(request)
            receive(self.registration, body)
        except rejections.Rejected:
            if self.is_recalled:  # it rejects for a reason of its own where it is not so any more
                self._prove_anew(request)
            raise
        return HttpResponse(STORED, content_type="application/json")

    def _prove_anew(self, request: Request) -> None:
        del self.registration  # where it is gone, the rejection is counted without it
        self.registration = find_registration(self.kwargs["registration_id"])
        prove(self.registration, request)

    def handle_exception(self, exc: Exception) -> Response:
        if isinstance(exc, DatabaseFailure):
            # What a database says of a value may quote it; its own number for the error does not.
            logger.error("delivery not stored: %s %s", type(exc).__name__, error_number(exc))
            exc = StorageUnavailable()
        if self.kwargs["registration_id"] == PROBE_ID:
            return self._with_report(super().handle_exception(exc))
        if isinstance(exc, rejections.Rejected):
            self._count(exc)
        return super().handle_exception(exc)

    def _with_report(self, response: Response) -> Response:
        """Add the process's report for ``bi_doctor``, whose request has a signed token, to the rejection."""
        if report := report_for(self.request):
            response.data["report"] = report
            response["Cache-Control"] = "no-store"
        return response

    def get_exception_handler(self) -> Callable[..., Response | None]:
        return exception_handler

    def _count(self, rejection: rejections.Rejected) -> None:
        registration = getattr(self, "registration", None)
        source = Source(
            Kind(registration and registration.pk, rejection.reason),
            address=str(client_address(self.request) or ""),
            peer=end_of(peer(self.request), 64),
        )
        rejection_counter.add(source, end_of(forwarded_for(self.request), 200))


def read_body(request: Request) -> bytes:
    """The body, bounded by our own limit instead of the project's, whose excess would be a 400 in HTML.

    Raises LengthRequired, TooLarge, or NotAnObject where the sender broke off.
    """
    length = request.META.get("CONTENT_LENGTH") or ""
    most: int = settings.MAX_BODY_BYTES
    # As a float: Python reads no whole number of 5,000 digits.
    if length.isdecimal() and float(length) > most:
        raise rejections.TooLarge
    try:
        body = request.read(most + 1)
    except UnreadablePostError as error:
        raise rejections.NotAnObject from error
    if len(body) > most:
        raise rejections.TooLarge
    if not body and not length:
        raise rejections.LengthRequired
    return body
