"""The errors that a delivery is answered with.

The response says no more than its status does; the reason is counted, for the administrator.
"""

import logging
from typing import ClassVar

from django.db import Error as DatabaseFailure
from rest_framework import status
from rest_framework.exceptions import APIException

from django_bi_integration.models import Rejection
from django_bi_integration.sql import error_code

logger = logging.getLogger(__name__)

Reason = Rejection.Reason


class Rejected(APIException):
    """A delivery is rejected; ``reason`` is what the administrator reads.

    ``concerns_registration`` is False if no registration was looked for or found, so that it is counted for none.
    """

    reason: ClassVar[Rejection.Reason]
    concerns_registration: ClassVar[bool] = True


class UnknownURL(Rejected):
    """No registration has the id in the URL."""

    status_code = status.HTTP_404_NOT_FOUND
    default_detail = "Not found."
    reason = Reason.UNKNOWN_URL
    concerns_registration = False


class NotAuthenticated(Rejected):
    """The key is missing."""

    status_code = status.HTTP_401_UNAUTHORIZED
    default_detail = "Unauthorized."
    # HTTP requires a challenge on every 401; the key is sent without any scheme.
    auth_header = "Key"
    reason = Reason.KEY_MISSING


class WrongKey(NotAuthenticated):
    """The key differs from the registration's."""

    reason = Reason.KEY_WRONG


class Forbidden(Rejected):
    """The client's address is not on the allowlist."""

    status_code = status.HTTP_403_FORBIDDEN
    default_detail = "Forbidden."
    reason = Reason.ADDRESS


class Inactive(Forbidden):
    """The registration is not active."""

    reason = Reason.INACTIVE


class NoCredentials(Forbidden):
    """The registration has neither a key nor an allowlist, so nobody can authenticate."""

    reason = Reason.NO_CREDENTIALS


class WrongMethod(Rejected):
    """The request is not a POST request."""

    status_code = status.HTTP_405_METHOD_NOT_ALLOWED
    default_detail = "Send a POST request."
    reason = Reason.METHOD
    concerns_registration = False


class NotAnObject(Rejected):
    """The body is not a JSON object in UTF-8."""

    status_code = status.HTTP_400_BAD_REQUEST
    default_detail = "The body is not a JSON object in UTF-8."
    reason = Reason.FORM


class LengthRequired(Rejected):
    """The body came in chunks, which WSGI shows as empty, so its content is unknown."""

    status_code = status.HTTP_411_LENGTH_REQUIRED
    default_detail = "Send the body with a Content-Length."
    reason = Reason.LENGTH


class TooLarge(Rejected):
    """The body is larger than the setting ``MAX_BODY_BYTES``."""

    status_code = status.HTTP_413_REQUEST_ENTITY_TOO_LARGE
    default_detail = "The body is too large."
    reason = Reason.SIZE


class StorageUnavailable(APIException):
    """The event could not be stored; the vendor should send it again. That is not a rejection, and not counted."""

    status_code = status.HTTP_503_SERVICE_UNAVAILABLE
    default_detail = "Try again later."
    wait = 30  # seconds, sent as Retry-After


def storage_unavailable(error: DatabaseFailure) -> StorageUnavailable:
    """Log a database's error, without its message, which may quote a value; return what to answer."""
    logger.error("delivery not stored: %s %s", type(error).__name__, error_code(error))
    return StorageUnavailable()
