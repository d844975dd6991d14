"""The rows of launches: one at a time for each user, one id for each user, one row for a failure that repeats."""

import hashlib
from datetime import timedelta
from typing import Any

from django.contrib.auth.base_user import AbstractBaseUser
from django.db import IntegrityError, transaction
from django.db.models import F, Q
from django.utils import timezone

from django_bi_integration.conf import settings
from django_bi_integration.exceptions import LaunchInProgress, SharedPartnerID
from django_bi_integration.models import SSOSession
from django_bi_integration.transactions import retry_on_conflict
from django_bi_integration.users import belongs_to_another

#: For so long a second launch of the same user at the same account is taken for the same click.
DOUBLE_CLICK = timedelta(seconds=3)
#: How often a launch finds its place taken and, at the next look, free, before that is taken for an error.
TRIES = 10

Status = SSOSession.Status


def begin(session: SSOSession) -> None:
    """Store the session, as the only one of its user at its account for a while; raises LaunchInProgress."""
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
            # The launch that was in the way has failed meanwhile, and made room.
        else:
            return


@transaction.atomic
def _insert(session: SSOSession) -> None:
    session.save(force_insert=True)


def note(session: SSOSession, **changes: Any) -> None:
    """Store what has become of the session, and nothing that others may have changed of it by now."""
    told = {name: getattr(session, name) for name in ("partner_id", "redirect_to", "token_expires_at")}
    for name, value in changes.items():
        setattr(session, name, value)
    retry_on_conflict(lambda: _update(session, {**told, **changes}))


@transaction.atomic
def _update(session: SSOSession, values: dict[str, Any]) -> None:
    SSOSession.objects.filter(pk=session.pk).update(**values)


def _user_at_account(session: SSOSession) -> str | None:
    return None if session.user_id is None else _digest(f"{session.user_id} at {session.account_id}")


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _release(in_progress: str | None) -> None:
    """Make room for another launch where the latest one is too old to be the first of a double click."""
    now = timezone.now()
    is_over = ~Q(status=Status.REQUESTED) & Q(requested_at__lt=now - DOUBLE_CLICK)
    has_died = Q(requested_at__lt=now - _patience())
    is_of_another_clock = Q(requested_at__gt=now + DOUBLE_CLICK)
    SSOSession.objects.filter(is_over | has_died | is_of_another_clock, in_progress=in_progress).update(
        in_progress=None
    )


def _patience() -> timedelta:
    """Return how long a launch may be underway before its process counts as dead."""
    return timedelta(seconds=settings.API_BUDGET_SECONDS) + DOUBLE_CLICK


def check_is_sole_owner(session: SSOSession, user: AbstractBaseUser) -> None:
    """Raise SharedPartnerID if the id of the session leads to another user, or another user has launched with it.

    The session is stored by now: of two users who launch at once, at least one finds the other's.
    """
    shared = f"{session.partner_id!r}, the id that BI_INTEGRATION['PARTNER_ID'] gives to the user {user.pk}"
    if belongs_to_another(session.partner_id, user):
        raise SharedPartnerID(
            f"BI_INTEGRATION['PARTNER_USER'] finds another user, or several, for {shared}. Correct the two settings:"
            " each user needs an id of their own."
        )
    got_through = Q(status__in=[Status.REDIRECTED, Status.RETURNED])
    may_get_through = Q(status=Status.REQUESTED, requested_at__gt=timezone.now() - _patience())
    of_another = Q(user__lt=user.pk) | Q(user__gt=user.pk)  # two ranges of the index; exclude() reads the user's own
    others = SSOSession.objects.filter(
        got_through | may_get_through, of_another, account=session.account, partner_id=session.partner_id
    )
    for other, partner_id in others.values_list("user_id", "partner_id").distinct():
        if partner_id == session.partner_id:  # a database may take "Abc" for "abc"
            raise SharedPartnerID(
                f"The user {other} has signed on with {shared}. Each user needs an id that nobody else has had: correct"
                " the setting. If both users are the same person, move or delete the earlier user's single sign-ons."
            )


def record_failure(session: SSOSession, kind: str, text: str) -> SSOSession:
    """Store the failure of a launch; return the row that has it.

    That is an earlier row if a launch of the same user at the same account has failed with the same kind of error
    within the same hour: the row counts the failures and has the newest text. So a reference that a student quotes
    leads to it, and a loop of failing requests adds no rows. The text does not decide, since it may differ each time.
    """
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
            continue  # the same failure was stored at the same time, and can be counted now
        return session
    raise RuntimeError("The failure could be neither stored nor counted.")


def _count_again(key: str, text: str) -> SSOSession | None:
    rows = SSOSession.objects.filter(failure_key=key)
    retry_on_conflict(lambda: rows.update(failures=F("failures") + 1, last_failed_at=timezone.now(), error=text))
    return rows.first()


def _store_failure(session: SSOSession, **failure: Any) -> None:
    if not session._state.adding:
        note(session, in_progress=None, **failure)
        return
    for name, value in failure.items():
        setattr(session, name, value)
    session.in_progress = None
    retry_on_conflict(lambda: _insert(session))
