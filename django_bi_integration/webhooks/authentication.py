"""The credentials that a registration asks for: the bare key, and the client's address."""

from rest_framework.request import Request

from django_bi_integration.models import WebhookRegistration
from django_bi_integration.webhooks import rejections
from django_bi_integration.webhooks.client_address import client_address


def authenticate(request: Request, registration: WebhookRegistration) -> None:
    """Raise Rejected unless the registration is active and the request has every credential that it asks for.

    Big Interview sends its verification key, bare, as the whole ``Authorization`` header. Source: "Handling webhooks"
    in the partner documentation. Innovative Educators is known only by the addresses that its requests come from.
    Source: "Authenticating Requests" on its webhook page.
    """
    if not registration.is_active:
        raise rejections.Inactive
    if not registration.has_credentials:
        raise rejections.NoCredentials
    if registration.has_key:
        _check_key(request, registration)
    if registration.allowed_networks and not registration.allows(client_address(request)):
        raise rejections.Forbidden


def _check_key(request: Request, registration: WebhookRegistration) -> None:
    # Servers pass the header as Latin-1 text; its bytes are compared.
    key = request.META.get("HTTP_AUTHORIZATION", "").encode("latin-1", "replace").strip()
    if not key:
        raise rejections.NotAuthenticated
    if not registration.check_key(key):
        raise rejections.WrongKey
