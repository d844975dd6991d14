"""The errors that reject a delivery.

The body of a rejection reveals no more than its status does; the reason is counted, for the administrator.
"""

from typing import ClassVar

from rest_framework import status
from rest_framework.exceptions import APIException

from django_bi_integration.models import Rejection

Reason = Rejection.Reason


class Rejected(APIException):
    """A delivery that is turned away; ``reason`` is what the administrator reads."""

    reason: ClassVar[Rejection.Reason]


class UnknownURL(Rejected):
    """There is no registration of this id."""

    status_code = status.HTTP_404_NOT_FOUND
    default_detail = "Not found."
    reason = Reason.UNKNOWN_URL


class NotAuthenticated(Rejected):
    """The key is missing."""

    status_code = status.HTTP_401_UNAUTHORIZED
    default_detail = "Unauthorized."
    # HTTP asks for a challenge on every 401; the key is sent without any scheme.
    auth_header = "Key"
    reason = Reason.KEY_MISSING


class WrongKey(NotAuthenticated):
    """The key is another one."""

    reason = Reason.KEY_WRONG


class Forbidden(Rejected):
    """The address is not on the allowlist."""

    status_code = status.HTTP_403_FORBIDDEN
    default_detail = "Forbidden."
    reason = Reason.ADDRESS


class Inactive(Forbidden):
    """The registration is switched off."""

    reason = Reason.INACTIVE


class NoCredentials(Forbidden):
    """The registration has neither a key nor an allowlist: nobody can prove anything to it."""

    reason = Reason.NO_CREDENTIALS


class WrongMethod(Rejected):
    """Webhooks are POSTed."""

    status_code = status.HTTP_405_METHOD_NOT_ALLOWED
    default_detail = "Send a POST request."
    reason = Reason.METHOD


class NotAnObject(Rejected):
    """The body is not a JSON object in UTF-8."""

    status_code = status.HTTP_400_BAD_REQUEST
    default_detail = "The body is not a JSON object in UTF-8."
    reason = Reason.FORM


class LengthRequired(Rejected):
    """The body came in chunks, which WSGI shows as empty: its content is unknown."""

    status_code = status.HTTP_411_LENGTH_REQUIRED
    default_detail = "Send the body with a Content-Length."
    reason = Reason.LENGTH


class TooLarge(Rejected):
    """The body is larger than the setting ``MAX_BODY_BYTES``."""

    status_code = status.HTTP_413_REQUEST_ENTITY_TOO_LARGE
    default_detail = "The body is too large."
    reason = Reason.SIZE
