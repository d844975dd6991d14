"""The schedule for Celery beat; it can be imported from a settings module, before any model is."""

from typing import Any

from django_bi_integration.dispatch.notify import TASK

#: Seconds after which a worker discards a sweep instead of running it. Celery sets this limit by the clock of beat and
#: compares it with the clock of the worker, so it is far longer than the clocks of two machines should ever differ. It
#: bounds what runs after workers were down: an hour's sweeps are some hundred short queries.
EXPIRES = 3600.0


def beat_schedule(*, seconds: float = 10) -> dict[str, dict[str, Any]]:
    """Entries to merge into ``CELERY_BEAT_SCHEDULE``: the sweep, which finds the events that no wake-up reached.

    It runs every ``seconds``; that long can an event wait, at most, while the broker loses messages.
    """
    options = {"expires": max(seconds, EXPIRES)}
    return {"django_bi_integration.sweep": {"task": TASK, "schedule": seconds, "options": options}}
