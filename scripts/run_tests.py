"""Run the tests on every available database, and print what ran on which: `make test`."""

import argparse
import json
import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, field

from tests.helpers import browser, nginx
from tests.helpers.servers import KINDS, UNREACHABLE, Server, ServerMissing, provided
from tests.helpers.shared_servers import drop_databases_of_this_run

COMMON = "not slow and not packaging"
DATABASES = ["sqlite", "postgres", "mariadb"]
#: Programs beside the servers: how each is found, and what to do if it is missing.
PROGRAMS = {"browser": (browser.chromium, browser.MISSING), "nginx": (nginx.nginx, nginx.MISSING)}
NO_TESTS = 5


@dataclass
class Results:
    """One row of the table."""

    outcomes: Counter[str] = field(default_factory=Counter)
    seconds: float | None = None


def main() -> int:
    """Find the servers, run pytest on each database, print the tables."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    options, pytest_arguments = parse_arguments()
    with ExitStack() as started:
        servers, missing = find_servers(started)
        if lacking := options.require & missing.keys():
            print("\n".join(f"{name} is required: {missing[name]}" for name in sorted(lacking)), file=sys.stderr)
            return 1
        run = Run(options.marks, pytest_arguments)
        for name in options.databases:
            if name == "sqlite":
                run.on_sqlite()
            elif name in servers:
                run.on_server(servers[name])
    print_tables(run, servers, missing)
    return run.exit_code()


def parse_arguments() -> tuple[argparse.Namespace, list[str]]:
    """Return this script's options, and the other arguments, which are for pytest."""
    parser = argparse.ArgumentParser(
        prog="make test", description=__doc__, epilog="All other arguments go to pytest.", allow_abbrev=False
    )
    parser.add_argument(
        "--require",
        type=lambda text: set(text.split(",")),
        default=set(),
        metavar="NAMES",
        help=f"fail if one of these is missing, such as {','.join([*KINDS, *PROGRAMS])}",
    )
    parser.add_argument(
        "--databases",
        type=lambda text: text.split(","),
        default=DATABASES,
        metavar="NAMES",
        help=f"only on these of {','.join(DATABASES)}",
    )
    parser.add_argument("-m", dest="marks", default=COMMON, help="instead of %(default)r")
    options, others = parser.parse_known_args()
    if unknown := options.require - {*KINDS, *PROGRAMS} | set(options.databases) - set(DATABASES):
        parser.error(f"unknown: {', '.join(sorted(unknown))}")
    return options, others


def find_servers(started: ExitStack) -> tuple[dict[str, Server], dict[str, str]]:
    """Return the servers, which pytest finds through the environment, and why others are missing."""
    servers = {}
    missing = {name: reason for name, (found, reason) in PROGRAMS.items() if not found()}
    for name in KINDS:
        try:
            server = servers[name] = started.enter_context(provided(name))
        except ServerMissing as reason:
            missing[name] = str(reason)
        except UNREACHABLE as error:
            sys.exit(f"{name}, as TEST_{name.upper()}_URL or a wheel gives it, does not work: {error}")
        else:
            os.environ[f"TEST_{name.upper()}_URL"] = server.url
            if name in DATABASES:
                started.callback(drop_databases_of_this_run, server)
    return servers, missing


class Run:
    """The pytest processes of one call and their results."""

    def __init__(self, marks: str, arguments: list[str]) -> None:
        self.marks = marks
        self.arguments = arguments
        self.rows: dict[str, Results] = {}
        self.reasons: Counter[str] = Counter()
        self.codes: list[int] = []

    def on_sqlite(self) -> None:
        """Run every selected test."""
        environment = {name: value for name, value in os.environ.items() if name != "TEST_DATABASE_URL"}
        self.pytest(f"SQLite {sqlite3.sqlite_version}", self.marks, environment)

    def on_server(self, server: Server) -> None:
        """Run the selected tests that are marked with ``database``."""
        environment = {**os.environ, "TEST_DATABASE_URL": server.url}
        self.pytest(server.version, f"({self.marks}) and database", environment)

    def pytest(self, title: str, marks: str, environment: dict[str, str]) -> None:
        """Run pytest once and add up its report."""
        print(f"\n── {title} ──", flush=True)
        workers = ["-n", str(min(4, os.cpu_count() or 1)), "--dist=loadgroup"]
        command = [sys.executable, "-m", "pytest", "-q", *workers, "-m", marks, *self.arguments]
        begun = time.monotonic()
        with tempfile.NamedTemporaryFile("r") as report:
            self.codes.append(wait_for(subprocess.Popen(command, env={**environment, "TEST_REPORT": report.name})))
            self.add(title, json.loads(report.read() or "[]"))
        self.rows[title].seconds = time.monotonic() - begun

    def add(self, title: str, outcomes: list[dict[str, str]]) -> None:
        """Count the outcomes. A test that ran on a separate deployment counts there."""
        self.rows[title] = Results()
        for one in outcomes:
            self.rows.setdefault(one["ran_on"] or title, Results()).outcomes[one["outcome"]] += 1
            if one["outcome"] == "skipped":
                self.reasons[one["reason"]] += 1

    def total(self) -> Counter[str]:
        """Return the sum of all rows."""
        return sum((row.outcomes for row in self.rows.values()), Counter())

    def exit_code(self) -> int:
        """Return the highest exit code. It is not a failure if no selected test uses a database."""
        return max((code for code in self.codes if code != NO_TESTS), default=NO_TESTS)


def wait_for(process: subprocess.Popen[bytes]) -> int:
    """Return the exit code. If this script is stopped, let the process clean up first."""
    try:
        return process.wait()
    except KeyboardInterrupt:  # the terminal has interrupted the process as well
        process.wait()
        raise
    except SystemExit:
        process.send_signal(signal.SIGINT)
        process.wait()
        raise


def print_tables(run: Run, servers: dict[str, Server], missing: dict[str, str]) -> None:
    """Print what ran on which server, and what was skipped and why. The last line is the sum."""
    rows = {title: row for title, row in run.rows.items() if row.outcomes}
    width = max(len(title) for title in [*rows, "ran on"]) + 2
    print(f"\n{'ran on':<{width}}{'passed':>8}{'failed':>8}{'skipped':>9}{'seconds':>9}")
    for title, row in rows.items():
        counts = f"{row.outcomes['passed']:>8}{row.outcomes['failed']:>8}{row.outcomes['skipped']:>9}"
        print(f"{title:<{width}}{counts}{'' if row.seconds is None else f'{row.seconds:9.0f}'}")
    print("\nservers")
    for server in servers.values():
        print(f"  {server.version}: {server.origin}")
    for name, reason in missing.items():
        print(f"  {name} missing: {reason}")
    if run.reasons:
        print("\nskipped")
        for reason, count in run.reasons.most_common():
            print(f"  {count} × {reason}")
    total = run.total()
    print(f"\n{total['passed']} passed, {total['failed']} failed, {total['skipped']} skipped")


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        print("Stopped.", file=sys.stderr)
        sys.exit(128 + signal.SIGINT)
