"""What the commands share: a help text that ends with examples."""

from argparse import RawDescriptionHelpFormatter
from typing import Any

from django.core.management.base import BaseCommand, DjangoHelpFormatter


class _Formatter(RawDescriptionHelpFormatter, DjangoHelpFormatter):
    """Keeps the lines of the examples, and Django's order of the options (its own come last)."""


class CommandWithExamples(BaseCommand):
    """A command whose ``--help`` shows ``examples`` at its end."""

    examples: str

    def create_parser(self, *args: Any, **kwargs: Any) -> Any:
        return super().create_parser(*args, epilog=self.examples, formatter_class=_Formatter, **kwargs)
