"""bi_rotate_keys: encrypt the stored API keys with the newest encryption key."""

import json
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import CommandError
from django.db import transaction

from django_bi_integration.exceptions import UndecryptableKey
from django_bi_integration.management.base import CommandWithExamples
from django_bi_integration.models import BigInterviewAccount


class Command(CommandWithExamples):
    help = "Encrypt the stored Partner API keys with the newest of the encryption keys."
    examples = """\
examples:
  bi_rotate_keys            after a new key was added before the others in BI_INTEGRATION["ENCRYPTION_KEYS"]
  bi_rotate_keys --json

It can be run repeatedly, and while the site is in use. Afterwards, the previous encryption key can be removed from the
settings. If a stored key cannot be decrypted, it is left unchanged and the exit code is 1.
"""

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--json", action="store_true", help="print one JSON object")

    def handle(self, **options: Any) -> None:
        renewed, unreadable = [], []
        accounts = BigInterviewAccount.objects.exclude(api_key_encrypted="").order_by("pk")
        for pk, subdomain in accounts.values_list("pk", "subdomain"):
            try:
                if renew(pk):
                    renewed.append(subdomain)
            except UndecryptableKey as error:
                unreadable.append(subdomain)
                self.stderr.write(self.style.ERROR(f"{subdomain}: {error}"))
        if options["json"]:
            self.stdout.write(json.dumps({"renewed": renewed, "unreadable": unreadable}))
        else:
            self.stdout.write(f"{len(renewed)} encrypted with the newest key, {len(unreadable)} cannot be decrypted.")
        if unreadable:
            raise CommandError(
                "Put the lost encryption key back into the settings, or enter these API keys again in the admin."
            )


@transaction.atomic
def renew(pk: int) -> bool:
    """Encrypt one account's key again; return False if that is not needed."""
    # Locked, because somebody may be entering another key.
    account = BigInterviewAccount.objects.select_for_update().filter(pk=pk).first()
    if account is None or not account.renew_encryption():
        return False
    account.save(update_fields=["api_key_encrypted"])
    return True
