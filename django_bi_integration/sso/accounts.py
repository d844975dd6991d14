"""The Big Interview account that a launch uses."""

from django_bi_integration.exceptions import NoAccount
from django_bi_integration.models import BigInterviewAccount
from django_bi_integration.models.account import LABEL
from django_bi_integration.text import clean


def usable_account(account: BigInterviewAccount | str | None, *, anonymous: bool) -> BigInterviewAccount:
    """Return the account to launch at: the given one, the one with this subdomain, or the default one.

    Raise NoAccount if it does not exist, is not usable, or does not allow anonymous users although one wants to launch.
    """
    usable = BigInterviewAccount.objects.usable()
    if account is None:
        found = BigInterviewAccount.objects.default()
    elif isinstance(account, BigInterviewAccount):
        found = usable.filter(pk=account.pk).first()
    else:
        found = usable.filter(subdomain=account).first() if LABEL.match(account) else None
    if found is None:
        name = "" if account is None else f" {clean(str(account), 63)!r}"
        raise NoAccount(f"There is no Big Interview account{name} that is active and has an API key.")
    if anonymous and not found.allows_anonymous:
        raise NoAccount(f"The Big Interview account {found} does not allow anonymous users.")
    return found


def is_open_to_visitors(account: str | None = None) -> bool:
    """Return whether visitors who are not logged in may launch at the account, by default the default account."""
    try:
        usable_account(account, anonymous=True)
    except NoAccount:
        return False
    return True
