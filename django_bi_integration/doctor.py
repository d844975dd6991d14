"""Is it working? One function a question; each answers with findings, and changes nothing."""

import ipaddress
from collections.abc import Iterable, Iterator
from datetime import timedelta

from django.core import checks
from django.core.exceptions import ImproperlyConfigured
from django.db import DEFAULT_DB_ALIAS, connection
from django.db import Error as DatabaseFailure
from django.db.migrations.executor import MigrationExecutor
from django.db.models import Sum
from django.utils import timezone
from django.utils.timesince import timesince

from django_bi_integration import encryption
from django_bi_integration.exceptions import UndecryptableKey
from django_bi_integration.findings import Finding, Level, within
from django_bi_integration.models import BigInterviewAccount, ReceivedEvent, Refusal, WebhookRegistration
from django_bi_integration.public_url import public_url
from django_bi_integration.web_process import web_process
from django_bi_integration.webhooks.wake_up import publisher

APP = "django_bi_integration"
#: Seconds that the broker has to answer, and the workers have within these.
BROKER_PATIENCE = 5.0
WORKER_PATIENCE = 1.0
#: Longer than cron, which comes every minute, leaves an event to wait.
LATE = timedelta(minutes=5)
#: What two machines' clocks may differ by.
CLOCK_TOLERANCE = timedelta(minutes=1)


def examine(url: str | None = None) -> Iterator[Finding]:
    """Ask every question; ``url`` is the scheme and host that the vendors were given."""
    yield from system_checks()
    if url and (reached := public_url(url)):
        yield reached
        if reached.level is Level.OK:
            yield from web_process(url)
    yield from workers()
    database = tables()
    yield database
    if database.level is Level.OK:
        for question in (stored_settings, registrations, refusals, queue, accounts, clocks):
            yield from question()


def system_checks() -> Iterator[Finding]:
    """Does a system check of this package complain, those of ``check --deploy`` included? Silenced ones do not."""
    found = list(_complaints(checks.run_checks(tags=[APP], include_deployment_checks=True)))
    fine = Finding(Level.OK, "system checks", "the settings are fine, and middleware lets deliveries through")
    yield from found or [fine]


def stored_settings() -> Iterator[Finding]:
    """Does a system check complain that reads the database?"""
    yield from _complaints(checks.run_checks(tags=[checks.Tags.database], databases=[DEFAULT_DB_ALIAS]))


def _complaints(messages: Iterable[checks.CheckMessage]) -> Iterator[Finding]:
    for message in messages:
        if str(message.id).startswith(APP) and not message.is_silenced():
            level = Level.FAIL if message.level >= checks.ERROR else Level.WARN
            yield Finding(level, "system checks", f"{message.msg} ({message.id})", message.hint or "")


def workers() -> Iterator[Finding]:
    """Can the broker be reached, and does a worker listen?"""
    if not publisher.has_app:
        return  # a system check tells
    try:
        names = within(BROKER_PATIENCE, _names_of_workers)
    except Exception as error:  # noqa: BLE001 - transports raise what they like
        problem = str(error) or f"no answer within {BROKER_PATIENCE:g} seconds"
        remedy = "Look at CELERY_BROKER_URL and whether the broker runs. Events are stored all the same."
        yield Finding(Level.FAIL, "broker", f"it cannot be reached: {problem}", remedy)
        return
    yield Finding(Level.OK, "broker", "it can be reached")
    if names:
        yield Finding(Level.OK, "workers", f"they answer: {', '.join(sorted(names))}")
    else:
        remedy = "Start `celery worker` and one `celery beat`, unless cron runs `manage.py bi_dispatch`."
        yield Finding(Level.WARN, "workers", "no Celery worker answers", remedy)


def _names_of_workers() -> list[str]:
    with publisher.celery.connection_for_write() as broker:
        broker.connect()  # once; the ping would try again and again
        replies = publisher.celery.control.ping(timeout=WORKER_PATIENCE, connection=broker) or []
    return [name for reply in replies for name in reply]


def tables() -> Finding:
    """Can the database be reached, and is it up to date?"""
    try:
        executor = MigrationExecutor(connection)
        leaves = [node for node in executor.loader.graph.leaf_nodes() if node[0] == APP]
        missing = [migration.name for migration, _ in executor.migration_plan(leaves) if migration.app_label == APP]
    except (DatabaseFailure, ImproperlyConfigured) as error:
        reason = str(error).partition("\n")[0]
        return Finding(Level.FAIL, "database", f"it cannot be read: {reason}", "Look at DATABASES, and the server.")
    if missing:
        remedy = f"Run `manage.py migrate {APP}`."
        return Finding(Level.FAIL, "database", f"migrations are missing: {', '.join(missing)}", remedy)
    return Finding(Level.OK, "database", "every migration is applied")


def registrations() -> Iterator[Finding]:
    """Is there anything to deliver to, and can a vendor prove itself to it?"""
    active = list(WebhookRegistration.objects.filter(is_active=True))
    for registration in active:
        if not registration.has_proof:
            remedy = "Add the vendor's key or its addresses in the admin."
            yield Finding(Level.FAIL, "registrations", f"“{registration}” has no proof and refuses everything", remedy)
    if not active:
        remedy = "Make one in the admin or with `manage.py bi_register`, unless you only use single sign-on."
        yield Finding(Level.WARN, "registrations", "none is active: no vendor can deliver", remedy)
    if proven := sum(registration.has_proof for registration in active):
        yield Finding(Level.OK, "registrations", f"{proven} active, with proof")


def refusals() -> Iterator[Finding]:
    """Was a delivery to a registration turned away lately, and why?"""
    recent = Refusal.objects.filter(registration__isnull=False, last_at__gte=timezone.now() - timedelta(days=1))
    for reason, count in recent.order_by("reason").values_list("reason").annotate(Sum("count")):
        message = f"{count} refused in the last 24 hours: {Refusal.Reason(reason).label}"
        remedy = "Look at Refusals in the admin."
        if reason == Refusal.Reason.ADDRESS:
            remedy = _remedy_for_addresses(recent.filter(reason=reason).values_list("address", flat=True))
        yield Finding(Level.WARN, "refusals", message, remedy)


def _remedy_for_addresses(addresses: Iterable[str]) -> str:
    inside = sorted({address or "unknown" for address in addresses if not address or _is_inside(address)})
    if inside:
        return (
            f"Addresses seem to be your own proxy's ({', '.join(inside)}): does TRUSTED_PROXIES name every proxy in"
            " front of the project, outermost first?"
        )
    return "Look at Refusals in the admin: is it the vendor's address, missing on the allowlist?"


def _is_inside(address: str) -> bool:
    return not ipaddress.ip_address(address).is_global


def queue() -> Iterator[Finding]:
    """Does somebody dispatch what is stored, and did it succeed?"""
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
        remedy = "Look at Received events in the admin: each receiver's error is there."
        yield Finding(Level.WARN, "queue", f"{failed} events have failed", remedy)


def accounts() -> Iterator[Finding]:
    """Can the API keys of Big Interview be decrypted?"""
    usable = BigInterviewAccount.objects.usable()
    unreadable = [account.subdomain for account in usable if not _is_readable(account)]
    if unreadable:
        remedy = "Put the key that encrypted them back into ENCRYPTION_KEYS, or enter the API keys anew in the admin."
        yield Finding(Level.FAIL, "accounts", f"API keys cannot be decrypted: {', '.join(unreadable)}", remedy)
    elif usable:
        yield Finding(Level.OK, "accounts", f"{len(usable)} API keys can be decrypted")


def _is_readable(account: BigInterviewAccount) -> bool:
    try:
        encryption.decrypt(account.api_key_encrypted)
    except UndecryptableKey:
        return False
    return True


def clocks() -> Iterator[Finding]:
    """Has an event come from the future, as a machine with another clock would store it?"""
    if ReceivedEvent.objects.filter(received_at__gt=timezone.now() + CLOCK_TOLERANCE).exists():
        remedy = "Let the clocks of all machines be set by NTP: a worker waits for what seems to be due later."
        yield Finding(Level.WARN, "clocks", "an event was received in the future", remedy)
