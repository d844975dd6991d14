"""The schedule for Celery beat. A settings module can import it, because it imports no model."""

from typing import Any

from django_bi_integration.dispatch.notify import TASK

__all__ = ["beat_schedule"]

#: Seconds after which a worker discards a sweep instead of running it. Celery sets this limit by beat's clock and
#: compares it with the worker's clock, so it is far longer than two machines' clocks should ever differ. It also
#: bounds how many sweeps run after workers were down: those of an hour are some hundred short queries.
EXPIRES = 3600.0


def beat_schedule(*, seconds: float = 10) -> dict[str, dict[str, Any]]:
    """Return an entry for ``CELERY_BEAT_SCHEDULE``: the sweep, which dispatches events whose notification was lost.

    It runs every ``seconds``. That is the longest time that an event waits while the broker loses messages.
    """
    options = {"expires": max(seconds, EXPIRES)}
    return {"django_bi_integration.sweep": {"task": TASK, "schedule": seconds, "options": options}}
