"""Helpers of the checks: the settings as the project gives them."""

from collections.abc import Callable, Sequence
from types import UnionType
from typing import Any, get_args, get_origin

from django.conf import settings as django_settings
from django.core.checks import CheckMessage

from django_bi_integration.conf import NAMESPACE, Settings

PREFIX = "django_bi_integration"

Check = Callable[..., list[CheckMessage]]


def configured() -> dict[str, Any]:
    """Return the settings that the project gives; E001 reports a value that is not a dict."""
    value = getattr(django_settings, NAMESPACE, {})
    return value if isinstance(value, dict) else {}


def valid(name: str) -> Any:
    """Return the setting's value, or its default if the value has a wrong type, which E003 reports."""
    value = configured().get(name, getattr(Settings, name))
    return value if fits(value, Settings.__annotations__[name]) else getattr(Settings, name)


def fits(value: object, kind: Any) -> bool:
    """Return True if the value has the type of a setting's annotation; numbers must be positive."""
    if isinstance(kind, UnionType):
        return any(fits(value, option) for option in get_args(kind))
    if get_origin(kind) is Callable:
        return callable(value)
    if get_origin(kind) is Sequence:
        return isinstance(value, list | tuple) and all(fits(item, *get_args(kind)) for item in value)
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool) and value > 0
    return isinstance(value, kind)
