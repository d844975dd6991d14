"""Find the browser for the browser tests."""

import os
import shutil

MISSING = "no Chromium here (apt install chromium, or set CHROMIUM to its path)"


def chromium() -> str | None:
    """Return the path of Chromium: the value of CHROMIUM, else the one on the PATH, else None."""
    return os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
