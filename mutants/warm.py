"""Try mutants in forks of one process of pytest that has loaded everything and made the test database already."""

import gc
import json
import os
import shutil
import time
from collections import Counter, defaultdict
from multiprocessing.sharedctypes import RawValue
from pathlib import Path
from types import CodeType, FunctionType

import pytest
from django.core.management import call_command
from django.db import connection, connections
from pytest_django.plugin import blocking_manager_key

from mutants.changes import Mutant
from mutants.copies import Reached, limit_of, wait_for_group, written

Trial = tuple[Mutant, dict[str, float]]

#: The exit code of a fork that cannot take on the mutant's code.
UNSUITABLE = 99


class Warm:
    """A plug-in of pytest that tries mutants instead of running the tests; the results go to ``results.jsonl``."""

    def __init__(self, trials: list[Trial], reached: Reached) -> None:
        self.trials = trials
        self.reached = reached
        self.killer = Path("killer")
        #: When the running test has to end; the fork and its parent share it.
        self.end = RawValue("d")

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Run one test, so that the database is there, and then each mutant in a fork."""
        self.items = {item.nodeid: item for item in session.items}
        self.elsewhere = session.items[-1]
        first = self._harmless([item for item in session.items if item.get_closest_marker("django_db")])
        first.ihook.pytest_runtest_protocol(item=first, nextitem=self.elsewhere)
        database = Database(session.config)
        functions = live_functions()
        with Path("results.jsonl").open("w") as results:
            for number, (mutant, tests) in enumerate(self.trials):
                database.restore()
                self.killer.unlink(missing_ok=True)
                with written(mutant, Path.cwd()):  # for the processes that a test starts
                    code = self._try_out(mutant, tests, functions)
                killer = self.killer.read_text() if self.killer.exists() else ""
                print(json.dumps([number, code, killer]), file=results, flush=True)
        return True

    def _harmless(self, items: list[pytest.Item]) -> pytest.Item:
        """Return the test that reaches the fewest lines: what it leaves in the process has nothing to do with them."""
        lines = Counter(test for some in self.reached.lines.values() for tests in some.values() for test in tests)
        return min((item for item in items if item.nodeid in self.reached.seconds), key=lambda item: lines[item.nodeid])

    def _try_out(self, mutant: Mutant, tests: dict[str, float], functions: dict[str, list[FunctionType]]) -> int | str:
        self.end.value = time.monotonic() + limit_of(0)
        child = os.fork()
        if child:
            return wait_for_group(child, lambda: self.end.value)
        code = UNSUITABLE
        try:
            os.setsid()
            if apply(mutant, functions):
                items = [self.items[name] for name in tests if name in self.items]
                for item, following in zip(items, [*items[1:], self.elsewhere], strict=True):
                    self.end.value = time.monotonic() + limit_of(tests[item.nodeid])
                    item.ihook.pytest_runtest_protocol(item=item, nextitem=following)
                code = 0
        finally:
            os._exit(code)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """End the fork with the first failure."""
        if report.failed:
            self.killer.write_text(report.nodeid)
            os._exit(1)


class Database:
    """Restore the test database to the state in which no test has written to it."""

    def __init__(self, config: pytest.Config) -> None:
        self.blocker = config.stash[blocking_manager_key]
        connections.close_all()
        self.path = Path(connection.settings_dict["NAME"])
        self.copy = self.path.with_name("as-made")
        if connection.vendor == "sqlite":
            shutil.copy(self.path, self.copy)

    def restore(self) -> None:
        """Undo what the last mutant's tests wrote."""
        if connection.vendor == "sqlite":
            for path in self.path.parent.glob(f"{self.path.name}*"):
                path.unlink()
            shutil.copy(self.copy, self.path)
        else:
            with self.blocker.unblock():
                call_command("flush", verbosity=0, interactive=False)
            connections.close_all()


def live_functions() -> dict[str, list[FunctionType]]:
    """Return every function there is, by its file."""
    functions = defaultdict(list)
    for found in gc.get_objects():
        if isinstance(found, FunctionType):
            functions[found.__code__.co_filename].append(found)
    return functions


def apply(mutant: Mutant, functions: dict[str, list[FunctionType]]) -> bool:
    """Give the changed function, and those inside it, the mutant's code; return False if that is impossible."""
    path = str(Path(mutant.path).absolute())
    codes = defaultdict(list)
    remaining = [compile(mutant.source, path, "exec")]
    while remaining:
        code = remaining.pop()
        codes[code.co_qualname].append(code)
        remaining += [constant for constant in code.co_consts if isinstance(constant, CodeType)]
    changed = [
        function
        for function in functions[path]
        if f"{function.__code__.co_qualname}.<locals>.".startswith(f"{mutant.outermost}.<locals>.")
    ]
    for function in changed:
        same_name = codes[function.__code__.co_qualname]
        if len(same_name) != 1 or same_name[0].co_freevars != function.__code__.co_freevars:
            return False
        function.__code__ = same_name[0]
    return bool(changed)
