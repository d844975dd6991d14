"""Make the project's virtual environment: `python3 scripts/setup_env.py demo test`. Standard library only."""

# `python3` may be too old for the project, and has to read this file: nothing newer than Python 3.7 here.
from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import time
import venv
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
STAMP = VENV / "setup-stamp.json"
LOG = VENV / "setup.log"
OLDEST = (3, 11)
SOURCES = ["setup.cfg", "pyproject.toml"]
LOG_TAIL = 25
SECONDS_BETWEEN_LINES = 4

# pip's output, and what is shown instead.
PIP_STEPS = [
    (re.compile(r"^Collecting ([\w.-]+)"), "looking for"),
    (re.compile(r"^ *Downloading ([\w.]+)-"), "downloading"),
    (re.compile(r"^ *Building \w+ for ([\w.-]+)"), "building"),
    (re.compile(r"^Installing collected packages: (.*)"), "installing"),
]


def main() -> int:
    """Install the requested extras, or say in one sentence why that is not possible."""
    if sys.version_info < OLDEST:
        restart_with_newer_python()
    try:
        with (ROOT / "setup.cfg").open() as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # if two terminals do this at once, the second waits
            set_up(set(sys.argv[1:]))
    except KeyboardInterrupt:
        print("\nStopped. The same command begins the set-up again.", file=sys.stderr)
        return 130
    return 0


def restart_with_newer_python() -> None:
    """Restart with a newer interpreter on the PATH, or exit and say what is needed."""
    for name in ("python3.14", "python3.13", "python3.12", "python3.11"):
        # A version manager has shims for interpreters that are not installed, so each is tried.
        if shutil.which(name) and subprocess.run([name, "-c", ""], stderr=subprocess.DEVNULL).returncode == 0:
            os.execvp(name, [name, *sys.argv])
    sys.exit(
        f"Python {OLDEST[0]}.{OLDEST[1]} or newer is needed and this is {platform.python_version()}: install one, "
        "or name it as in `make demo PYTHON=/path/to/python3.13`."
    )


def set_up(extras: set[str]) -> None:
    """Create or complete the environment, unless the stamp says that nothing is missing."""
    done = read_stamp()
    wanted: dict[str, Any] = {
        "interpreter": f"{platform.python_version()} in {VENV}",
        "project": hashlib.sha256(b"".join((ROOT / name).read_bytes() for name in SOURCES)).hexdigest(),
        "extras": sorted(extras.union(done.get("extras", []))),
    }
    if done == wanted:
        return
    progress = Progress()
    if done.get("interpreter") != wanted["interpreter"] and not made_by_hand():
        create_environment(progress)
    STAMP.write_text("{}")
    install(wanted["extras"], progress)
    STAMP.write_text(json.dumps(wanted))
    progress.finish()


def read_stamp() -> dict[str, Any]:
    """Return what the last complete set-up stored; empty if there was none or it was interrupted."""
    try:
        return dict(json.loads(STAMP.read_text()))
    except (OSError, ValueError):
        return {}


def made_by_hand() -> bool:
    """Return whether this script did not create the environment: then it is completed, never emptied."""
    return (VENV / "bin" / "python").exists() and not STAMP.exists()


def create_environment(progress: Progress) -> None:
    """Create an empty environment, and remove one that is unfinished or has another interpreter."""
    if not importlib.util.find_spec("ensurepip"):
        sys.exit(
            "This Python lacks its venv module: `apt install python3-venv`, or name another interpreter "
            "as in `make demo PYTHON=/path/to/python3.13`."
        )
    progress.show(f"making .venv with Python {platform.python_version()}")
    shutil.rmtree(VENV, ignore_errors=True)
    VENV.mkdir()
    STAMP.write_text("{}")
    venv.create(VENV, with_pip=True, symlinks=True)


def install(extras: list[str], progress: Progress) -> None:
    """Install the project, editable, with its extras. pip's output goes into the log."""
    target = f"{ROOT}[{','.join(extras)}]"
    command = [str(VENV / "bin" / "python"), "-m", "pip", "install", "--progress-bar=off", "--editable", target]
    with LOG.open("w") as output, LOG.open() as lines:
        pip = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT)
        try:
            while pip.poll() is None:
                for line in lines:
                    progress.note(line)
                progress.tick()
                time.sleep(0.2)
        finally:
            pip.terminate()
            pip.wait()
    if pip.returncode != 0:
        tail = [line[:200] for line in LOG.read_text().splitlines()[-LOG_TAIL:]]
        sys.exit("\n".join(["\nThe installation failed. pip said:", *tail, f"All of it: {LOG}"]))


class Progress:
    """Show the progress: on a terminal in one line that counts the seconds, elsewhere in a line every few seconds."""

    def __init__(self) -> None:
        self.started = time.monotonic()
        self.shown = float("-inf")
        self.step = ""
        self.terminal = sys.stdout.isatty()

    def note(self, line: str) -> None:
        """Read one line of pip's output. Most of them are not worth showing."""
        for pattern, verb in PIP_STEPS:
            match = pattern.match(line)
            if match:
                names = match.group(1).split(", ")
                self.step = f"{verb} {names[0] if len(names) == 1 else f'{len(names)} packages'}"

    def tick(self) -> None:
        """Show the step again: always on a terminal, elsewhere after some seconds."""
        if self.step and (self.terminal or time.monotonic() - self.shown > SECONDS_BETWEEN_LINES):
            self.show(self.step)

    def show(self, step: str) -> None:
        """Print the elapsed seconds and the step."""
        self.step = step
        self.shown = time.monotonic()
        line = f"  {self.shown - self.started:3.0f} s  {step}"
        print(f"\r{line:<70.70}" if self.terminal else line, end="" if self.terminal else "\n", flush=True)

    def finish(self) -> None:
        """Print the last line."""
        self.show("ready")
        if self.terminal:
            print()


if __name__ == "__main__":
    sys.exit(main())
