"""Print the package's functions on the path of one delivery and of one dispatch: `make trace`.

The delivery's path leads from the request to the stored row, the dispatch's from the task to the receiver. Both use a
new test database: PostgreSQL's or MariaDB's if TEST_DATABASE_URL names one, otherwise SQLite.
"""

import os
import sys
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from pathlib import Path
from types import FrameType
from typing import Any

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")
django.setup()

from django.db import connection  # noqa: E402 - models can be imported from here on
from django.test.utils import setup_databases, teardown_databases  # noqa: E402

from django_bi_integration.signals import interview_created  # noqa: E402
from django_bi_integration.tasks import dispatch  # noqa: E402
from tests.helpers.deliveries import big_interview, deliver  # noqa: E402
from tests.helpers.names import SQLITE_FOLDER  # noqa: E402

PACKAGE = Path(__file__).parent.parent / "django_bi_integration"


def main() -> None:
    """Trace a delivery, then its dispatch."""
    SQLITE_FOLDER.mkdir(exist_ok=True)
    databases = setup_databases(verbosity=0, interactive=False)
    try:
        print_path("Delivery, from the request to the row", trace_delivery())
        print_path("Dispatch, from the task to the receiver", trace_dispatch())
    finally:
        teardown_databases(databases, verbosity=0)
        SQLITE_FOLDER.rmdir()


def trace_delivery() -> "Trace":
    """Trace the second delivery of a process, from the request to the INSERT."""
    to = big_interview()
    path = to.get_absolute_url()
    deliver(to, b'{"event": {"id": "1"}}')
    trace = Trace()

    def stop_when_stored(execute: Callable[..., object], sql: str, *arguments: Any) -> object:
        if "INSERT INTO" in sql and "receivedevent" in sql:
            trace.stop()
        return execute(sql, *arguments)

    with connection.execute_wrapper(stop_when_stored):
        trace.run(partial(deliver, to, path=path))
    return trace


def trace_dispatch() -> "Trace":
    """Trace the task, until the receiver of the first event for one is called."""
    trace = Trace()
    interview_created.connect(trace.stop)
    trace.run(dispatch)
    interview_created.disconnect(trace.stop)
    return trace


class Trace:
    """The functions of the package that were entered until ``stop`` was called, each with its depth and its file."""

    def __init__(self) -> None:
        self.entered: list[tuple[int, str, str]] = []
        self._depth = 0

    def run(self, function: Callable[[], object]) -> None:
        """Call the function, and trace what it calls."""
        sys.setprofile(self._profile)
        function()
        self.stop()

    def stop(self, *_: Any, **__: Any) -> None:
        """Trace nothing from now on."""
        sys.setprofile(None)

    def _profile(self, frame: FrameType, what: str, _: Any) -> None:
        path, name = Path(frame.f_code.co_filename), frame.f_code.co_qualname
        if what not in ("call", "return") or not path.is_relative_to(PACKAGE) or name.endswith(">"):
            return
        if what == "call":
            self.entered.append((self._depth, str(path.relative_to(PACKAGE)), name))
        self._depth += 1 if what == "call" else -1


def print_path(title: str, trace: Trace) -> None:
    """Print each function where the path first enters it, and the totals."""
    print(f"{title} ({connection.vendor})")
    functions: set[tuple[str, str]] = set()
    for depth, file, name in trace.entered:
        if (file, name) not in functions:
            print(f"  {file:32}{'  ' * depth}{name}")
        functions.add((file, name))
    files = [file for _, file, _ in trace.entered]
    changes = sum(file != previous for previous, file in pairwise(files))
    print(f"  {len(functions)} functions in {len(set(files))} files, {changes} changes of file\n")


if __name__ == "__main__":
    main()
