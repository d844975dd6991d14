"""The base of the commands: a help text that ends with examples."""

from argparse import RawDescriptionHelpFormatter
from typing import Any

from django.core.management.base import BaseCommand, DjangoHelpFormatter


class _Formatter(RawDescriptionHelpFormatter, DjangoHelpFormatter):
    """Keep the lines of the examples, and Django's order of the options."""


class CommandWithExamples(BaseCommand):
    """A command whose ``--help`` shows ``examples`` at its end."""

    examples: str

    def create_parser(self, *args: Any, **kwargs: Any) -> Any:
        return super().create_parser(*args, epilog=self.examples, formatter_class=_Formatter, **kwargs)
