"""Checks of the host project: its database, its time zone, and its middleware."""

from typing import Any

from django.conf import settings as django_settings
from django.core.checks import CheckMessage, Error
from django.db import DEFAULT_DB_ALIAS, router

from django_bi_integration.models import ReceivedEvent
from django_bi_integration.operations.checks.base import PREFIX
from django_bi_integration.operations.middleware import find_obstacles, own_hosts


def check_database(**kwargs: Any) -> list[CheckMessage]:
    """E006: the package's tables are in the default database."""
    alias = router.db_for_write(ReceivedEvent)
    if alias == DEFAULT_DB_ALIAS:
        return []
    return [
        Error(
            f"The tables of {PREFIX} are routed to the database {alias!r}.",
            hint="A receiver's writes and the record that it is done must be one commit, which is impossible with two"
            " databases. Route the app to the default database.",
            id=f"{PREFIX}.E006",
        )
    ]


def check_time_zones(**kwargs: Any) -> list[CheckMessage]:
    """E007: USE_TZ is on, because the vendors' times have time zones."""
    if django_settings.USE_TZ:
        return []
    return [
        Error(
            "USE_TZ is False, so the vendors' times could not be stored with their time zone.",
            hint="Set USE_TZ = True, Django's default.",
            id=f"{PREFIX}.E007",
        )
    ]


def check_middleware(**kwargs: Any) -> list[CheckMessage]:
    """E012: deliveries pass the project's middleware; E013: they do so in every form that a vendor sends."""
    return [
        Error(obstacle.problem, hint=obstacle.remedy, id=f"{PREFIX}.E012" if obstacle.is_total else f"{PREFIX}.E013")
        for obstacle in find_obstacles(own_hosts())
    ]
