"""Where the browser of the browser tests is."""

import os
import shutil

MISSING = "no Chromium here (apt install chromium, or set CHROMIUM to its path)"


def chromium() -> str | None:
    """The path of Chromium: what CHROMIUM says, else the one on the PATH."""
    return os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
