"""bi_register: create a webhook registration from the command line."""

import json
import sys
from argparse import ArgumentParser
from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import CommandError
from django.urls import NoReverseMatch

from django_bi_integration import vendors
from django_bi_integration.management.base import CommandWithExamples
from django_bi_integration.models import WebhookRegistration


class Command(CommandWithExamples):
    help = "Create a webhook registration and print its id and path as JSON."
    examples = """\
examples:
  bi_register --vendor big_interview --name "Career centre" --key -  < key.txt
  bi_register --vendor innovative_educators --name "Orientation"
  bi_register --vendor innovative_educators --name "Orientation" --allow 203.0.113.7 198.51.100.0/24

Give the vendor the printed path after your site's https://host. Big Interview shows its key when the webhook is created
there (your name, then "API Settings"): register without --key first, and then add the key in the admin.
"""

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--vendor", required=True, choices=list(vendors.VENDORS), help="the vendor that sends the webhooks"
        )
        parser.add_argument("--name", required=True, help="the name that administrators see")
        parser.add_argument(
            "--key",
            help="the key that the vendor sends; '-' reads it from standard input, which keeps it out of the"
            " shell's history and the list of processes",
        )
        parser.add_argument(
            "--allow",
            action="extend",
            nargs="+",
            metavar="CIDR",
            help="an address or network that deliveries may come from; several are allowed."
            " Default: the addresses that the vendor publishes",
        )

    def handle(self, *, vendor: str, name: str, key: str | None, allow: list[str] | None, **options: Any) -> None:
        sends_key = vendors.VENDORS[vendor].sends_key
        if key is not None and not sends_key:
            raise CommandError(f"{vendors.VENDORS[vendor].label} sends no key: leave --key out.")
        defaults = list(vendors.VENDORS[vendor].default_networks)
        registration = WebhookRegistration(
            vendor=vendor, name=name, allowed_networks=defaults if allow is None else allow
        )
        if key is not None:
            self._set_key(registration, sys.stdin.readline() if key == "-" else key)
        try:
            registration.full_clean()
        except ValidationError as error:
            raise CommandError("\n".join(error.messages)) from error
        path = self._path(registration)
        registration.save(force_insert=True)
        if not registration.has_credentials:
            missing = "a key or an allowlist" if sends_key else "an allowlist"
            self._warn(f"The registration rejects everything until it has {missing}. Add one in the admin.")
        self.stdout.write(json.dumps({"id": str(registration.pk), "path": path}))

    def _path(self, registration: WebhookRegistration) -> str:
        try:
            return registration.get_absolute_url()
        except NoReverseMatch as error:
            raise CommandError(f"{error} Nothing was stored.") from error

    def _set_key(self, registration: WebhookRegistration, key: str) -> None:
        try:
            registration.set_key(key)
        except ValueError as error:
            raise CommandError(str(error)) from error
        if advice := WebhookRegistration.key_advice(key):
            self._warn(str(advice))

    def _warn(self, message: str) -> None:
        self.stderr.write(self.style.WARNING(message))
