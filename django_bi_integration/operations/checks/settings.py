"""Checks of the settings: names, types and values."""

import re
from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings as django_settings
from django.core.checks import CheckMessage, Error, Warning
from django.utils.module_loading import import_string

from django_bi_integration.conf import NAMESPACE, Function, Settings
from django_bi_integration.operations.checks.base import PREFIX, configured, fits, valid

DOTTED_PATHS = ("PARTNER_ID", "PARTNER_USER", "USER_DETAILS")
#: Characters that an encryption key should have at least.
SHORTEST_KEY = 32


def check_is_dict(**kwargs: Any) -> list[CheckMessage]:
    """E001: the setting is a dict."""
    if isinstance(getattr(django_settings, NAMESPACE, {}), dict):
        return []
    return [
        Error(
            f"{NAMESPACE} must be a dict.",
            hint=f"Write for example {NAMESPACE} = {{'TRUSTED_PROXIES': []}}. Every setting is a key of this dict.",
            id=f"{PREFIX}.E001",
        )
    ]


def check_names(**kwargs: Any) -> list[CheckMessage]:
    """E002: every key is the name of a setting."""
    known = list(Settings.__annotations__)
    return [
        Error(
            f"{NAMESPACE} has an unknown key: {name!r}.",
            hint=f"Did you mean {match[0]!r}?"
            if (match := get_close_matches(str(name), known, n=1, cutoff=0.5))
            else f"Known keys: {', '.join(known)}.",
            id=f"{PREFIX}.E002",
        )
        for name in configured()
        if name not in known
    ]


def check_types(**kwargs: Any) -> list[CheckMessage]:
    """E003: every value has the type of its setting, and numbers are positive."""
    return [
        Error(
            f"{NAMESPACE}[{name!r}] must be {_description(kind)}, not {_shown(name, value)}.",
            hint=f"Leave it out for the default, {getattr(Settings, name)!r}.",
            id=f"{PREFIX}.E003",
        )
        for name, kind in Settings.__annotations__.items()
        if name in configured() and not fits(value := configured()[name], kind)
    ]


def _description(kind: Any) -> str:
    names: dict[Any, str] = {
        int: "a whole number above zero",
        bool: "True or False",
        str: "text",
        Sequence[str]: "a list of text",
        Function: "a function or its dotted path",
    }
    return names.get(kind, "a list of text or of lists of text")


def _shown(name: str, value: object) -> str:
    """Return the value for a message, but only its type if it may be a secret."""
    return f"a {type(value).__name__}" if "KEY" in name else repr(value)


def check_base_url(**kwargs: Any) -> list[CheckMessage]:
    """E008: Big Interview's URL is a valid https URL, so that nobody else can read the requests."""
    url = valid("BASE_URL")
    parts = urlsplit(url.replace("{org}", "org"))
    is_local = parts.hostname in ("localhost", "127.0.0.1", "::1")
    is_host = bool(parts.hostname) and "@" not in parts.netloc
    is_bare = not (set("{}?#") & set(url.replace("{org}", "")))
    if is_host and is_bare and (parts.scheme == "https" or (parts.scheme == "http" and is_local)):
        return []
    return [
        Error(
            f"{NAMESPACE}['BASE_URL'] is {url!r}, but must be https:// and a host, without a query.",
            hint="Write for example 'https://{org}.biginterview.com'; {org} stands for an account's subdomain.",
            id=f"{PREFIX}.E008",
        )
    ]


def check_return_url_origins(**kwargs: Any) -> list[CheckMessage]:
    """E009: every origin is a scheme and a host, so that it can be compared as a whole."""
    return [
        Error(
            f"{NAMESPACE}['RETURN_URL_ORIGINS']: {origin!r} is not a scheme and a host.",
            hint="Write for example 'https://app.example.edu', in lower case, without a slash at the end.",
            id=f"{PREFIX}.E009",
        )
        for origin in valid("RETURN_URL_ORIGINS")
        if not re.fullmatch(r"https?://[a-z0-9.-]+(:[0-9]+)?", origin)
    ]


def check_dotted_paths(**kwargs: Any) -> list[CheckMessage]:
    """E010: every function, or the dotted path of one, can be called."""
    return [message for name in DOTTED_PATHS for message in _check_dotted_path(name, valid(name))]


def _check_dotted_path(name: str, value: Function) -> list[CheckMessage]:
    try:
        found, problem = import_string(value) if isinstance(value, str) else value, "it is not a function"
    except ImportError as error:
        found, problem = None, str(error)
    if callable(found):
        return []
    return [
        Error(
            f"{NAMESPACE}[{name!r}] is {value!r}, but {problem}.",
            hint=f"Write a function or its dotted path, such as {getattr(Settings, name)!r}.",
            id=f"{PREFIX}.E010",
        )
    ]


def check_api_encoding(**kwargs: Any) -> list[CheckMessage]:
    """E011: the encoding of requests to the Partner API is a valid one."""
    encoding = valid("API_ENCODING")
    if encoding in ("json", "form"):
        return []
    return [
        Error(
            f"{NAMESPACE}['API_ENCODING'] must be 'json' or 'form', not {encoding!r}.",
            hint="Leave it out, unless Big Interview responds with 422 and reports missing values that were sent.",
            id=f"{PREFIX}.E011",
        )
    ]


def check_encryption_keys(**kwargs: Any) -> list[CheckMessage]:
    """W004: every encryption key is too long to be guessed."""
    if all(len(key) >= SHORTEST_KEY for key in valid("ENCRYPTION_KEYS")):
        return []
    return [
        Warning(
            f"A key in ENCRYPTION_KEYS is shorter than {SHORTEST_KEY} characters.",
            hint="Make one with `python -c 'import secrets; print(secrets.token_urlsafe(48))'`.",
            id=f"{PREFIX}.W004",
        )
    ]
