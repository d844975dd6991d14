"""Names that separate this test run from others on the same machine."""

import os
import secrets
import tempfile
from pathlib import Path

PREFIX = "bi_" + os.environ.setdefault("TEST_RUN_ID", secrets.token_hex(4))
"""Prefix of every database and queue that this run creates on a server; its xdist workers inherit it."""

SQLITE_FOLDER = Path(tempfile.gettempdir()) / PREFIX
"""The folder of this run's SQLite databases."""
