"""Fixtures and hooks for every test, and the report of a run."""

import json
import math
import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import hypothesis
import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from demo.embedded import Worker, running_worker
from django_bi_integration.dispatch import run
from django_bi_integration.dispatch import worker as dispatch
from django_bi_integration.models import ReceivedEvent
from django_bi_integration.webhooks import views
from django_bi_integration.webhooks.rejection_counter import RejectionCounter
from tests.helpers.browser import MISSING, chromium
from tests.helpers.names import SQLITE_FOLDER
from tests.helpers.servers import ServerMissing, provided
from tests.helpers.stack import LiveStack, running_stack
from tests.host import celery_app

STACKS = ["postgres+redis", "mariadb+rabbitmq"]

# No deadline, because machines differ. The first example is slow: Hypothesis then collects the project's constants.
hypothesis.settings.register_profile("any", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("any")
expect.set_options(timeout=30_000)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options of the slow tests."""
    parser.addoption("--fuzz-minutes", type=float, default=0.5, help="how long each of the slow fuzz tests runs")
    parser.addoption("--store-servers", action="store_true", help="store the results of the web server tests")


@pytest.fixture(autouse=True)
def rejection_counter(monkeypatch: pytest.MonkeyPatch) -> RejectionCounter:
    """Replace the process's rejection counter, so that each test's first rejection is written at once."""
    rejection_counter = RejectionCounter()
    rejection_counter.INTERVAL = math.inf  # a slow machine must not end it during a test
    monkeypatch.setattr(views, "rejection_counter", rejection_counter)
    return rejection_counter


@pytest.fixture
def batches(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list that gets the size of each dispatched batch; a batch's transaction has no time limit."""
    sizes, whole = [], dispatch.dispatch

    def recorded(*events: ReceivedEvent, until: float) -> list[str]:
        sizes.append(len(events))
        return whole(*events, until=until)

    monkeypatch.setattr(run, "COMMIT_AFTER", math.inf)
    monkeypatch.setattr(dispatch, "dispatch", recorded)
    return sizes


@pytest.fixture
def celery_worker_thread(transactional_db: None) -> Iterator[Worker]:
    """Run a real Celery worker in a thread. It sees only what the test commits."""
    with running_worker(celery_app) as worker:
        yield worker


@pytest.fixture(scope="session", params=STACKS)
def live_stack(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveStack]:
    """Run the example project under gunicorn with a Celery worker, once on each pair of database and broker."""
    with ExitStack() as servers:
        try:
            database, broker = (servers.enter_context(provided(name)) for name in request.param.split("+"))
        except ServerMissing as missing:
            pytest.skip(f"{request.param}: {missing}")
        folder = tmp_path_factory.mktemp("stack")
        yield servers.enter_context(running_stack(database, broker, folder))


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Start headless Chromium, and close it after each module: Playwright's event loop would affect other tests."""
    path = chromium()
    if path is None:
        pytest.skip(MISSING)
    # Chromium's sandbox does not work as root in a container; the other switches disable its background requests.
    switches = ["--no-sandbox", "--disable-background-networking", "--disable-component-update", "--disable-sync"]
    with pytest.MonkeyPatch.context() as patch, sync_playwright() as playwright:
        # Playwright runs an event loop in this thread, so Django would reject database access as unsafe.
        patch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "1")
        yield playwright.chromium.launch(executable_path=path, args=switches)


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """Open an empty page with a separate session."""
    context = browser.new_context()
    yield context.new_page()
    context.close()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the tests of each stack, and those of the browser, in one xdist worker, so that each starts only once."""
    for item in items:
        if "live_stack" in getattr(item, "fixturenames", []):
            item.add_marker("stack")
            item.add_marker(pytest.mark.xdist_group(f"stack {item.callspec.params['live_stack']}"))
        if "page" in getattr(item, "fixturenames", []):
            item.add_marker("browser")
            item.add_marker(pytest.mark.xdist_group("browser"))


def pytest_configure() -> None:
    """Create the folder for the SQLite databases of all xdist workers."""
    SQLITE_FOLDER.mkdir(exist_ok=True)


def pytest_unconfigure(config: pytest.Config) -> None:
    """Delete the SQLite databases when all xdist workers are done."""
    if not hasattr(config, "workerinput"):
        shutil.rmtree(SQLITE_FOLDER, ignore_errors=True)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """Record which stack a test ran on, and add the output of its programs if the test failed."""
    report = yield
    stack = item.funcargs.get("live_stack") if hasattr(item, "funcargs") else None
    if isinstance(stack, LiveStack):
        if report.when == "call":
            report.user_properties.append(("ran on", stack.label))
        if report.failed:
            report.sections += [(program.name, program.output()) for program in (stack.web, stack.worker)]
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Write the outcomes to the file TEST_REPORT, for the table of scripts/run_tests.py."""
    if "TEST_REPORT" not in os.environ:
        return
    outcomes = []
    for word, counted in {"passed": "passed", "failed": "failed", "error": "failed", "skipped": "skipped"}.items():
        for report in terminalreporter.getreports(word):
            outcomes.append(
                {
                    "outcome": counted,
                    "ran_on": dict(getattr(report, "user_properties", ())).get("ran on"),
                    "reason": report.longrepr[2].removeprefix("Skipped: ") if counted == "skipped" else "",
                }
            )
    Path(os.environ["TEST_REPORT"]).write_text(json.dumps(outcomes))
