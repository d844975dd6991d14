"""bi_rebuild_states: recompute the states of interviews and completions from the remaining events."""

import json
from argparse import ArgumentParser
from collections.abc import Collection
from typing import Any
from uuid import UUID

from django.core.management.base import CommandError

from django_bi_integration.management.base import CommandWithExamples
from django_bi_integration.models import ObjectState, ReceivedEvent, WebhookRegistration
from django_bi_integration.recovery import rebuild_states, states_without_events


class Command(CommandWithExamples):
    help = "Recompute the object states from the events that remain, after forged or mistaken events were deleted."
    examples = """\
examples:
  bi_rebuild_states --dry-run                                print what would change, for all objects
  bi_rebuild_states                                          all objects
  bi_rebuild_states --registration 5e82e7e5-24a7-43e7-8ac5-480cb046c7bc --replay
  bi_rebuild_states --object 95607 --json                    the interview or course with that id

It can run while workers do, and repeatedly. A state whose events were all deleted stays unchanged unless --object names
it, because old events are deleted, too, and what they said remains known.
"""

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--registration", type=UUID, metavar="ID", help="only the objects of this registration")
        parser.add_argument("--object", metavar="ID", help="only the interview or course with this id")
        parser.add_argument(
            "--replay",
            action="store_true",
            help="dispatch again the events that are marked stale but that no remaining event supersedes",
        )
        parser.add_argument("--dry-run", action="store_true", help="print what would change, but change nothing")
        parser.add_argument("--json", action="store_true", help="print one JSON object")

    def handle(self, *, registration: UUID | None, replay: bool, dry_run: bool, **options: Any) -> None:
        found = None
        if registration and not (found := WebhookRegistration.objects.filter(pk=registration).first()):
            raise CommandError(f"No registration has the id {registration}.")
        keys = None if options["object"] is None else _keys(options["object"], found)
        counts = dict(rebuild_states(registration=found, objects=keys, replay=replay, dry_run=dry_run))
        counts["without_events"] = states_without_events().count()
        if options["json"]:
            self.stdout.write(json.dumps({**counts, "replayed": replay and not dry_run, "dry_run": dry_run}))
            return
        lines = [
            "{objects} objects, {changed} changed, {removed} removed; {no_longer_stale} events are no longer stale"
        ]
        lines.append(", and will be dispatched again." if replay else ". Run it with --replay to dispatch them again.")
        sentence = "".join(lines) if counts["no_longer_stale"] else f"{lines[0]}."
        self.stdout.write(("Dry run: " if dry_run else "") + sentence.format(**counts))
        if counts["without_events"]:
            self.stdout.write(f"{counts['without_events']} states have no event left and stay unchanged.")


def _keys(object_id: str, registration: WebhookRegistration | None) -> Collection[UUID | None]:
    events = ReceivedEvent.objects.filter(object_id=object_id)
    states = ObjectState.objects.filter(object_id=object_id)
    if registration is not None:
        events, states = events.filter(registration=registration), states.filter(registration=registration)
    keys = {*events.values_list("object_key", flat=True), *states.values_list("key", flat=True)} - {None}
    if not keys:
        raise CommandError(f"No object has the id {object_id!r}.")
    return keys
