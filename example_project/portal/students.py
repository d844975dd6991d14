"""Map users to their ids at Big Interview and back: the settings ``PARTNER_ID`` and ``PARTNER_USER``."""

from django.contrib.auth import get_user_model
from django.contrib.auth.base_user import AbstractBaseUser

from example_project.portal.models import Student


def partner_id(user: AbstractBaseUser) -> str:
    """Return the user's id at Big Interview, or "" if the user is not a student and has no access."""
    return Student.objects.filter(user_id=user.pk).values_list("partner_id", flat=True).first() or ""


def partner_user(partner_id: str) -> AbstractBaseUser | None:
    """Return the user with this id at Big Interview, or None."""
    return get_user_model().objects.filter(student__partner_id=partner_id).first()
