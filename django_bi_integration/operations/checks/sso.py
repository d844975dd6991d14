"""Checks of single sign-on: is each user one person at Big Interview, and does the return lead out of it?"""

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from django.conf import settings as django_settings
from django.contrib.auth import get_user_model
from django.core.checks import CheckMessage, Error, Warning
from django.core.validators import validate_email
from django.db import models, router, transaction

from django_bi_integration.conf import NAMESPACE, Settings
from django_bi_integration.exceptions import NoPartnerID
from django_bi_integration.models import BigInterviewAccount
from django_bi_integration.operations.checks.base import PREFIX, configured, valid
from django_bi_integration.sso.returns import leads_into_sign_on
from django_bi_integration.users import DETAILS, LONGEST_ID, belongs_to_another, partner_id_of

#: How many of the newest users the check of their ids reads.
SAMPLE = 100


def _text(name: str) -> str:
    """Return the setting's value if it is text, else its default, because E003 reports a wrong type."""
    value = configured().get(name)
    return value if isinstance(value, str) else str(getattr(Settings, name))


def _is_default(name: str) -> bool:
    default = getattr(Settings, name)
    return bool(configured().get(name, default) == default)


def check_return_page(**kwargs: Any) -> list[CheckMessage]:
    """E017: the return page does not start a launch."""
    page = _text("RETURN_PAGE")
    # Without a URLconf there is no launch to start. The default is a path that the project decides on.
    if page == Settings.RETURN_PAGE or not hasattr(django_settings, "ROOT_URLCONF") or not leads_into_sign_on(page):
        return []
    return [
        Error(
            f"{NAMESPACE}['RETURN_PAGE'] is {page!r}, which leads back into single sign-on: students who log out at Big"
            " Interview would be logged in again.",
            hint="Name a page of your site, such as '/'.",
            id=f"{PREFIX}.E017",
        )
    ]


def check_partner_user(**kwargs: Any) -> list[CheckMessage]:
    """W003: a project that chooses the partner ids can also find the users of these ids."""
    if valid("PARTNER_ID") == Settings.PARTNER_ID or "PARTNER_USER" in configured():
        return []
    return [
        Warning(
            "PARTNER_ID is set and PARTNER_USER is not, so the user of an event cannot be found.",
            hint=f"Set {NAMESPACE}['PARTNER_USER'] to a function that finds the user of an id, or returns None. Each id"
            " belongs to exactly one user.",
            id=f"{PREFIX}.W003",
        )
    ]


def check_partner_ids(databases: Sequence[str] | None = None, **kwargs: Any) -> list[CheckMessage]:
    """W010: no two of the newest users have the same id.

    Only a sample is read, and only if a command names the database and an account uses the ids.
    """
    is_default = _is_default("PARTNER_ID") and _is_default("PARTNER_USER")
    if is_default or router.db_for_write(BigInterviewAccount) not in (databases or []):
        return []
    # The tables may not exist yet, and a function that raises is not this check's topic.
    with suppress(Exception), transaction.atomic():
        problem = _shared_id() if BigInterviewAccount.objects.exists() else None
        transaction.set_rollback(True)  # the project's functions may write
        if problem:
            hint = "Users with one id would see each other's interviews, so single sign-on rejects them. Correct"
            hint += f" {NAMESPACE}['PARTNER_ID'] and ['PARTNER_USER']: one id for each user, one user for each id."
            return [Warning(problem, hint=hint, id=f"{PREFIX}.W010")]
    return []


def _shared_id() -> str | None:
    """Describe a problem with the ids of the newest users; return None if they have none."""
    owners: dict[str, Any] = {}
    for user in get_user_model()._default_manager.order_by("-pk")[:SAMPLE]:
        try:
            partner_id = partner_id_of(user)
        except NoPartnerID:
            continue
        if partner_id in owners:
            return f"PARTNER_ID gives the users {user.pk} and {owners[partner_id]} the same id, {partner_id!r}."
        if belongs_to_another(partner_id, user):
            return f"PARTNER_USER finds another user, or several, for {partner_id!r}, the id of the user {user.pk}."
        owners[partner_id] = user.pk
    return None


def check_user_details(**kwargs: Any) -> list[CheckMessage]:
    """W011: the user model has the fields that the default of ``USER_DETAILS`` reads."""
    user_model = get_user_model()
    email_field = getattr(user_model, "EMAIL_FIELD", "email")
    fields = {name: email_field if name == "email" else name for name in DETAILS}
    # A project's own model may also set the fields that it inherits to None.
    missing = [field for field in fields.values() if getattr(user_model, field, None) is None]
    if not missing or not _is_default("USER_DETAILS"):
        return []
    return [
        Warning(
            f"The user model {user_model._meta.label} has no {', '.join(missing)}, so every launch of single sign-on"
            " fails: Big Interview requires a first name, a last name and an e-mail address.",
            hint=f"Set {NAMESPACE}['USER_DETAILS'] to a function that returns them. If you do not use single sign-on,"
            " silence this check.",
            id=f"{PREFIX}.W011",
        )
    ]


def check_primary_key(**kwargs: Any) -> list[CheckMessage]:
    """W011: the primary key, the default of ``PARTNER_ID``, is an id that Big Interview accepts."""
    key: Any = get_user_model()._meta.pk
    while isinstance(key, models.ForeignKey):  # a user model that inherits from another model
        key = key.target_field
    is_email = validate_email in key.validators
    is_slug = (
        isinstance(key, models.SlugField)
        and not getattr(key, "allow_unicode", False)
        and (key.max_length or 0) <= LONGEST_ID
    )
    is_text = isinstance(key, models.CharField | models.TextField) and not is_slug
    is_default = _is_default("PARTNER_ID")
    # If the text is always a valid id, the project confirms that by naming the default in its settings.
    if not is_default or not (is_email or (is_text and "PARTNER_ID" not in configured())):
        return []
    problem = "an e-mail address, so every launch of single sign-on fails"
    if not is_email:
        problem = "text, so launches of single sign-on fail for some users"
    return [
        Warning(
            f"The primary key of {get_user_model()._meta.label} is {problem}: an id at Big Interview has 1 to"
            f" {LONGEST_ID} of the characters 0-9, A-Z, a-z, _ and -.",
            hint=f"Set {NAMESPACE}['PARTNER_ID'] to a function that returns such an id, and ['PARTNER_USER'] to one"
            " that finds its user. If you do not use single sign-on, silence this check.",
            id=f"{PREFIX}.W011",
        )
    ]
