"""The name that keeps one test run apart from others on the same machine."""

import os
import secrets
import tempfile
from pathlib import Path

PREFIX = "bi_" + os.environ.setdefault("TEST_RUN_ID", secrets.token_hex(4))
"""Begins the name of everything that this run makes on a server; its worker processes inherit it."""

SQLITE_FOLDER = Path(tempfile.gettempdir()) / PREFIX
"""Holds its SQLite databases."""
