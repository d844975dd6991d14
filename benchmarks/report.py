"""Tables of figures, and the machine that they were measured on."""

import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from itertools import accumulate
from math import comb
from statistics import median

PACKAGES = ["Django", "djangorestframework", "celery", "gunicorn", "psycopg"]


@dataclass
class Table:
    """Rows of text under a title, printed as Markdown."""

    title: str
    head: list[str]
    rows: list[list[str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add(self, *cells: str) -> None:
        """Add a row."""
        self.rows.append(list(cells))

    def __str__(self) -> str:
        widths = [max(len(row[column]) for row in [self.head, *self.rows]) for column in range(len(self.head))]

        def line(cells: list[str]) -> str:
            return "| " + " | ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)) + " |"

        rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
        lines = [f"## {self.title}", "", line(self.head), rule, *map(line, self.rows)]
        return "\n".join([*lines, *(["", *self.notes] if self.notes else [])])


def ratio(mine: Sequence[float], theirs: Sequence[float]) -> str:
    """Return the median of the rounds' ratios, and the interval that contains the true median with 95 % confidence.

    The interval holds for any distribution. With fewer than six rounds, it is the smallest and the greatest ratio.
    """
    ratios = sorted(a / b for a, b in zip(mine, theirs, strict=True))
    rounds = len(ratios)
    # A ratio is below the true median with probability 1/2. So the number of such ratios has the same distribution as
    # the number of heads in as many coin tosses.
    ways = accumulate(comb(rounds, heads) for heads in range(rounds // 2))
    k = max(sum(2 * so_few <= 0.05 * 2**rounds for so_few in ways) - 1, 0)
    return f"{median(ratios):.2f} ({ratios[k]:.2f}–{ratios[-1 - k]:.2f})"


def machine(*servers: str) -> str:
    """Return the machine and the versions that figures were measured with."""
    packages = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    python = f"Python {platform.python_version()}"
    return f"{os.cpu_count()} cores, {platform.machine()}; {', '.join([python, packages, *servers])}"
