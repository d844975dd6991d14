"""System checks, one function a rule."""

import os
import re
from collections.abc import Callable, Iterator, Sequence
from difflib import get_close_matches
from importlib.util import find_spec
from itertools import pairwise
from types import UnionType
from typing import Any, get_args, get_origin
from urllib.parse import urlsplit

from celery._state import _get_active_apps  # type: ignore[attr-defined]  # the stubs lack it
from django.conf import settings as django_settings
from django.core.checks import CheckMessage, Error, Warning
from django.core.exceptions import ImproperlyConfigured, ValidationError
from django.db import DEFAULT_DB_ALIAS, router
from django.db import Error as DatabaseFailure
from django.utils.module_loading import import_string

from django_bi_integration.conf import NAMESPACE, Function, Settings
from django_bi_integration.dispatch.async_receivers import PATCHES
from django_bi_integration.dispatch.final_errors import ARGUMENTS, accepts_arguments
from django_bi_integration.dispatch.notify import TASK, named_app, notifier
from django_bi_integration.dispatch.receivers import all_receivers
from django_bi_integration.models import ReceivedEvent, WebhookRegistration
from django_bi_integration.models.registration import NAMES_A_PROXY, validate_networks
from django_bi_integration.networks import UNIX_SOCKET, Network, is_vast, look_like_one_hop, read_hops, read_network
from django_bi_integration.operations.middleware import find_walls, own_hosts

PREFIX = "django_bi_integration"
DOTTED_PATHS = ("PARTNER_ID", "PARTNER_USER", "USER_DETAILS")
#: Characters that an encryption key should have at least.
SHORTEST_KEY = 32

Check = Callable[..., list[CheckMessage]]


def configured() -> dict[str, Any]:
    value = getattr(django_settings, NAMESPACE, {})
    return value if isinstance(value, dict) else {}


def check_is_dict(**kwargs: Any) -> list[CheckMessage]:
    """E001: the setting is one dict."""
    if isinstance(getattr(django_settings, NAMESPACE, {}), dict):
        return []
    return [
        Error(
            f"{NAMESPACE} must be a dict.",
            hint=f"Write for example {NAMESPACE} = {{'TRUSTED_PROXIES': []}}; every setting is a key of it.",
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
    """E003: every value is of its setting's type, and numbers are positive."""
    return [
        Error(
            f"{NAMESPACE}[{name!r}] must be {_description(kind)}, not {_shown(name, value)}.",
            hint=f"Leave it out for the default, {getattr(Settings, name)!r}.",
            id=f"{PREFIX}.E003",
        )
        for name, kind in Settings.__annotations__.items()
        if name in configured() and not _fits(value := configured()[name], kind)
    ]


def _fits(value: object, kind: Any) -> bool:
    if isinstance(kind, UnionType):
        return any(_fits(value, option) for option in get_args(kind))
    if get_origin(kind) is Callable:
        return callable(value)
    if get_origin(kind) is Sequence:
        return isinstance(value, list | tuple) and all(_fits(item, *get_args(kind)) for item in value)
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool) and value > 0
    return isinstance(value, kind)


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
    """The value, unless it may be a secret."""
    return f"a {type(value).__name__}" if "KEY" in name else repr(value)


def _valid(name: str) -> Any:
    """The setting's value, if it is of its type; else its default, since the type is E003's to tell."""
    value = configured().get(name, getattr(Settings, name))
    return value if _fits(value, Settings.__annotations__[name]) else getattr(Settings, name)


def check_trusted_proxies(**kwargs: Any) -> list[CheckMessage]:
    """E004: trusted proxies are addresses or networks; E005: none is so wide that visitors are in it."""
    hops = read_hops(_valid("TRUSTED_PROXIES"))
    # A list without an address is no hop that could exist: it is reported as the entry that it is.
    return [message for hop in hops for proxy in hop or ([],) for message in _check_trusted_proxy(proxy)]


def _check_trusted_proxy(proxy: object) -> list[CheckMessage]:
    if proxy == UNIX_SOCKET:
        return []
    try:
        network = read_network(proxy)
    except ValueError as error:
        return [
            Error(
                f"{NAMESPACE}['TRUSTED_PROXIES']: {proxy!r} is neither an address nor a network: {error}.",
                hint=f"Write for example '10.0.0.5' or '10.0.0.0/24'; {UNIX_SOCKET!r} for a Unix socket; a list of them"
                " for one hop with several addresses.",
                id=f"{PREFIX}.E004",
            )
        ]
    if not is_vast(network):
        return []
    return [
        Error(
            f"{NAMESPACE}['TRUSTED_PROXIES']: {proxy!r} trusts a large part of the internet.",
            hint="Whoever is trusted may choose the address that the allowlist sees. Name your proxies alone.",
            id=f"{PREFIX}.E005",
        )
    ]


def check_hops(**kwargs: Any) -> list[CheckMessage]:
    """W008: neighbouring entries do not look like addresses of one hop."""
    found = next(_pairs_of_one_hop(_valid("TRUSTED_PROXIES")), None)
    if found is None:
        return []
    one, other = found
    return [
        Warning(
            f"{NAMESPACE}['TRUSTED_PROXIES']: {one!r} and {other!r} look like addresses of one hop, but each entry is a"
            " hop. If they are one, no delivery has a known address, and allowlists reject them all.",
            hint=f"Write the addresses of one hop as one entry, a list: [{one!r}, {other!r}, …]. If they are two hops,"
            f" write each as a list: [{one!r}], [{other!r}].",
            id=f"{PREFIX}.W008",
        )
    ]


def _pairs_of_one_hop(entries: Sequence[object]) -> Iterator[tuple[str, str]]:
    """Yield the neighbours that look like one hop. An entry that is a list says itself what belongs to its hop."""
    networks = [_network_or_none(entry) for entry in entries]
    for place, (one, other) in enumerate(pairwise(networks)):
        if one is None or other is None:
            continue
        around = networks[max(place - 1, 0) : place + 3]
        in_a_row = sum(network is not None and network.num_addresses > 1 for network in around) >= 3
        if look_like_one_hop(one, other) or (in_a_row and one.num_addresses > 1 < other.num_addresses):
            yield str(entries[place]), str(entries[place + 1])


def _network_or_none(entry: object) -> Network | None:
    try:
        return read_network(entry)
    except ValueError:
        return None


def check_database(**kwargs: Any) -> list[CheckMessage]:
    """E006: the tables are in the default database."""
    alias = router.db_for_write(ReceivedEvent)
    if alias == DEFAULT_DB_ALIAS:
        return []
    return [
        Error(
            f"The tables of {PREFIX} are routed to the database {alias!r}.",
            hint="A receiver's writes and the record that it is done must be one commit, which two databases cannot"
            " give. Route the app to the default database.",
            id=f"{PREFIX}.E006",
        )
    ]


def check_time_zones(**kwargs: Any) -> list[CheckMessage]:
    """E007: times are aware, as the vendors' are."""
    if django_settings.USE_TZ:
        return []
    return [
        Error(
            "USE_TZ is False: the vendors' times could not be stored as what they are.",
            hint="Set USE_TZ = True, Django's default.",
            id=f"{PREFIX}.E007",
        )
    ]


def check_base_url(**kwargs: Any) -> list[CheckMessage]:
    """E008: Big Interview's URL is one, and what is sent there cannot be read on the way."""
    url = _valid("BASE_URL")
    parts = urlsplit(url.replace("{org}", "org"))
    is_local = parts.hostname in ("localhost", "127.0.0.1", "::1")
    is_host = bool(parts.hostname) and "@" not in parts.netloc
    is_bare = not (set("{}?#") & set(url.replace("{org}", "")))
    if is_host and is_bare and (parts.scheme == "https" or (parts.scheme == "http" and is_local)):
        return []
    return [
        Error(
            f"{NAMESPACE}['BASE_URL'] is {url!r}: it has to be https:// and a host, without a query.",
            hint="Write for example 'https://{org}.biginterview.com'; {org} stands for an account's subdomain.",
            id=f"{PREFIX}.E008",
        )
    ]


def check_return_url_origins(**kwargs: Any) -> list[CheckMessage]:
    """E009: an origin is a scheme and a host, so that it can be compared as a whole."""
    return [
        Error(
            f"{NAMESPACE}['RETURN_URL_ORIGINS']: {origin!r} is not a scheme and a host.",
            hint="Write for example 'https://app.example.edu', in lower case, without a slash at the end.",
            id=f"{PREFIX}.E009",
        )
        for origin in _valid("RETURN_URL_ORIGINS")
        if not re.fullmatch(r"https?://[a-z0-9.-]+(:[0-9]+)?", origin)
    ]


def check_dotted_paths(**kwargs: Any) -> list[CheckMessage]:
    """E010: a dotted path that names a function leads to one."""
    return [message for name in DOTTED_PATHS for message in _check_dotted_path(name, _valid(name))]


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
    """E011: the Partner API is told names in a way that there is."""
    encoding = _valid("API_ENCODING")
    if encoding in ("json", "form"):
        return []
    return [
        Error(
            f"{NAMESPACE}['API_ENCODING'] must be 'json' or 'form', not {encoding!r}.",
            hint="Leave it out unless Big Interview answers 422 and misses what was sent.",
            id=f"{PREFIX}.E011",
        )
    ]


def check_allowlists(databases: Sequence[str] | None = None, **kwargs: Any) -> list[CheckMessage]:
    """E014: no allowlist names a trusted proxy; E015: each is one that the form would take.

    Rows can be older than the settings, or have been written past the form. They are read only where a command
    names their database, as ``migrate`` does and ``check --database default``.
    """
    if router.db_for_write(WebhookRegistration) not in (databases or []):
        return []
    try:
        rows = list(WebhookRegistration.objects.values_list("name", "allowed_networks"))
    except DatabaseFailure:
        return []  # its table, or all of the database, is still to be made
    return [message for name, networks in rows for message in _check_allowlist(name, networks)]


def _check_allowlist(name: str, networks: object) -> list[CheckMessage]:
    try:
        validate_networks(networks)
    except ValidationError as error:
        names_a_proxy = error.code == NAMES_A_PROXY
        return [
            Error(
                f"The allowlist of the registration {name!r}: {' '.join(error.messages)}",
                hint="Correct TRUSTED_PROXIES, or the allowlist in the admin."
                if names_a_proxy
                else "Correct it in the admin.",
                id=f"{PREFIX}.E014" if names_a_proxy else f"{PREFIX}.E015",
            )
        ]
    return []


def check_receivers(**kwargs: Any) -> list[CheckMessage]:
    """E016: every receiver accepts the arguments that receivers are called with."""
    return [
        Error(
            f"The receiver {receiver.name} does not accept the arguments {', '.join(ARGUMENTS)}, so it always fails.",
            hint="Accept the arguments that you use, and **kwargs: def receiver(event, data, **kwargs).",
            id=f"{PREFIX}.E016",
        )
        for receiver in all_receivers()
        if not accepts_arguments(receiver.function)
    ]


def check_celery_app(**kwargs: Any) -> list[CheckMessage]:
    """W001: the host project has a Celery app, and it is loaded."""
    if notifier.has_app or _valid("CELERY_APP"):
        return []
    return [
        Warning(
            "No Celery app is loaded, so workers are not notified of new events.",
            hint="Import your Celery app in your project's __init__.py, or dispatch with `manage.py bi_dispatch` from"
            " cron and silence this check.",
            id=f"{PREFIX}.W001",
        )
    ]


def check_named_celery_app(**kwargs: Any) -> list[CheckMessage]:
    """E018: CELERY_APP leads to a Celery app."""
    path = _valid("CELERY_APP")
    try:
        if path:
            named_app(path)
    except ImproperlyConfigured as error:
        return [
            Error(
                f"{NAMESPACE}['CELERY_APP'] is {path!r}, but {error}. No worker is notified of new events.",
                hint="Write the dotted path of your Celery app, such as 'university.celery.app', or leave it out if"
                " your project has only one.",
                id=f"{PREFIX}.E018",
            )
        ]
    return []


def check_one_celery_app(**kwargs: Any) -> list[CheckMessage]:
    """W012: if there are several Celery apps, a setting decides which one notifies workers."""
    apps = [app.main or "one without a name" for app in list(_get_active_apps()) if app.set_as_current]
    apps = [name for name in apps if name != "default"]  # the one that Celery makes up
    if _valid("CELERY_APP") or len(apps) < 2:
        return []
    return [
        Warning(
            f"This process has {len(apps)} Celery apps: {', '.join(sorted(apps))}. Notifications go through"
            f" {notifier.celery.main}, because it was the current app when Django was set up.",
            hint=f"Set {NAMESPACE}['CELERY_APP'] to the dotted path of the app whose workers dispatch events, such as"
            " 'university.celery.app'. Or create the others with Celery(…, set_as_current=False).",
            id=f"{PREFIX}.W012",
        )
    ]


def check_proxy_hint(**kwargs: Any) -> list[CheckMessage]:
    """W002: a project that says it is behind a proxy names it."""
    behind = getattr(django_settings, "SECURE_PROXY_SSL_HEADER", None) or getattr(
        django_settings, "USE_X_FORWARDED_HOST", False
    )
    if not behind or configured().get("TRUSTED_PROXIES"):
        return []
    return [
        Warning(
            "The project is behind a proxy, but TRUSTED_PROXIES is empty: every delivery seems to come from the proxy.",
            hint=f"Set {NAMESPACE}['TRUSTED_PROXIES'] to your proxies' addresses, outermost first.",
            id=f"{PREFIX}.W002",
        )
    ]


def check_partner_user(**kwargs: Any) -> list[CheckMessage]:
    """W003: who has ids of their own can lead them back to users."""
    if _valid("PARTNER_ID") == Settings.PARTNER_ID or "PARTNER_USER" in configured():
        return []
    return [
        Warning(
            "PARTNER_ID is set and PARTNER_USER is not: events cannot tell whom they are about.",
            hint=f"Set {NAMESPACE}['PARTNER_USER'] to a function that finds the user of an id, or returns None. Each id"
            " belongs to exactly one user.",
            id=f"{PREFIX}.W003",
        )
    ]


def check_encryption_keys(**kwargs: Any) -> list[CheckMessage]:
    """W004: an encryption key is too long to be guessed."""
    if all(len(key) >= SHORTEST_KEY for key in _valid("ENCRYPTION_KEYS")):
        return []
    return [
        Warning(
            f"A key in ENCRYPTION_KEYS is shorter than {SHORTEST_KEY} characters.",
            hint="Make one with `python -c 'import secrets; print(secrets.token_urlsafe(48))'`.",
            id=f"{PREFIX}.W004",
        )
    ]


def check_way_in(**kwargs: Any) -> list[CheckMessage]:
    """E012: deliveries reach the webhook through the project's middleware; E013: in whatever form they come."""
    return [
        Error(wall.problem, hint=wall.remedy, id=f"{PREFIX}.E012" if wall.is_total else f"{PREFIX}.E013")
        for wall in find_walls(own_hosts())
    ]


def check_eager_tasks(**kwargs: Any) -> list[CheckMessage]:
    """W005: receivers do not run while a vendor waits for the answer."""
    if not notifier.has_app or not notifier.is_eager:
        return []
    return [
        Warning(
            "CELERY_TASK_ALWAYS_EAGER is on: a vendor waits for its answer until all receivers have run.",
            hint="Leave it to tests, and run a worker.",
            id=f"{PREFIX}.W005",
        )
    ]


def check_sweep(**kwargs: Any) -> list[CheckMessage]:
    """W006: something finds the events that no message reached, and those that are to be tried again."""
    if not notifier.has_app:
        return []  # W001 tells
    entries = notifier.celery.conf.beat_schedule or {}
    if any(entry.get("task") == TASK for entry in entries.values()):
        return []
    return [
        Warning(
            "Celery's schedule has no sweep: an event whose message is lost, or which is to be tried again, may wait"
            " for ever.",
            hint="Set CELERY_BEAT_SCHEDULE = beat_schedule(). If your schedule is in a database, or cron runs"
            " `manage.py bi_dispatch`, silence this check.",
            id=f"{PREFIX}.W006",
        )
    ]


def check_pool(**kwargs: Any) -> list[CheckMessage]:
    """W007: the configured pool can run the async receivers that are connected."""
    pool = str(notifier.celery.conf.worker_pool) if notifier.has_app else ""
    names = [receiver.name for receiver in all_receivers() if receiver.is_async]
    if not names or not any(library in pool for library in PATCHES):
        return []
    return [
        Warning(
            f"CELERY_WORKER_POOL is {pool!r}, which cannot run async receivers: {', '.join(names)}.",
            hint="Use the pool 'prefork', 'solo' or 'threads', or make these receivers plain functions.",
            id=f"{PREFIX}.W007",
        )
    ]


def check_forwarded_allow_ips(**kwargs: Any) -> list[CheckMessage]:
    """W009: the environment does not have uvicorn believe everybody's word on their address."""
    entries = [entry.strip() for entry in os.environ.get("FORWARDED_ALLOW_IPS", "").split(",")]
    if find_spec("uvicorn") is None or not any(_is_everybody(entry) for entry in entries):
        return []
    return [
        Warning(
            "FORWARDED_ALLOW_IPS lets uvicorn believe whatever address a client claims, so allowlists stop nobody.",
            hint="Unset it, start uvicorn with --no-proxy-headers, and name your proxies in"
            f" {NAMESPACE}['TRUSTED_PROXIES']. If another server runs the project, silence this check.",
            id=f"{PREFIX}.W009",
        )
    ]


def _is_everybody(entry: str) -> bool:
    if entry == "*":
        return True
    try:
        return is_vast(read_network(entry))
    except ValueError:
        return False


#: What ``manage.py check --deploy`` asks alone: middleware may need what is there in production only.
ON_DEPLOYMENT: list[Check] = [check_way_in, check_eager_tasks, check_sweep, check_pool, check_forwarded_allow_ips]

ALL: list[Check] = [
    check_is_dict,
    check_names,
    check_types,
    check_trusted_proxies,
    check_hops,
    check_database,
    check_time_zones,
    check_base_url,
    check_return_url_origins,
    check_dotted_paths,
    check_api_encoding,
    check_receivers,
    check_celery_app,
    check_named_celery_app,
    check_one_celery_app,
    check_proxy_hint,
    check_partner_user,
    check_encryption_keys,
]
#: Run where a command names a database.
OF_THE_DATABASE: list[Check] = [check_allowlists]
