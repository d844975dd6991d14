"""The code blocks of README.md, so that tests run exactly what a reader copies."""

import re
from pathlib import Path

README = Path(__file__).resolve().parent.parent.parent / "README.md"
BLOCK = re.compile(r"<!-- test: ([\w-]+) -->\s*```\w*\n(.*?)```", re.DOTALL)


def blocks() -> dict[str, str]:
    """Return the fenced blocks after a comment such as `<!-- test: settings -->`, by the name in the comment."""
    found = BLOCK.findall(README.read_text())
    names = [name for name, _ in found]
    if len(names) != len(set(names)):
        raise ValueError(f"{README.name} names a block twice: {names}")
    return dict(found)
