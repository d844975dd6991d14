"""The rows of launches: one launch at a time for each user, one user for each id, one row for repeated failures."""

import hashlib
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from django.db import IntegrityError, transaction
from django.db.models import F, Q
from django.utils import timezone

from django_bi_integration.conf import settings
from django_bi_integration.exceptions import (
    BIIntegrationError,
    LaunchFailure,
    LaunchInProgress,
    SharedPartnerID,
    TooManyLaunches,
)
from django_bi_integration.models import SSOSession
from django_bi_integration.signals import sso_failed, sso_launched
from django_bi_integration.text import clean, in_plane
from django_bi_integration.transactions import retry_on_conflict
from django_bi_integration.users import belongs_to_another

logger = logging.getLogger(__name__)

#: For this long, a second launch of the same user at the same account counts as the same click.
DOUBLE_CLICK = timedelta(seconds=3)
#: How often an INSERT may conflict with a row that is gone at the next look. After that, the conflict is an error.
TRIES = 10

Status = SSOSession.Status


def begin(session: SSOSession) -> None:
    """Store the session. Raise LaunchInProgress if its user has just started another launch at the same account."""
    session.in_progress = _user_at_account(session)
    for tries_left in reversed(range(TRIES)):
        retry_on_conflict(lambda: _release(session.in_progress))
        try:
            retry_on_conflict(lambda: _insert(session))
        except IntegrityError:
            if SSOSession.objects.filter(in_progress=session.in_progress).exists():
                raise LaunchInProgress("A launch has just been started.") from None
            if not tries_left:
                raise
            # The conflicting launch has failed in the meantime, so its row is no longer in progress.
        else:
            return


def _user_at_account(session: SSOSession) -> str | None:
    return None if session.user_id is None else _digest(f"{session.user_id} at {session.account_id}")


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _release(in_progress: str | None) -> None:
    """Allow another launch if the latest one is too old for a double click."""
    now = timezone.now()
    is_over = ~Q(status=Status.REQUESTED) & Q(requested_at__lt=now - DOUBLE_CLICK)
    has_died = Q(requested_at__lt=now - _longest_launch())
    is_of_another_clock = Q(requested_at__gt=now + DOUBLE_CLICK)
    SSOSession.objects.filter(is_over | has_died | is_of_another_clock, in_progress=in_progress).update(
        in_progress=None
    )


def _longest_launch() -> timedelta:
    """Return how long a launch may take before its process is considered dead."""
    return timedelta(seconds=settings.API_BUDGET_SECONDS) + DOUBLE_CLICK


@transaction.atomic
def _insert(session: SSOSession) -> None:
    session.save(force_insert=True)


def check_is_sole_owner(session: SSOSession) -> None:
    """Raise SharedPartnerID if the session's id leads to another user, or if another user has launched with it.

    The session has to be stored: of two users who launch at the same time, at least one then finds the other's.
    """
    if (user := session.user) is None:
        return
    shared = f"{session.partner_id!r}, the id that BI_INTEGRATION['PARTNER_ID'] gives to the user {user.pk}"
    if belongs_to_another(session.partner_id, user):
        raise SharedPartnerID(
            f"BI_INTEGRATION['PARTNER_USER'] finds another user, or several, for {shared}. Correct the two settings:"
            " each user needs a different id."
        )
    launched = Q(status__in=[Status.REDIRECTED, Status.RETURNED])
    is_underway = Q(status=Status.REQUESTED, requested_at__gt=timezone.now() - _longest_launch())
    of_another = Q(user__lt=user.pk) | Q(user__gt=user.pk)  # two ranges of the index; exclude() reads the user's own
    others = SSOSession.objects.filter(
        launched | is_underway, of_another, account=session.account, partner_id=session.partner_id
    )
    for other, partner_id in others.values_list("user_id", "partner_id").distinct():
        if partner_id == session.partner_id:  # a database may consider "Abc" equal to "abc"
            raise SharedPartnerID(
                f"The user {other} has signed on with {shared}. Each user needs an id that no other user has had:"
                " correct the setting. If both users are the same person, move or delete the earlier user's single"
                " sign-ons."
            )


def record_redirect(session: SSOSession) -> None:
    """Record that the browser is redirected to Big Interview, and send ``sso_launched``."""
    _update(session, status=Status.REDIRECTED, redirected_at=timezone.now())
    sso_launched.send_robust(SSOSession, session=session)


def _update(session: SSOSession, **changes: Any) -> None:
    """Store the changes and what the launch has set, but no column that another request may have changed."""
    session.partner_id = clean(session.partner_id, 64)  # an anonymous user's id is the API's text
    for name, value in changes.items():
        setattr(session, name, value)
    values = {name: getattr(session, name) for name in ("partner_id", "redirect_to", "token_expires_at", *changes)}
    retry_on_conflict(lambda: _write(session, values))


@transaction.atomic
def _write(session: SSOSession, values: dict[str, Any]) -> None:
    SSOSession.objects.filter(pk=session.pk).update(**values)


@contextmanager
def recording_failure(session: SSOSession) -> Iterator[None]:
    """Record an exception in the block as the failure of the session, and send ``sso_failed``.

    LaunchInProgress and TooManyLaunches leave no record: neither requests a token.
    """
    try:
        yield
    except (LaunchInProgress, TooManyLaunches):
        raise
    except Exception as error:
        recorded = _record_failure(session, error)
        logger.warning("launch %s failed: %s", recorded.reference, type(error).__name__)
        if isinstance(error, LaunchFailure):
            error.session = recorded
        sso_failed.send_robust(SSOSession, session=recorded, error=error)
        raise


def _record_failure(session: SSOSession, error: Exception) -> SSOSession:
    """Store the failure of a launch, and return the row that has it.

    If a launch of the same user at the same account has failed with the same class of error within the same hour, that
    is the earlier row: it counts the failures and has the newest text. So a loop of failing requests adds no rows, and
    the reference that a student quotes stays valid. The text is not compared, because it may differ each time.
    """
    kind = type(error).__name__
    # Other exceptions' messages may contain anything, so only the class name is stored.
    text = in_plane(clean(f"{kind}: {error}" if isinstance(error, BIIntegrationError) else kind, 2_000))
    now = timezone.now()
    key = _digest(f"{session.user_id} at {session.account_id}: {kind} in {now:%Y-%m-%d %H}")
    for _ in range(TRIES):
        if earlier := _count_again(key, text):
            if not session._state.adding:
                retry_on_conflict(SSOSession.objects.filter(pk=session.pk).delete)
            return earlier
        try:
            _store_failure(session, status=Status.FAILED, error=text, failure_key=key, failures=1, last_failed_at=now)
        except IntegrityError:
            continue  # another process has stored the same failure at the same time, so it can be counted now
        return session
    raise RuntimeError("The failure could be neither stored nor counted.")


def _count_again(key: str, text: str) -> SSOSession | None:
    rows = SSOSession.objects.filter(failure_key=key)
    retry_on_conflict(lambda: rows.update(failures=F("failures") + 1, last_failed_at=timezone.now(), error=text))
    return rows.first()


def _store_failure(session: SSOSession, **failure: Any) -> None:
    if not session._state.adding:
        _update(session, in_progress=None, **failure)
        return
    for name, value in failure.items():
        setattr(session, name, value)
    session.in_progress = None
    retry_on_conflict(lambda: _insert(session))
