"""Is it working? One function for each question; each returns findings and changes nothing."""

import ipaddress
import time
from collections.abc import Iterable, Iterator
from datetime import timedelta
from importlib.util import find_spec

from django.core import checks
from django.core.exceptions import ImproperlyConfigured
from django.db import DEFAULT_DB_ALIAS, connection
from django.db import Error as DatabaseFailure
from django.db.migrations.executor import MigrationExecutor
from django.db.models import Sum
from django.utils import timezone
from django.utils.timesince import timesince

from django_bi_integration.exceptions import KeyOfAnotherAccount, UndecryptableKey
from django_bi_integration.models import BigInterviewAccount, ReceivedEvent, Rejection, WebhookRegistration
from django_bi_integration.operations.findings import Finding, Level
from django_bi_integration.operations.public_url import public_url
from django_bi_integration.operations.web_process import web_process
from django_bi_integration.operations.workers import CLOCK_TOLERANCE, NTP, clock_finding, difference, workers

APP = "django_bi_integration"
#: Longer than an event waits if cron dispatches every minute.
LATE = timedelta(minutes=5)
#: The database's clock, in seconds since 1970. SQLite has none.
DATABASE_CLOCKS = {
    "postgresql": "SELECT extract(epoch FROM clock_timestamp())",
    "mysql": "SELECT unix_timestamp(sysdate(6))",
}
#: How long a conflict is reported after its event's latest delivery.
CONFLICTS_MATTER = timedelta(days=30)


def examine(url: str | None = None) -> Iterator[Finding]:
    """Answer every question; ``url`` is the scheme and host that were given to the vendors."""
    yield from system_checks()
    if url and (reached := public_url(url)):
        yield reached
        if reached.level is Level.OK:
            yield from web_process(url)
    yield from workers()
    database = tables()
    yield database
    if database.level is Level.OK:
        for question in (
            driver_options,
            stored_settings,
            registrations,
            rejections,
            queue,
            conflicts,
            accounts,
            clocks,
        ):
            yield from question()


def system_checks() -> Iterator[Finding]:
    """Do this package's system checks report anything? Include ``check --deploy``, and leave out silenced checks."""
    found = list(_from_checks(checks.run_checks(tags=[APP], include_deployment_checks=True)))
    fine = Finding(Level.OK, "system checks", "the settings are fine, and middleware lets deliveries through")
    yield from found or [fine]


def stored_settings() -> Iterator[Finding]:
    """Do the system checks that read the database report anything?"""
    yield from _from_checks(checks.run_checks(tags=[checks.Tags.database], databases=[DEFAULT_DB_ALIAS]))


def _from_checks(messages: Iterable[checks.CheckMessage]) -> Iterator[Finding]:
    for message in messages:
        if str(message.id).startswith(APP) and not message.is_silenced():
            level = Level.FAIL if message.level >= checks.ERROR else Level.WARN
            yield Finding(level, "system checks", f"{message.msg} ({message.id})", message.hint or "")


def tables() -> Finding:
    """Can the database be reached, and is it up to date?"""
    try:
        executor = MigrationExecutor(connection)
        leaves = [node for node in executor.loader.graph.leaf_nodes() if node[0] == APP]
        missing = [migration.name for migration, _ in executor.migration_plan(leaves) if migration.app_label == APP]
    except (DatabaseFailure, ImproperlyConfigured) as error:
        reason = str(error).partition("\n")[0]
        return Finding(
            Level.FAIL, "database", f"it cannot be read: {reason}", "Check DATABASES and the database server."
        )
    if missing:
        remedy = f"Run `manage.py migrate {APP}`."
        return Finding(Level.FAIL, "database", f"migrations are missing: {', '.join(missing)}", remedy)
    return Finding(Level.OK, "database", "every migration is applied")


def driver_options() -> Iterator[Finding]:
    """Does psycopg prepare the statements that run for each delivery? Behind a transaction pooler it must not."""
    database = connection.settings_dict
    if connection.vendor != "postgresql" or find_spec("psycopg") is None or database["DISABLE_SERVER_SIDE_CURSORS"]:
        return
    if not database["OPTIONS"].get("server_side_binding"):
        message = "PostgreSQL plans each statement again, because psycopg does not prepare any"
        remedy = (
            'Set "OPTIONS": {"server_side_binding": True, "prepare_threshold": 5} in DATABASES for about a fifth more'
            " deliveries per second, unless a pooler gives each transaction another connection."
        )
        yield Finding(Level.OK, "database", message, remedy)


def registrations() -> Iterator[Finding]:
    """Is there an active registration, and can its vendor authenticate?"""
    active = list(WebhookRegistration.objects.filter(is_active=True))
    for registration in active:
        if not registration.has_credentials:
            remedy = "Add the vendor's key or its addresses in the admin."
            yield Finding(
                Level.FAIL,
                "registrations",
                f"“{registration}” has neither a key nor an allowlist, and rejects everything",
                remedy,
            )
    if not active:
        remedy = "Create one in the admin or with `manage.py bi_register`, unless you only use single sign-on."
        yield Finding(Level.WARN, "registrations", "none is active, so no vendor can deliver", remedy)
    if usable := sum(registration.has_credentials for registration in active):
        yield Finding(Level.OK, "registrations", f"{usable} active, with credentials")


def rejections() -> Iterator[Finding]:
    """Was a delivery to a registration rejected lately, and why?"""
    recent = Rejection.objects.filter(registration__isnull=False, last_at__gte=timezone.now() - timedelta(days=1))
    for reason, count in recent.order_by("reason").values_list("reason").annotate(Sum("count")):
        message = f"{count} rejected in the last 24 hours: {Rejection.Reason(reason).label}"
        remedy = "See Rejections in the admin."
        if reason == Rejection.Reason.ADDRESS:
            remedy = _remedy_for_addresses(recent.filter(reason=reason).values_list("address", flat=True))
        yield Finding(Level.WARN, "rejections", message, remedy)


def _remedy_for_addresses(addresses: Iterable[str]) -> str:
    inside = sorted({address or "unknown" for address in addresses if not address or _is_inside(address)})
    if inside:
        return (
            f"Addresses seem to be your own proxy's ({', '.join(inside)}): does TRUSTED_PROXIES name every proxy in"
            " front of the project, outermost first?"
        )
    return "See Rejections in the admin: is it the vendor's address, and missing in the allowlist?"


def _is_inside(address: str) -> bool:
    return not ipaddress.ip_address(address).is_global


def queue() -> Iterator[Finding]:
    """Are stored events dispatched, and without failures?"""
    now = timezone.now()
    overdue = ReceivedEvent.objects.due(now - LATE)
    oldest = overdue.order_by("next_attempt_at").values_list("next_attempt_at", flat=True).first()
    if oldest:
        message = f"{overdue.count()} events wait to be dispatched, the oldest for {timesince(oldest, now)}"
        remedy = "Start a Celery worker and a beat with the sweep, or run `manage.py bi_dispatch` from cron."
        yield Finding(Level.FAIL, "queue", message, remedy)
    else:
        yield Finding(Level.OK, "queue", f"no event waits for longer than {LATE.seconds // 60} minutes")
    if failed := ReceivedEvent.objects.filter(status=ReceivedEvent.Status.FAILED).count():
        remedy = "See Received events in the admin, which show each receiver's error."
        yield Finding(Level.WARN, "queue", f"{failed} events have failed", remedy)


def conflicts() -> Iterator[Finding]:
    """Was another body, which is not dispatched, delivered under the id of an event?"""
    # Not by the time of receipt: a forged event may be stored long before the genuine one with its id.
    since = timezone.now() - CONFLICTS_MATTER
    if count := ReceivedEvent.objects.conflicting().filter(last_delivery_at__gte=since).count():
        days = CONFLICTS_MATTER.days
        message = (
            f"{count} events had another body delivered under their id in the last {days} days; it is not dispatched"
        )
        remedy = (
            "Filter Received events by “with conflicts” in the admin and compare the two bodies. If the key has leaked,"
            " see “When a key has leaked” in the documentation."
        )
        yield Finding(Level.WARN, "conflicts", message, remedy)


def accounts() -> Iterator[Finding]:
    """Can the API keys of Big Interview be decrypted, and does it accept them?"""
    usable = list(BigInterviewAccount.objects.usable())
    problems: dict[type[UndecryptableKey], list[str]] = {}
    for account in usable:
        try:
            account.decrypted_key()
        except UndecryptableKey as error:
            problems.setdefault(type(error), []).append(account.subdomain)
    rejected = [account for account in usable if account.key_rejected_at]
    if others := problems.get(KeyOfAnotherAccount):
        message = f"API keys were entered for another subdomain: {', '.join(others)}"
        yield Finding(Level.FAIL, "accounts", message, "Enter the API key of each again in the admin.")
    if unreadable := problems.get(UndecryptableKey):
        remedy = "Put the key that encrypted them back into ENCRYPTION_KEYS, or enter the API keys again in the admin."
        yield Finding(Level.FAIL, "accounts", f"API keys cannot be decrypted: {', '.join(unreadable)}", remedy)
    for account in rejected:
        message = (
            f"Big Interview has rejected the API key of “{account}” since {account.key_rejected_at:%Y-%m-%d %H:%M} UTC"
        )
        remedy = "Copy the key again from Big Interview (your name, then “API Settings”) into the admin."
        yield Finding(Level.FAIL, "accounts", message, remedy)
    if usable and not problems and not rejected:
        yield Finding(Level.OK, "accounts", f"{len(usable)} API keys can be decrypted")


def clocks() -> Iterator[Finding]:
    """Is the database's clock right? Was an event received in the future, by a machine whose clock is wrong?"""
    if statement := DATABASE_CLOCKS.get(connection.vendor):
        with connection.cursor() as cursor:
            asked = time.time()
            cursor.execute(statement)
            ahead = difference(float(cursor.fetchone()[0]), asked, time.time())
        if abs(ahead) > CLOCK_TOLERANCE:
            yield clock_finding("the database", ahead)
    if ReceivedEvent.objects.filter(received_at__gt=timezone.now() + timedelta(seconds=CLOCK_TOLERANCE)).exists():
        message = "an event was received in the future"
        yield Finding(Level.WARN, "clocks", message, f"{NTP} A worker waits until such an event is due.")
