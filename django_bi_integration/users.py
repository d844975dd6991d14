"""Who is who: a user's id, names and e-mail address for Big Interview, and the user behind an id."""

import re
from collections.abc import Mapping
from typing import Any

from django.contrib.auth import get_user_model
from django.contrib.auth.base_user import AbstractBaseUser
from django.core.exceptions import MultipleObjectsReturned, ValidationError
from django.utils.module_loading import import_string

from django_bi_integration.conf import Settings, settings
from django_bi_integration.exceptions import MissingDetails, NoPartnerID

#: The vendor's rule ("Users", "Create or refresh"). An id cannot be changed there later.
LONGEST_ID = 64
PARTNER_ID = re.compile(rf"[0-9A-Za-z_-]{{1,{LONGEST_ID}}}")
#: The path of the API that makes anonymous users: as a user's id, it would make one of those.
RESERVED = "anonymous"
#: What the vendor requires when it first hears of a user, and ignores later.
DETAILS = ("first_name", "last_name", "email")


def partner_id_of(user: AbstractBaseUser) -> str:
    """The user's id at Big Interview, as the setting ``PARTNER_ID`` has it; raises NoPartnerID."""
    partner_id = import_string(settings.PARTNER_ID)(user)
    if not isinstance(partner_id, str) or not PARTNER_ID.fullmatch(partner_id) or partner_id.lower() == RESERVED:
        raise NoPartnerID(
            f"{settings.PARTNER_ID} gives {partner_id!r} for the user {user.pk}. Big Interview accepts 1 to"
            f" {LONGEST_ID} of the characters 0-9, A-Z, a-z, _ and -, and not {RESERVED!r}. If this user should have"
            " an id, correct BI_INTEGRATION['PARTNER_ID']."
        )
    return partner_id


def user_of(partner_id: str) -> AbstractBaseUser | None:
    """The user whom the id belongs to, as the setting ``PARTNER_USER`` has it; None where it is nobody's."""
    user: AbstractBaseUser | None = import_string(settings.PARTNER_USER)(partner_id)
    # The two settings may be at odds, and a database finds user 7 for "007": nobody gets another's interviews.
    return user if user is not None and import_string(settings.PARTNER_ID)(user) == partner_id else None


def belongs_to_another(partner_id: str, user: AbstractBaseUser) -> bool:
    """Return whether the setting ``PARTNER_USER`` finds another user for the id of ``user``, or several users."""
    if settings.PARTNER_ID != Settings.PARTNER_ID and settings.PARTNER_USER == Settings.PARTNER_USER:
        return False  # the project has ids that are not primary keys, and no function that finds their users
    try:
        found: AbstractBaseUser | None = import_string(settings.PARTNER_USER)(partner_id)
    except MultipleObjectsReturned:
        return True
    return found is not None and found.pk != user.pk


def details_of(user: AbstractBaseUser) -> dict[str, str]:
    """The user's ``first_name``, ``last_name`` and ``email``, as ``USER_DETAILS`` has them; raises MissingDetails."""
    told: Mapping[str, str] = import_string(settings.USER_DETAILS)(user)
    details = {name: str(told.get(name) or "").strip() for name in DETAILS}
    if missing := [name for name, text in details.items() if not text]:
        raise MissingDetails(missing)
    return details


def primary_key(user: AbstractBaseUser) -> str:
    """The default of ``PARTNER_ID``."""
    return str(user.pk)


def user_by_primary_key(partner_id: str) -> AbstractBaseUser | None:
    """The default of ``PARTNER_USER``."""
    try:
        return get_user_model()._default_manager.filter(pk=partner_id).first()
    except (ValueError, ValidationError):
        return None


def usual_details(user: Any) -> dict[str, str]:
    """The default of ``USER_DETAILS``: the fields that Django's own user model has."""
    return {
        "first_name": getattr(user, "first_name", ""),
        "last_name": getattr(user, "last_name", ""),
        "email": getattr(user, user.get_email_field_name(), ""),
    }
