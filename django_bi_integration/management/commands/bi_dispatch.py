"""bi_dispatch: dispatch the events that are due, from cron or a shell."""

import json
from argparse import ArgumentParser, ArgumentTypeError
from contextlib import suppress
from typing import Any

from django.core.management.base import CommandError

from django_bi_integration.dispatch.worker import dispatch_pending
from django_bi_integration.management.base import CommandWithExamples
from django_bi_integration.models import ReceivedEvent


def _seconds(text: str) -> float:
    with suppress(ValueError):
        if (seconds := float(text)) >= 0:
            return seconds
    raise ArgumentTypeError(f"{text!r} is not a number of seconds. Give 0 or more, for example 50.")


class Command(CommandWithExamples):
    help = "Dispatch the events that are due to their receivers."
    examples = """\
examples:
  bi_dispatch                 dispatch the events that are due, then end
  bi_dispatch --seconds 50    the same, but start nothing more after 50 seconds; for a cron job every minute
  bi_dispatch --json

It needs no broker and may run beside Celery workers. The exit code is 1 if an event failed.
"""

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--seconds", type=_seconds, help="start no further receiver after this many seconds")
        parser.add_argument("--json", action="store_true", help="print one JSON object")

    def handle(self, *, seconds: float | None, **options: Any) -> None:
        ended = dispatch_pending(seconds=seconds)
        waiting = ReceivedEvent.objects.filter(status=ReceivedEvent.Status.PENDING).count()
        counts = {
            "dispatched": ended[ReceivedEvent.Status.DISPATCHED],
            "to_retry": ended[ReceivedEvent.Status.PENDING],
            "failed": ended[ReceivedEvent.Status.FAILED],
            "waiting": waiting,
        }
        sentence = "{dispatched} dispatched, {to_retry} to be tried again, {failed} failed; {waiting} waiting."
        self.stdout.write(json.dumps(counts) if options["json"] else sentence.format(**counts))
        if counts["failed"]:
            # Not SystemExit: a view or a task may call this command, and that would end its whole server.
            raise CommandError("An event failed. Its page in the admin shows which receiver, and why.", returncode=1)
