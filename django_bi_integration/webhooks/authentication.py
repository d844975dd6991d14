"""The proofs that a registration asks for: the bare key, and the client's address."""

from contextlib import suppress
from typing import TYPE_CHECKING
from uuid import UUID

from django.contrib.auth.models import AnonymousUser
from rest_framework.authentication import BaseAuthentication
from rest_framework.permissions import BasePermission
from rest_framework.request import Request
from rest_framework.views import APIView

from django_bi_integration.models import WebhookRegistration
from django_bi_integration.webhooks import rejections
from django_bi_integration.webhooks.client_address import client_address

if TYPE_CHECKING:
    from django_bi_integration.webhooks.views import WebhookView


class RegistrationKey(BaseAuthentication):
    """Big Interview's scheme: the verification key, bare, is the whole ``Authorization`` header.

    Source: "Handling webhooks" in the partner documentation. A registration without a key leaves the
    proof to its allowlist.
    """

    def authenticate(self, request: Request) -> tuple[AnonymousUser, WebhookRegistration]:
        view = _view(request)
        registration_id: UUID = view.kwargs["registration_id"]
        if recalled := recall_registration(registration_id, request):
            view.registration, view.is_recalled = recalled, True
        else:
            view.registration = find_registration(registration_id)
            prove_key(view.registration, request)
        return AnonymousUser(), view.registration


class FromAllowedNetwork(BasePermission):
    """Innovative Educators' only proof: the address that the request comes from.

    Source: "Authenticating Requests" on its webhook page. A registration without an allowlist leaves
    the proof to its key.
    """

    def has_permission(self, request: Request, view: APIView) -> bool:
        if not _view(request).is_recalled:  # then every proof was there
            prove_address(_view(request).registration, request)
        return True


def recall_registration(registration_id: UUID, request: Request) -> WebhookRegistration | None:
    """The registration as this process knew it, where that accepts the request; only the row itself may reject it."""
    registration = WebhookRegistration.objects.recall(registration_id)
    if registration is not None:
        with suppress(rejections.Rejected):
            prove(registration, request)
            return registration
    return None


def find_registration(registration_id: UUID) -> WebhookRegistration:
    """The registration as it is; raises UnknownURL where there is none."""
    registration = WebhookRegistration.objects.find(registration_id)
    if registration is None:
        raise rejections.UnknownURL
    return registration


def prove_key(registration: WebhookRegistration, request: Request) -> None:
    """Raise Rejected unless the registration takes deliveries, and its key, if it has one, is there."""
    if not registration.is_active:
        raise rejections.Inactive
    if not registration.has_credentials:
        raise rejections.NoCredentials
    if registration.has_key:
        # Servers hand the header over as Latin-1 text; its bytes are compared.
        key = request.META.get("HTTP_AUTHORIZATION", "").encode("latin-1", "replace").strip()
        if not key:
            raise rejections.NotAuthenticated
        if not registration.check_key(key):
            raise rejections.WrongKey


def prove_address(registration: WebhookRegistration, request: Request) -> None:
    """Raise Rejected unless the request comes from an address on the allowlist, if there is one."""
    if registration.allowed_networks and not registration.allows(client_address(request)):
        raise rejections.Forbidden


def prove(registration: WebhookRegistration, request: Request) -> None:
    """Raise Rejected unless every proof that the registration asks for is there."""
    prove_key(registration, request)
    prove_address(registration, request)


def _view(request: Request) -> "WebhookView":
    view: WebhookView = request.parser_context["view"]
    return view
