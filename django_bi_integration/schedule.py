"""The schedule for Celery beat; it can be imported from a settings module, before any model is."""

from typing import Any

from django_bi_integration.webhooks.wake_up import TASK


def beat_schedule(*, seconds: float = 10) -> dict[str, dict[str, Any]]:
    """Entries to merge into ``CELERY_BEAT_SCHEDULE``: the sweep, which finds the events that no wake-up reached.

    It runs every ``seconds``; that long can an event wait, at most, while the broker loses messages.
    """
    return {
        "django_bi_integration.sweep": {"task": TASK, "schedule": seconds, "options": {"expires": seconds}},
    }
