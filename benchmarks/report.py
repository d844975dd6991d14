"""Tables, and what they were measured on."""

import os
import platform
from dataclasses import dataclass, field
from importlib.metadata import version

PACKAGES = ["Django", "djangorestframework", "celery", "gunicorn", "psycopg"]


@dataclass
class Table:
    """Rows of text under a title, printed as Markdown."""

    title: str
    head: list[str]
    rows: list[list[str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add(self, *cells: str) -> None:
        """One more row."""
        self.rows.append(list(cells))

    def __str__(self) -> str:
        widths = [max(len(row[column]) for row in [self.head, *self.rows]) for column in range(len(self.head))]

        def line(cells: list[str]) -> str:
            return "| " + " | ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)) + " |"

        rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
        lines = [f"## {self.title}", "", line(self.head), rule, *map(line, self.rows)]
        return "\n".join([*lines, *(["", *self.notes] if self.notes else [])])


def machine(*servers: str) -> str:
    """The versions and the machine that figures were measured on."""
    packages = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    python = f"Python {platform.python_version()}"
    return f"{os.cpu_count()} cores, {platform.machine()}; {', '.join([python, packages, *servers])}"
