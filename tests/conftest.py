"""Fixtures for every test, and what a run tells about itself."""

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

# On a machine of any speed; and Hypothesis reads the whole project's constants within the first example.
hypothesis.settings.register_profile("any", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("any")
expect.set_options(timeout=30_000)


def pytest_addoption(parser: pytest.Parser) -> None:
    """How long to look for requests that break something; the tests that do are marked slow."""
    parser.addoption("--fuzz-minutes", type=float, default=0.5, help="how long each of the slow fuzz tests goes on")
    parser.addoption("--store-servers", action="store_true", help="store what the tests of web servers measure")


@pytest.fixture(autouse=True)
def rejection_counter(monkeypatch: pytest.MonkeyPatch) -> RejectionCounter:
    """A count of rejections that begins with the test: the first is written at once, the rest in a while."""
    rejection_counter = RejectionCounter()
    monkeypatch.setattr(views, "rejection_counter", rejection_counter)
    return rejection_counter


@pytest.fixture
def batches(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The numbers of events that were dispatched together, in transactions without a limit of time."""
    sizes, whole = [], dispatch.dispatch

    def recorded(*events: ReceivedEvent, until: float) -> list[str]:
        sizes.append(len(events))
        return whole(*events, until=until)

    monkeypatch.setattr(run, "COMMIT_AFTER", math.inf)
    monkeypatch.setattr(dispatch, "dispatch", recorded)
    return sizes


@pytest.fixture
def celery_worker_thread(transactional_db: None) -> Iterator[Worker]:
    """A real Celery worker in a thread; it sees what the test commits."""
    with running_worker(celery_app) as worker:
        yield worker


@pytest.fixture(scope="session", params=STACKS)
def live_stack(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveStack]:
    """The example project under gunicorn with a Celery worker; each test that asks runs on each pair of servers."""
    with ExitStack() as servers:
        try:
            database, broker = (servers.enter_context(provided(name)) for name in request.param.split("+"))
        except ServerMissing as missing:
            pytest.skip(f"{request.param}: {missing}")
        folder = tmp_path_factory.mktemp("stack")
        yield servers.enter_context(running_stack(database, broker, folder))


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium without a window, closed with the module: other tests must not run within Playwright's event loop."""
    path = chromium()
    if path is None:
        pytest.skip(MISSING)
    # A container has no sandbox for root; the other switches keep Chromium from calling home.
    switches = ["--no-sandbox", "--disable-background-networking", "--disable-component-update", "--disable-sync"]
    with pytest.MonkeyPatch.context() as patch, sync_playwright() as playwright:
        # Django takes the thread of that event loop for an asynchronous caller.
        patch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "1")
        yield playwright.chromium.launch(executable_path=path, args=switches)


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """An empty page with a session of its own."""
    context = browser.new_context()
    yield context.new_page()
    context.close()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep the tests of one stack, and those of the browser, in one worker: each is started once then."""
    for item in items:
        if "live_stack" in getattr(item, "fixturenames", []):
            item.add_marker("stack")
            item.add_marker(pytest.mark.xdist_group(f"stack {item.callspec.params['live_stack']}"))
        if "page" in getattr(item, "fixturenames", []):
            item.add_marker("browser")
            item.add_marker(pytest.mark.xdist_group("browser"))


def pytest_configure() -> None:
    """Make room for the databases of all workers."""
    SQLITE_FOLDER.mkdir(exist_ok=True)


def pytest_unconfigure(config: pytest.Config) -> None:
    """Leave nothing behind, once all workers are done."""
    if not hasattr(config, "workerinput"):
        shutil.rmtree(SQLITE_FOLDER, ignore_errors=True)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """Say which stack a test ran on, and show what its programs wrote where it failed."""
    report = yield
    stack = item.funcargs.get("live_stack") if hasattr(item, "funcargs") else None
    if isinstance(stack, LiveStack):
        if report.when == "call":
            report.user_properties.append(("ran on", stack.label))
        if report.failed:
            report.sections += [(program.name, program.output()) for program in (stack.web, stack.worker)]
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Leave what happened for the table of scripts/run_tests.py."""
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
