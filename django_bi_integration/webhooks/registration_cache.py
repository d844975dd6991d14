"""Registrations that this process has loaded, so that most deliveries need a single statement.

A cached row never decides. The statement that stores an event checks that the row is still the same, and a delivery
that a cached row rejects is tried again with the current row. Only PostgreSQL can compare a whole row, so nothing is
cached on other databases.
"""

from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar
from uuid import UUID

from django.db import connection
from django.db.models.expressions import RawSQL

from django_bi_integration.models import WebhookRegistration
from django_bi_integration.sql import table
from django_bi_integration.webhooks.rejections import Rejected, UnknownURL

Result = TypeVar("Result")

#: The number of registrations that a process caches.
MAX_CACHED = 1_000
#: Each registration with its row as text.
_cached: dict[UUID, tuple[WebhookRegistration, str]] = {}


class RegistrationChanged(Exception):
    """The registration's row is no longer what was cached."""


def with_registration(pk: UUID, use: Callable[[WebhookRegistration, str | None], Result]) -> Result:
    """Call ``use`` with the registration, first as cached, then as it is now if that rejects or has changed.

    Its second argument is the row that was cached, for ``store_once`` to check, and None for the current one. Raise
    UnknownURL if no registration has this id.
    """
    if cached := _cached.get(pk):
        with suppress(Rejected, RegistrationChanged):
            return use(*cached)
    return use(_load(pk), None)


def _load(pk: UUID) -> WebhookRegistration:
    registrations = WebhookRegistration.objects.filter(pk=pk)
    if connection.vendor == "postgresql":
        registrations = registrations.annotate(row=RawSQL(f"{table(WebhookRegistration)}::text", []))  # noqa: S611
    registration = registrations.first()
    if registration is None:
        _cached.pop(pk, None)
        raise UnknownURL
    if row := vars(registration).pop("row", None):
        if len(_cached) >= MAX_CACHED:
            _cached.clear()
        _cached[pk] = registration, row
    return registration
