"""The outcomes of an event's receivers so far, stored in ``ReceivedEvent.receiver_results``, and when to try again."""

import traceback
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields, replace
from datetime import datetime, timedelta
from random import uniform
from typing import Any, Literal

from django.utils import timezone

from django_bi_integration.conf import settings
from django_bi_integration.exceptions import GiveUp, RetryLater
from django_bi_integration.models import ReceivedEvent
from django_bi_integration.text import clean, in_plane

#: The longest wait that a receiver may ask for: no calendar is as long as a timedelta.
LONGEST_WAIT = timedelta(days=365)

Status = Literal["new", "started", "retry", "done", "failed", "skipped"]


@dataclass(frozen=True)
class Outcome:
    """The outcome of one receiver for one event so far.

    ``duration_ms`` is that of the latest attempt, ``retry_at`` an ISO 8601 time in UTC. The status ``started`` is
    stored only if the receiver may crash its worker, so that the next worker knows which receiver ran. ``crashes``
    counts the workers that died while the receiver ran.
    """

    status: Status = "new"
    attempts: int = 0
    crashes: int = 0
    duration_ms: float | None = None
    error: str = ""
    traceback: str = ""
    retry_at: str = ""

    @property
    def has_ended(self) -> bool:
        return self.status in ("done", "failed", "skipped")

    @property
    def next_attempt_at(self) -> datetime | None:
        return datetime.fromisoformat(self.retry_at) if self.retry_at else None

    def is_due(self, now: datetime) -> bool:
        return not self.has_ended and (self.next_attempt_at is None or self.next_attempt_at <= now)


def load(event: ReceivedEvent) -> dict[str, Outcome]:
    """Return the stored outcomes by the receivers' names."""
    # During a deploy, another version of this package may have stored more than this one knows.
    known = {field.name for field in fields(Outcome)}
    return {
        name: Outcome(**{key: value for key, value in stored.items() if key in known})
        for name, stored in event.receiver_results.items()
    }


def dump(outcomes: dict[str, Outcome]) -> dict[str, dict[str, Any]]:
    """Return what ``load`` loads."""
    return {name: asdict(outcome) for name, outcome in outcomes.items()}


def after_error(attempt: Outcome, error: BaseException, remedy: str = "") -> Outcome:
    """Return the outcome of an attempt that raised ``error``: another try later, or failed.

    It fails if the error is GiveUp, if there is a ``remedy`` (no retry can cure the error), or after ``MAX_ATTEMPTS``.
    """
    text = clean(f"{type(error).__name__}: {_text_of(error)}", 1_000 - len(remedy))
    ended = replace(
        attempt,
        error=f"{text} {remedy}" if remedy else text,
        traceback=clean("".join(traceback.format_exception(error)), 10_000),
    )
    if remedy or isinstance(error, GiveUp) or attempt.attempts >= settings.MAX_ATTEMPTS:
        return replace(ended, status="failed")
    asked = error.after if isinstance(error, RetryLater) else None
    wait = min(asked, LONGEST_WAIT) if asked is not None else back_off(attempt.attempts)
    return replace(ended, status="retry", retry_at=(timezone.now() + wait).isoformat())


def first_error(outcomes: Iterable[Outcome]) -> str:
    """Return the first error among the outcomes or "", as text that every database's text column can hold."""
    return in_plane(next((outcome.error for outcome in outcomes if outcome.error), ""))


def back_off(attempts: int) -> timedelta:
    """Return the wait after so many attempts: it doubles up to a limit, and varies by up to a fifth."""
    seconds = settings.RETRY_FIRST_SECONDS * 2 ** min(attempts - 1, 30)
    return timedelta(seconds=min(seconds, settings.RETRY_LIMIT_SECONDS) * uniform(0.8, 1.2))  # noqa: S311 - no secret


def _text_of(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # noqa: BLE001 - a receiver's own exception class may fail to print itself
        return "its text cannot be shown"
