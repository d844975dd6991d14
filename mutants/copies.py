"""Copies of the checkout in which pytest runs, and what it reports."""

import json
import math
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import coverage
import pytest

from mutants.changes import Mutant

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = "django_bi_integration"
FOLDERS = ["webhooks", "dispatch", "sso"]
#: A mutant that takes so many times longer than its tests and their start, and some seconds, is killed.
TOO_SLOW, START, SECONDS = 4, 3, 10
TIMEOUT = "timeout"
MARKS = "not slow and not packaging and not stack and not browser"
if "TEST_DATABASE_URL" in os.environ:
    MARKS += " and database"


@dataclass
class Reached:
    """Which tests run which lines of which modules, and their seconds."""

    seconds: dict[str, float] = field(default_factory=dict)
    lines: dict[str, dict[str, list[str]]] = field(default_factory=dict)
    #: The lines of each module that run outside of tests, most of them when the module is imported.
    outside: dict[str, list[int]] = field(default_factory=dict)

    def part(self, file: str) -> "Reached":
        """Return what the tests of one file run."""
        own = {test: seconds for test, seconds in self.seconds.items() if test.startswith(f"{file}::")}
        lines = {
            path: {line: found for line, tests in some.items() if (found := [test for test in tests if test in own])}
            for path, some in self.lines.items()
        }
        return Reached(own, lines, self.outside)

    def add(self, other: "Reached") -> None:
        """Add what other tests run."""
        self.seconds |= other.seconds
        for path, lines in other.lines.items():
            for line, tests in lines.items():
                self.lines.setdefault(path, {}).setdefault(line, []).extend(tests)
        for path, outside in other.outside.items():
            self.outside[path] = sorted({*self.outside.get(path, ()), *outside})

    @cached_property
    def rarest(self) -> dict[str, dict[str, int]]:
        """For each module and test: by how many tests the line is run that the fewest run, among those that it runs."""
        found: dict[str, dict[str, int]] = {}
        for path, lines in self.lines.items():
            for tests in sorted(lines.values(), key=len):
                for test in tests:
                    found.setdefault(path, {}).setdefault(test, len(tests))
        return found

    def by(self, mutant: Mutant, patience: float) -> dict[str, float]:
        """Return tests that run the changed lines, or any of the module's if none does, and their seconds.

        Those are first that test what few others do, and one of each parametrized test. Together they take no more than
        ``patience`` seconds, if there are more tests than one.
        """
        lines = self.lines.get(mutant.path, {})
        tests = {test for line in mutant.lines or () for test in lines.get(str(line), ())}
        tests = tests or {test for some in lines.values() for test in some}
        turns = Counter[str]()
        order = []
        for seconds, test in sorted((self.seconds[test], test) for test in tests & self.seconds.keys()):
            turns[function := test.partition("[")[0]] += 1
            order.append((turns[function], self.rarest[mutant.path][test], seconds, test))
        chosen: dict[str, float] = {}
        for _, _, seconds, test in sorted(order):
            if not chosen or seconds < patience:
                chosen[test] = seconds
                patience -= seconds
        return chosen

    def only_in_tests(self, mutant: Mutant) -> bool:
        """Return whether the changed lines run in tests only."""
        return bool(mutant.lines) and not {*(mutant.lines or ())} & {*self.outside.get(mutant.path, ())}


class Observer:
    """A plug-in of pytest that fills in ``Reached``, with the tests that pass."""

    def __init__(self, reached: Reached) -> None:
        self.reached = reached
        self.failed: set[str] = set()
        modules = [f"*/{PACKAGE}/{name}/*" for name in FOLDERS]
        self.coverage = coverage.Coverage(data_file=None, config_file=False, include=modules)
        self.coverage.set_option("run:core", "ctrace")  # the other core knows no contexts
        self.coverage.start()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        """Note whose lines run now."""
        self.coverage.switch_context(item.nodeid)
        result = yield
        self.coverage.switch_context("")
        return result

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Add up the seconds of a test that passes."""
        if report.passed:
            self.reached.seconds[report.nodeid] = self.reached.seconds.get(report.nodeid, 0) + report.duration
        else:
            self.failed.add(report.nodeid)

    def pytest_sessionfinish(self) -> None:
        """Write down what was seen."""
        self.coverage.stop()
        data = self.coverage.get_data()
        for path in data.measured_files():
            name, contexts = str(Path(path).relative_to(Path.cwd())), data.contexts_by_lineno(path)
            self.reached.lines[name] = {str(line): [*filter(None, tests)] for line, tests in contexts.items()}
            self.reached.outside[name] = [line for line, tests in contexts.items() if "" in tests]
        for test in self.failed:
            self.reached.seconds.pop(test, None)
        Path("reached.json").write_text(json.dumps(vars(self.reached)))


class Chosen:
    """A plug-in of pytest that runs the chosen tests only, in their order, and notes the first that fails."""

    def __init__(self, tests: list[str]) -> None:
        self.place = {test: place for place, test in enumerate(tests)}

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Keep and sort."""
        items[:] = sorted(
            (one for one in items if one.nodeid in self.place), key=lambda one: self.place.get(one.nodeid, 0)
        )

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Write the first failure down."""
        if report.failed and not Path("killer").exists():
            Path("killer").write_text(report.nodeid)


class Copy:
    """A copy of the checkout, in which one process of pytest runs at a time."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "checkout"
        self.temporary = folder / "tmp"
        git = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
        for name in subprocess.run(git, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines():
            if (ROOT / name).is_file():
                (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / name, self.folder / name)

    def pytest(self, arguments: list[str], plugin: Callable[[], object], limit: float = math.inf) -> int | str:
        """Return pytest's exit code in this copy, or TIMEOUT."""
        shutil.rmtree(self.temporary, ignore_errors=True)
        self.temporary.mkdir(parents=True)
        child = os.fork()
        if child == 0:
            self._run_pytest(arguments, plugin)
        end = time.monotonic() + limit
        return wait_for_group(child, lambda: end)

    def _run_pytest(self, arguments: list[str], plugin: Callable[[], object]) -> None:
        code = 1
        try:
            os.setsid()
            os.chdir(self.folder)
            output = os.open(self.temporary / "output", os.O_CREAT | os.O_WRONLY)
            os.dup2(output, 1)
            os.dup2(output, 2)
            sys.path[0] = os.environ["PYTHONPATH"] = str(self.folder)
            os.environ["TMPDIR"] = tempfile.tempdir = str(self.temporary)
            fixed = ["-q", "-p", "no:randomly", "-p", "no:cacheprovider", "--hypothesis-seed=0", "-m", MARKS]
            code = pytest.main([*fixed, *arguments], plugins=[plugin()])
        finally:
            os._exit(code)


def wait_for_group(leader: int, end: Callable[[], float]) -> int | str:
    """Wait until a child process ends, or the time at which it has to; then end the processes that it started."""
    try:
        while (ended := os.waitpid(leader, os.WNOHANG)) == (0, 0):
            if time.monotonic() > end():
                return TIMEOUT
            time.sleep(0.01)
        return os.waitstatus_to_exitcode(ended[1])
    finally:
        with suppress(ProcessLookupError, ChildProcessError):
            os.killpg(leader, signal.SIGKILL)
            os.waitpid(leader, 0)


def limit_of(seconds: float) -> float:
    """Return how many seconds a mutant has for tests that take so many on the code as it is."""
    return TOO_SLOW * (START + seconds) + SECONDS


@contextmanager
def written(mutant: Mutant, folder: Path) -> Iterator[None]:
    """Have the mutant's source in its module. Each version gets another second: Python compiles it again."""
    module = folder / mutant.path
    original = module.read_text()
    write(module, mutant.source)
    try:
        yield
    finally:
        write(module, original)


def write(path: Path, text: str) -> None:
    """Write a text with a time of change that no other version of the file had."""
    second = int(path.stat().st_mtime) + 1
    path.write_text(text)
    os.utime(path, (second, second))
