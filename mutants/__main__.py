"""Change the code in small ways and see whether a test fails: `make mutants ARGS="sso --sample 300 --seed 14"`.

Each mutant is a copy of the checkout with one change. It runs the tests that run the changed lines, those first that
test what few others do. A mutant that no test notices means that a test is missing, or that nothing needs the code. If
the change makes no difference, it is listed with the reason in mutants/unnoticed.toml. TEST_DATABASE_URL chooses the
database.
"""

import argparse
import functools
import hashlib
import importlib
import itertools
import json
import os
import sys
import tempfile
import time
import tomllib
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

from mutants.changes import Mutant, sample
from mutants.copies import FOLDERS, PACKAGE, ROOT, TIMEOUT, Chosen, Copy, Observer, Reached, limit_of, written
from mutants.warm import UNSUITABLE, Trial, Warm

TESTS = [
    f"tests/{name}"
    for name in ("webhooks", "dispatch", "sso", "invariants", "vendors", "recovery", "operations", "partner_api")
]
KNOWN = ROOT / "mutants/unnoticed.toml"
STATE = ROOT / ".mutants"
#: Loaded once, before the processes of the mutants are forked. None of them reads Django's settings.
PRELOADED = [
    "celery.app.base", "celery.apps.worker", "cryptography.fernet", "django.contrib.admin.helpers", "django.db.models",
    "django.forms", "django.test.client", "hypothesis", "kombu.transport.memory", "playwright.sync_api", "psycopg",
    "redis", "requests", "sqlparse",
]  # fmt: skip
#: Tests that run first, in a separate process: they kill most mutants, and few modules of tests are loaded.
FIRST = 30
NO_TESTS = 5
#: What identifies a mutant in the list of those that make no difference.
KEY = ("module", "function", "original", "mutated")


@dataclass
class Result:
    """What became of a mutant."""

    mutant: Mutant
    outcome: str
    killer: str

    def __str__(self) -> str:
        function = f"{self.mutant.path} {self.mutant.function}"
        return f"{self.outcome} in {function}\n  - {self.mutant.original}\n  + {self.mutant.mutated}"


@functools.cache
def own_copy() -> Copy:
    """Return this process's copy of the checkout."""
    return Copy(Path(tempfile.mkdtemp()))


def try_out(mutant: Mutant, tests: dict[str, float]) -> Result:
    """Run the tests on the mutant; ``tests`` has the seconds that each takes on the code as it is."""
    copy = own_copy()
    killer = copy.folder / "killer"
    killer.unlink(missing_ok=True)
    with written(mutant, copy.folder):
        for names in ([*tests][:FIRST], [*tests][FIRST:]):
            files = sorted({name.partition("::")[0] for name in names})
            limit = limit_of(sum(tests[name] for name in names))
            code = copy.pytest(["-x", *files], functools.partial(Chosen, names), limit) if files else 0
            if code not in (0, NO_TESTS):
                break
    return Result(mutant, outcome_of(code), killer.read_text() if killer.exists() else "")


def try_out_warm(trials: list[Trial], reached: Reached, files: list[str]) -> list[Result | None]:
    """Try the mutants in forks of one process; None for those that cannot be tried there."""
    copy = own_copy()
    copy.pytest(files, functools.partial(Warm, trials, reached))
    if not (copy.folder / "results.jsonl").exists():
        raise RuntimeError((copy.temporary / "output").read_text()[-5000:])
    results: list[Result | None] = [None] * len(trials)
    for line in (copy.folder / "results.jsonl").read_text().splitlines():
        number, code, killer = json.loads(line)
        if code != UNSUITABLE:
            results[number] = Result(trials[number][0], outcome_of(code), killer)
    return results


def outcome_of(code: int | str) -> str:
    """Return what pytest's exit code says about a mutant."""
    return "timeout" if code == TIMEOUT else "survived" if code in (0, NO_TESTS) else "killed"


def observed(paths: list[str]) -> Reached:
    """Run the tests once on the code as it is. What was seen is kept for each file of tests, until the code changes."""
    STATE.mkdir(exist_ok=True)
    files = sorted(str(file.relative_to(ROOT)) for path in paths for file in test_files(ROOT / path))
    helpers = [path for name in ("tests", PACKAGE) for path in (ROOT / name).rglob("*.py") if path.name[:5] != "test_"]
    common = [os.environ.get("TEST_DATABASE_URL", ""), *map(Path.read_text, sorted(helpers))]
    stores = {file: STATE / f"{digest(*common, file, (ROOT / file).read_text())}.json" for file in files}
    if missing := [file for file, store in stores.items() if not store.exists()]:
        print(f"Running {len(missing)} files of tests once, to see which lines each test runs.", flush=True)
        copy = Copy(Path(tempfile.mkdtemp()))
        copy.pytest(missing, lambda: Observer(Reached()))
        seen = Reached(**json.loads((copy.folder / "reached.json").read_text()))
        for file in missing:
            stores[file].write_text(json.dumps(vars(seen.part(file))))
    reached = Reached()
    for store in stores.values():
        reached.add(Reached(**json.loads(store.read_text())))
    return reached


def test_files(path: Path) -> Iterable[Path]:
    """Return the file, or the files of tests in the folder."""
    return path.rglob("test_*.py") if path.is_dir() else [path]


def digest(*texts: str) -> str:
    """Return a name for a list of texts."""
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()[:20]


def main() -> int:
    """Try the mutants of each folder, and print which survived."""
    options = parse_arguments()
    for name in PRELOADED:
        importlib.import_module(name)
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        tempfile.tempdir = folder
        reached = observed(options.tests)
        print(f"{len(reached.seconds)} tests pass and are used.", flush=True)
        with ProcessPoolExecutor(options.jobs, get_context("fork")) as pool:
            return max([run(name, options, reached, pool) for name in options.folders])


def run(name: str, options: argparse.Namespace, reached: Reached, pool: ProcessPoolExecutor) -> int:
    """Try the mutants of one folder; return 1 if one survives."""
    begun = time.monotonic()
    known = {tuple(entry[part] for part in KEY): entry for entry in tomllib.loads(KNOWN.read_text())["mutant"]}
    on = os.environ.get("TEST_DATABASE_URL", "sqlite").partition(":")[0]
    last = STATE / f"survivors-{name}.json"
    again = {tuple(key) for key in json.loads(last.read_text())} if options.again else None
    outcomes: Counter[str] = Counter()
    trials: list[Trial] = []
    for mutant in itertools.islice(sample(ROOT / PACKAGE / name, ROOT, options.seed), options.sample):
        entry = known.get(mutant.key)
        if again is not None and mutant.key not in again:
            continue
        if entry and on not in entry.get("noticed_on", []):
            outcomes["needs another database" if entry.get("noticed_on") else "equivalent"] += 1
        else:
            trials.append((mutant, reached.by(mutant, options.patience)))
    results = []
    for result in tried_out(trials, reached, options, pool):
        results.append(result)
        outcomes[result.outcome] += 1
        if options.verbose or result.outcome == "survived":
            print(f"{result}\n  {result.killer}", flush=True)
    survivors = [result.mutant.key for result in results if result.outcome == "survived"]
    last.write_text(json.dumps(survivors))
    dead = outcomes["killed"] + outcomes["timeout"]
    score = 100 * dead / max(1, sum(outcomes.values()))
    print(f"{name}: {outcomes.total()} mutants (seed {options.seed}), score {score:.1f} %:", end=" ")
    print(", ".join(f"{count} {outcome}" for outcome, count in sorted(outcomes.items())), end="")
    print(f"; {time.monotonic() - begun:.0f} s", flush=True)
    return int(bool(survivors))


def tried_out(
    trials: list[Trial], reached: Reached, options: argparse.Namespace, pool: ProcessPoolExecutor
) -> Iterator[Result]:
    """Yield each mutant's result; first of those whose code takes effect in a process that has loaded it already."""
    warm = [(mutant, tests) for mutant, tests in trials if tests and reached.only_in_tests(mutant)]
    parts = [part for start in range(options.jobs) if (part := warm[start :: options.jobs])]
    done = set()
    for future in as_completed([pool.submit(try_out_warm, part, reached, options.tests) for part in parts]):
        for result in filter(None, future.result()):
            done.add(result.mutant)
            yield result
    others = [pool.submit(try_out, mutant, tests) for mutant, tests in trials if mutant not in done]
    yield from (future.result() for future in as_completed(others))


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="make mutants", description=__doc__)
    parser.add_argument("folders", nargs="*", metavar="FOLDER", help=f"of {', '.join(FOLDERS)}; all by default")
    parser.add_argument("--sample", type=int, metavar="N", help="only so many mutants of each folder")
    parser.add_argument("--seed", type=int, default=14, help="chooses them (%(default)s)")
    parser.add_argument("--jobs", type=int, default=max(1, (os.cpu_count() or 1) // 2), metavar="N")
    parser.add_argument("--tests", nargs="+", default=TESTS, metavar="PATH", help="instead of all that reach the code")
    parser.add_argument("--patience", type=float, default=60, metavar="SECONDS", help="of tests for each mutant")
    parser.add_argument("--again", action="store_true", help="only those that survived the last time")
    parser.add_argument("--verbose", action="store_true", help="print which test killed each mutant")
    options = parser.parse_args()
    options.folders = options.folders or FOLDERS
    return options


if __name__ == "__main__":
    sys.exit(main())
