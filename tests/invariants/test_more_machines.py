"""The set-ups of docs/performance.md: several hosts behind a pooler, and old events in partitions."""

import os
import re
import shutil
import subprocess
import sys
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import urlsplit

import psycopg
import pytest
from psycopg.rows import dict_row

from fake_vendors.vendors import big_interview
from tests.helpers.deliveries import CREATED, KEY
from tests.helpers.servers import NOBODY, ServerMissing, free_port, provided
from tests.helpers.shared_servers import fresh_database
from tests.helpers.stack import ROOT, Program, answers_http, running_stack
from tests.helpers.waiting import wait_until
from tests.invariants.test_stack import interviews, look, sample

pytestmark = pytest.mark.slow

EVENTS = 200

KINDS = """
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django_bi_integration.models import WebhookRegistration
from django_bi_integration.webhooks.receive import receive
from django_bi_integration.webhooks.registration_cache import with_registration
pk = WebhookRegistration.objects.get().pk
with_registration(pk, lambda registration, expected_row: None)
with CaptureQueriesContext(connection) as queries:
    for number in range(20):
        body = '{"webhook": {"id": "more %s", "event_name": "interview.updated"}}' % number
        with_registration(pk, lambda registration, row: receive(registration, body.encode(), expected_row=row))
print(*sorted({query["sql"].split()[0] for query in queries}))
"""


@pytest.fixture
def servers():
    with ExitStack() as stack:
        try:
            yield tuple(stack.enter_context(provided(name)) for name in ("postgres", "redis"))
        except ServerMissing as missing:
            pytest.skip(str(missing))


@contextmanager
def pooled(url):
    """Run PgBouncer in transaction mode within the block, and yield the database's URL through it."""
    program = shutil.which("pgbouncer", path=f"{os.environ['PATH']}:/usr/sbin")
    if program is None:
        pytest.skip("PgBouncer is missing (apt install pgbouncer)")
    parts, port = urlsplit(url), free_port()
    if not parts.port:
        pytest.skip("PostgreSQL listens only on a Unix socket")
    configuration = (
        f"[databases]\n* = host={parts.hostname} port={parts.port} user={parts.username}\n"
        f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\nauth_type = any\n"
        "pool_mode = transaction\ndefault_pool_size = 3\n"
    )
    as_nobody = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"] if os.getuid() == 0 else []
    through = parts._replace(netloc=f"{parts.username}@127.0.0.1:{port}").geturl()

    def answers(_):
        try:
            psycopg.connect(through).close()
        except psycopg.OperationalError:
            return False
        return True

    # Not in tmp_path, which only its owner can read: PgBouncer runs as another user if the tests run as root.
    with TemporaryDirectory(prefix="bi-pooler-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        (folder / "ini").write_text(configuration)
        command = [*as_nobody, program, str(folder / "ini")]
        pooler = Program("pgbouncer", command, dict(os.environ), folder / "log", answers)
        try:
            pooler.start()
            yield through
        finally:
            pooler.stop()


def test_two_web_hosts_and_two_worker_hosts_share_a_pooler(servers, tmp_path_factory):
    """Every event takes effect once, although each transaction may use another connection."""
    database, broker = servers
    with ExitStack() as running:
        through = running.enter_context(pooled(running.enter_context(fresh_database(database))))
        stack = running_stack(database, broker, tmp_path_factory.mktemp("stack"), DATABASE_URL=through)
        site = running.enter_context(stack)
        port = free_port()
        command = [part if "--bind" not in part else f"--bind=127.0.0.1:{port}" for part in site.web.command]
        second_url = f"http://127.0.0.1:{port}"
        web = replace(site.web, command=command, is_ready=lambda _: answers_http(second_url))
        beatless = [part for part in site.worker.command if part != "-B" and "--schedule" not in part]
        worker = replace(site.worker, command=[re.sub("--hostname=", "--hostname=second-", part) for part in beatless])
        for program in (web, worker):
            running.callback(program.stop)
            program.start()
        url = interviews(site)
        vendors = [big_interview(url, KEY), big_interview(url.replace(site.url, second_url), KEY)]
        for number in range(EVENTS):
            event = sample(CREATED.replace(b"123456789", b"%d" % number).replace(b"95607", b"%d" % number), str(number))
            for vendor in vendors:
                assert vendor.attempt(event).status == 200

        def all_done():
            found = look(site)
            return found if all(event["status"] == "dispatched" for event in found["events"]) else None

        found = wait_until(all_done)
        assert site.manage("shell", "--no-imports", "-c", KINDS).split() == ["INSERT"]
        assert [event["deliveries"] for event in found["events"]] == [2] * EVENTS
        calls = [tuple(call) for call in found["calls"]]
        assert len(calls) == len(set(calls)) == 2 * EVENTS  # the portal's receiver, and its audit


def recipe():
    """Return the documentation's SQL: to run once, to run for each month, and to repeat until no row moves."""
    text = (ROOT / "docs" / "performance.md").read_text()
    return re.findall(r"```sql\n(.*?)```", text, re.DOTALL)


STORE = """
from datetime import datetime, UTC
from django_bi_integration.models import ReceivedEvent, WebhookRegistration
from django_bi_integration.dispatch.worker import dispatch_pending
from django_bi_integration.webhooks.receive import receive
from example_project.portal.models import Activity
registration, _ = WebhookRegistration.objects.get_or_create(name="x", vendor="big_interview")
def deliver(number, interview):
    body = '{"webhook": {"id": "%s", "event_name": "interview.updated", "api_id": "%s"}}' % (number, interview)
    receive(registration, body.encode())
for number in range(30):
    deliver(number, number // 3)
dispatch_pending()
Activity.objects.all().delete()  # the portal's own rows refer to events
ReceivedEvent.objects.update(received_at=datetime(2026, 1, 15, tzinfo=UTC))
deliver("waiting", "x")
ReceivedEvent.objects.filter(vendor_event_id="waiting").update(received_at=datetime(2026, 1, 31, 23, tzinfo=UTC))
deliver("of another month", "y")
"""


def test_old_events_move_into_partitions_by_month(servers):
    """Pending events and each object's newest event are not moved, and a duplicate of them is still recognised."""
    database, _ = servers
    with fresh_database(database) as url:
        environment = {**os.environ, "DJANGO_SETTINGS_MODULE": "example_project.settings", "DATABASE_URL": url}
        environment |= {"CELERY_BROKER_URL": "memory://", "DJANGO_SECRET_KEY": "x"}

        def manage(*arguments):
            command = [sys.executable, "manage.py", *arguments]
            subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True, text=True, timeout=120)

        manage("migrate", "--verbosity=0")
        manage("shell", "--no-imports", "-c", STORE)
        once, each_month, again = recipe()
        with psycopg.connect(url, autocommit=True, row_factory=dict_row) as connection:
            live = "SELECT * FROM django_bi_integration_receivedevent ORDER BY id"
            before = connection.execute(live).fetchall()
            connection.execute(once)
            connection.execute(each_month)
            while connection.execute(again).rowcount:
                pass
            stay = [row["vendor_event_id"] for row in connection.execute(live)]
            assert stay == [*map(str, range(2, 30, 3)), "waiting", "of another month"]
            archived = connection.execute("SELECT * FROM bi_event_archive_2026_01 ORDER BY id").fetchall()
            assert archived == [row for row in before if row["vendor_event_id"] not in stay]
            assert len(archived) == 20
        manage("shell", "--no-imports", "-c", STORE.split("for number")[0] + 'deliver("waiting", "x")')
        with psycopg.connect(url) as connection:
            counted = connection.execute(
                "SELECT deliveries FROM django_bi_integration_receivedevent WHERE vendor_event_id = 'waiting'"
            )
            assert counted.fetchall() == [(2,)]
