"""Change the code in small ways and see whether a test fails: `make mutants ARGS="sso --sample 300 --seed 14"`.

Each mutant is a copy of the checkout with one change. It runs the tests that reach the changed lines, the fastest
first. A mutant that no test notices is a missing test, code that nothing needs, or is listed in tests/mutants.toml with
the reason why it makes no difference. TEST_DATABASE_URL chooses the database, as for pytest.
"""

import argparse
import hashlib
import importlib
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import coverage
import pytest

from scripts.mutations import Mutant, sample

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = "django_bi_integration"
FOLDERS = ["webhooks", "dispatch", "sso"]
TESTS = ["tests/" + name for name in "webhooks dispatch sso invariants vendors recovery operations partner_api".split()]
MARKS = "not slow and not packaging and not stack and not browser"
KNOWN = ROOT / "tests/mutants.toml"
STATE = ROOT / ".mutants"
#: Loaded once, before the processes of the mutants are forked. None of them reads Django's settings.
PRELOADED = "celery.app.base celery.apps.worker kombu.transport.memory django.db.models django.test.client django.forms "
PRELOADED += "django.contrib.admin.helpers hypothesis playwright.sync_api psycopg requests cryptography.fernet"
#: Tests that run first, in a process of their own: they kill most mutants, and few modules of tests are loaded.
FIRST = 30
#: A mutant that takes so many times longer than its tests, and some seconds, is killed.
TOO_SLOW, SECONDS = 4, 10
NO_TESTS = 5
#: What identifies a mutant in the list of those that make no difference.
KEY = ("module", "function", "original", "mutated")


@dataclass
class Reached:
    """Which tests run which lines of which modules, and their seconds."""

    seconds: dict[str, float] = field(default_factory=dict)
    lines: dict[str, dict[str, list[str]]] = field(default_factory=dict)

    def by(self, mutant: Mutant) -> list[str]:
        """Return the tests that run the changed lines, the fastest first; all of the module's if there are none."""
        lines = self.lines.get(mutant.path, {})
        reached = {test for line in mutant.lines or () for test in lines.get(str(line), ())}
        reached = reached or {test for tests in lines.values() for test in tests}
        return sorted(reached & self.seconds.keys(), key=lambda test: (self.seconds[test], test))


class Observer:
    """A plug-in of pytest that fills in ``Reached``, with the tests that pass."""

    def __init__(self, reached: Reached) -> None:
        self.reached = reached
        self.failed: set[str] = set()
        self.coverage = coverage.Coverage(data_file=None, config_file=False, include=[f"*/{PACKAGE}/*"])
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
            lines = {str(line): [test for test in tests if test] for line, tests in data.contexts_by_lineno(path).items()}
            self.reached.lines[str(Path(path).relative_to(Path.cwd()))] = lines
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

    def pytest(self, arguments: list[str], plugin: Callable[[], object], limit: float | None = None) -> int | None:
        """Return pytest's exit code in this copy; None if it took longer than the limit."""
        shutil.rmtree(self.temporary, ignore_errors=True)
        self.temporary.mkdir(parents=True)
        begun = time.monotonic()
        child = os.fork()
        if child == 0:
            self._run_pytest(arguments, plugin)
        try:
            while (ended := os.waitpid(child, os.WNOHANG)) == (0, 0):
                if limit and time.monotonic() - begun > limit:
                    return None
                time.sleep(0.02)
            return os.waitstatus_to_exitcode(ended[1])
        finally:
            self._end_group(child)

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

    def _end_group(self, child: int) -> None:
        try:
            os.killpg(child, signal.SIGKILL)
            os.waitpid(child, 0)
        except (ProcessLookupError, ChildProcessError):
            pass


@dataclass
class Result:
    """What became of a mutant."""

    mutant: Mutant
    outcome: str
    killer: str = ""
    seconds: float = 0.0

    def __str__(self) -> str:
        function = f"{self.mutant.path} {self.mutant.function}"
        return f"{self.outcome} in {function}\n  - {self.mutant.original}\n  + {self.mutant.mutated}"


def try_out(mutant: Mutant, tests: list[str], normal: float) -> Result:
    """Run the tests on the mutant, in this process's copy of the checkout."""
    begun = time.monotonic()
    module = copy.folder / mutant.path
    original = module.read_text()
    module.write_text(mutant.source)
    (copy.folder / "killer").unlink(missing_ok=True)
    outcome = "survived"
    try:
        for some in (tests[:FIRST], tests[FIRST:]):
            files = sorted({test.partition("::")[0] for test in some})
            arguments = ["-x", *files]
            if files and (code := copy.pytest(arguments, partial(Chosen, some), TOO_SLOW * normal + SECONDS)) != 0:
                outcome = {None: "timeout", NO_TESTS: "survived"}.get(code, "killed")
                break
    finally:
        module.write_text(original)
    killer = copy.folder / "killer"
    return Result(mutant, outcome, killer.read_text() if killer.exists() else "", time.monotonic() - begun)


def make_copy(folder: Path) -> None:
    """Give this process a copy of the checkout."""
    global copy
    copy = Copy(folder / str(os.getpid()))


def observed(tests: list[str], folder: Path) -> Reached:
    """Run the tests once as they are, or return what was seen when they ran before."""
    STATE.mkdir(exist_ok=True)
    sources = [path for name in ("tests", PACKAGE) for path in sorted((ROOT / name).rglob("*.py"))]
    what = "\n".join([*tests, *map(Path.read_text, sources), os.environ.get("TEST_DATABASE_URL", "")])
    store = STATE / f"reached-{hashlib.sha256(what.encode()).hexdigest()[:16]}.json"
    if not store.exists():
        print("Running the tests once, to see which lines each of them runs.", flush=True)
        whole = Copy(folder / "whole")
        whole.pytest(tests, lambda: Observer(Reached()))
        shutil.copy(whole.folder / "reached.json", store)
    return Reached(**json.loads(store.read_text()))


def main() -> int:
    """Try the mutants of each folder, and print which survived."""
    options = parse_arguments()
    for name in PRELOADED.split():
        importlib.import_module(name)
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"  # two mutants of one second may have the same size
    sys.dont_write_bytecode = True
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        reached = observed(options.tests, Path(folder))
        print(f"{len(reached.seconds)} tests pass and are used.", flush=True)
        with ProcessPoolExecutor(options.jobs, get_context("fork"), make_copy, [Path(folder)]) as pool:
            return max([run(name, options, reached, pool) for name in options.folders])


def run(name: str, options: argparse.Namespace, reached: Reached, pool: ProcessPoolExecutor) -> int:
    """Try the mutants of one folder; return 1 if one survives."""
    begun = time.monotonic()
    known = {tuple(entry[part] for part in KEY): entry for entry in tomllib.loads(KNOWN.read_text())["mutant"]}
    on = os.environ.get("TEST_DATABASE_URL", "sqlite").partition(":")[0]
    last = STATE / f"survivors-{name}.json"
    again = {tuple(key) for key in json.loads(last.read_text())} if options.again else set()
    outcomes: Counter[str] = Counter()
    pending, results = [], []
    for mutant in itertools.islice(sample(ROOT / PACKAGE / name, ROOT, options.seed), options.sample):
        entry = known.get(mutant.key)
        if again and mutant.key not in again:
            continue
        if entry and on not in entry.get("noticed_on", []):
            outcomes["needs another database" if entry.get("noticed_on") else "equivalent"] += 1
            continue
        tests = reached.by(mutant)
        pending.append(pool.submit(try_out, mutant, tests, sum(reached.seconds[test] for test in tests)))
    for future in as_completed(pending):
        result = future.result()
        results.append(result)
        outcomes[result.outcome] += 1
        if options.verbose or result.outcome == "survived":
            print(f"{result}\n  {result.killer} ({result.seconds:.1f} s)", flush=True)
    survivors = [result.mutant.key for result in results if result.outcome == "survived"]
    last.write_text(json.dumps(survivors))
    dead = outcomes["killed"] + outcomes["timeout"]
    score = 100 * dead / max(1, sum(outcomes.values()))
    print(f"{name}: {outcomes.total()} mutants (seed {options.seed}), score {score:.1f} %:", end=" ")
    print(", ".join(f"{count} {outcome}" for outcome, count in sorted(outcomes.items())), end="")
    print(f"; {time.monotonic() - begun:.0f} s", flush=True)
    return int(bool(survivors))


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="make mutants", description=__doc__)
    parser.add_argument("folders", nargs="*", metavar="FOLDER", help=f"of {', '.join(FOLDERS)}; all by default")
    parser.add_argument("--sample", type=int, metavar="N", help="only so many mutants of each folder")
    parser.add_argument("--seed", type=int, default=14, help="chooses them (%(default)s)")
    parser.add_argument("--jobs", type=int, default=max(1, (os.cpu_count() or 1) // 2), metavar="N")
    parser.add_argument("--tests", nargs="+", default=TESTS, metavar="PATH", help="instead of all that reach the code")
    parser.add_argument("--again", action="store_true", help="only those that survived the last time")
    parser.add_argument("--verbose", action="store_true", help="print which test killed each mutant")
    options = parser.parse_args()
    options.folders = options.folders or FOLDERS
    return options


if __name__ == "__main__":
    sys.exit(main())
