"""Users at Big Interview: a user's id, name and e-mail address there, and the user behind an id."""

import re
from collections.abc import Callable, Mapping
from typing import Any

from django.contrib.auth import get_user_model
from django.contrib.auth.base_user import AbstractBaseUser
from django.core.exceptions import MultipleObjectsReturned, ValidationError
from django.utils.module_loading import import_string

from django_bi_integration.conf import Function, Settings, settings
from django_bi_integration.exceptions import MissingDetails, NoPartnerID

__all__ = [
    "belongs_to_another",
    "details_of",
    "partner_id_of",
    "primary_key",
    "user_by_primary_key",
    "user_of",
    "usual_details",
]

#: The vendor's rule ("Users", "Create or refresh"). An id cannot be changed there later.
LONGEST_ID = 64
PARTNER_ID = re.compile(rf"[0-9A-Za-z_-]{{1,{LONGEST_ID}}}")
#: The API's path for creating anonymous users. A launch with this id would create one.
RESERVED = "anonymous"
#: The details that the vendor requires when it creates a user, and ignores later.
DETAILS = ("first_name", "last_name", "email")


def partner_id_of(user: AbstractBaseUser) -> str:
    """Return the user's id at Big Interview, from the setting ``PARTNER_ID``; raise NoPartnerID if it is not valid."""
    partner_id = _function("PARTNER_ID")(user)
    if not isinstance(partner_id, str) or not PARTNER_ID.fullmatch(partner_id) or partner_id.lower() == RESERVED:
        raise NoPartnerID(
            f"BI_INTEGRATION['PARTNER_ID'] returned {partner_id!r} for the user {user.pk}. Big Interview accepts 1 to"
            f" {LONGEST_ID} of the characters 0-9, A-Z, a-z, _ and -, and not {RESERVED!r}. If this user should have"
            " an id, correct the function."
        )
    return partner_id


def user_of(partner_id: str) -> AbstractBaseUser | None:
    """Return the user with this id, from the setting ``PARTNER_USER``, or None."""
    user: AbstractBaseUser | None = _function("PARTNER_USER")(partner_id)
    # The two settings may contradict each other, and a database finds user 7 for "007". Check, so that no user gets
    # another user's interviews.
    return user if user is not None and _function("PARTNER_ID")(user) == partner_id else None


def belongs_to_another(partner_id: str, user: AbstractBaseUser) -> bool:
    """Return whether the setting ``PARTNER_USER`` finds another user, or several, for the id of ``user``."""
    if settings.PARTNER_ID != Settings.PARTNER_ID and settings.PARTNER_USER == Settings.PARTNER_USER:
        return False  # the project's ids are not primary keys, and it has no function that finds their users
    try:
        found: AbstractBaseUser | None = _function("PARTNER_USER")(partner_id)
    except MultipleObjectsReturned:
        return True
    return found is not None and found.pk != user.pk


def details_of(user: AbstractBaseUser) -> dict[str, str]:
    """Return the user's ``first_name``, ``last_name`` and ``email``, from the setting ``USER_DETAILS``.

    Raise MissingDetails if one of them is missing or blank.
    """
    given: Mapping[str, str] = _function("USER_DETAILS")(user)
    details = {name: str(given.get(name) or "").strip() for name in DETAILS}
    if missing := [name for name, text in details.items() if not text]:
        raise MissingDetails(missing)
    return details


def _function(setting: str) -> Callable[..., Any]:
    """Return the function that the setting holds or names by its dotted path."""
    value: Function = getattr(settings, setting)
    function: Callable[..., Any] = import_string(value) if isinstance(value, str) else value
    return function


def primary_key(user: AbstractBaseUser) -> str:
    """Return the user's primary key as text. This is the default of ``PARTNER_ID``."""
    return str(user.pk)


def user_by_primary_key(partner_id: str) -> AbstractBaseUser | None:
    """Return the user with this primary key, or None. This is the default of ``PARTNER_USER``."""
    try:
        return get_user_model()._default_manager.filter(pk=partner_id).first()
    except (ValueError, ValidationError):
        return None


def usual_details(user: Any) -> dict[str, str]:
    """Return the fields that Django's own user model has. This is the default of ``USER_DETAILS``."""
    return {
        "first_name": getattr(user, "first_name", ""),
        "last_name": getattr(user, "last_name", ""),
        "email": getattr(user, user.get_email_field_name(), ""),
    }
