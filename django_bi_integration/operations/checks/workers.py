"""Checks of Celery and of the receivers: are workers notified, and can they run the receivers?"""

from typing import Any

from celery._state import _get_active_apps  # type: ignore[attr-defined]  # the stubs lack it
from django.core.checks import CheckMessage, Error, Warning
from django.core.exceptions import ImproperlyConfigured

from django_bi_integration.conf import NAMESPACE
from django_bi_integration.dispatch.async_receivers import PATCHES
from django_bi_integration.dispatch.final_errors import ARGUMENTS, accepts_arguments
from django_bi_integration.dispatch.notify import TASK, named_app, notifier
from django_bi_integration.dispatch.receivers import all_receivers
from django_bi_integration.operations.checks.base import PREFIX, valid


def check_celery_app(**kwargs: Any) -> list[CheckMessage]:
    """W001: the host project's Celery app is loaded."""
    if notifier.has_app or valid("CELERY_APP"):
        return []
    return [
        Warning(
            "No Celery app is loaded, so workers are not notified of new events.",
            hint="Import your Celery app in your project's __init__.py, or dispatch with `manage.py bi_dispatch` from"
            " cron and silence this check.",
            id=f"{PREFIX}.W001",
        )
    ]


def check_named_celery_app(**kwargs: Any) -> list[CheckMessage]:
    """E018: CELERY_APP is the dotted path of a Celery app."""
    path = valid("CELERY_APP")
    try:
        if path:
            named_app(path)
    except ImproperlyConfigured as error:
        return [
            Error(
                f"{NAMESPACE}['CELERY_APP'] is {path!r}, but {error}. No worker is notified of new events.",
                hint="Write the dotted path of your Celery app, such as 'university.celery.app', or leave it out if"
                " your project has only one.",
                id=f"{PREFIX}.E018",
            )
        ]
    return []


def check_one_celery_app(**kwargs: Any) -> list[CheckMessage]:
    """W012: if there are several Celery apps, a setting says which one notifies workers."""
    apps = [app.main or "one without a name" for app in list(_get_active_apps()) if app.set_as_current]
    apps = [name for name in apps if name != "default"]  # Celery's default app
    if valid("CELERY_APP") or len(apps) < 2:
        return []
    return [
        Warning(
            f"This process has {len(apps)} Celery apps: {', '.join(sorted(apps))}. Notifications go through"
            f" {notifier.celery.main}, because it was the current app when Django was set up.",
            hint=f"Set {NAMESPACE}['CELERY_APP'] to the dotted path of the app whose workers dispatch events, such as"
            " 'university.celery.app'. Or create the others with Celery(…, set_as_current=False).",
            id=f"{PREFIX}.W012",
        )
    ]


def check_sweep(**kwargs: Any) -> list[CheckMessage]:
    """W006: a sweep finds the events whose notification was lost, and those that are due for a retry."""
    if not notifier.has_app:
        return []  # W001 reports it
    entries = notifier.celery.conf.beat_schedule or {}
    if any(entry.get("task") == TASK for entry in entries.values()):
        return []
    return [
        Warning(
            "Celery's schedule has no sweep, so an event whose notification is lost, or which is due for a retry, may"
            " wait for ever.",
            hint="Set CELERY_BEAT_SCHEDULE = beat_schedule(). If your schedule is in a database, or cron runs"
            " `manage.py bi_dispatch`, silence this check.",
            id=f"{PREFIX}.W006",
        )
    ]


def check_eager_tasks(**kwargs: Any) -> list[CheckMessage]:
    """W005: receivers do not run while a vendor waits for the response."""
    if not notifier.has_app or not notifier.is_eager:
        return []
    return [
        Warning(
            "CELERY_TASK_ALWAYS_EAGER is on, so a vendor waits for the response until all receivers have run.",
            hint="Set it only in tests, and run a worker.",
            id=f"{PREFIX}.W005",
        )
    ]


def check_pool(**kwargs: Any) -> list[CheckMessage]:
    """W007: the configured pool can run the async receivers that are connected."""
    pool = str(notifier.celery.conf.worker_pool) if notifier.has_app else ""
    names = [receiver.name for receiver in all_receivers() if receiver.is_async]
    if not names or not any(library in pool for library in PATCHES):
        return []
    return [
        Warning(
            f"CELERY_WORKER_POOL is {pool!r}, which cannot run async receivers: {', '.join(names)}.",
            hint="Use the pool 'prefork', 'solo' or 'threads', or make these receivers plain functions.",
            id=f"{PREFIX}.W007",
        )
    ]


def check_receivers(**kwargs: Any) -> list[CheckMessage]:
    """E016: every receiver accepts the arguments that receivers are called with."""
    return [
        Error(
            f"The receiver {receiver.name} does not accept the arguments {', '.join(ARGUMENTS)}, so it always fails.",
            hint="Accept the arguments that you use, and **kwargs: def receiver(event, data, **kwargs).",
            id=f"{PREFIX}.E016",
        )
        for receiver in all_receivers()
        if not accepts_arguments(receiver.function)
    ]
