"""bi_rotate_keys: encrypt the stored API keys with the newest encryption key."""

import json
from argparse import ArgumentParser
from typing import Any

from django.db import transaction

from django_bi_integration.exceptions import UndecryptableKey
from django_bi_integration.management.base import CommandWithExamples
from django_bi_integration.models import BigInterviewAccount


class Command(CommandWithExamples):
    help = "Encrypt the stored Partner API keys with the newest of the encryption keys."
    examples = """\
examples:
  bi_rotate_keys            after a new key was put in front of the others in BI_INTEGRATION["ENCRYPTION_KEYS"]
  bi_rotate_keys --json

It may be run again and again, and while the site is in use. When it has run, the former encryption key can be taken
out of the settings. The exit code is 1 when a stored key cannot be decrypted; it is left as it is.
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
            self.stdout.write(f"{len(renewed)} encrypted anew, {len(unreadable)} cannot be decrypted.")
        if unreadable:
            raise SystemExit(1)


@transaction.atomic
def renew(pk: int) -> bool:
    """Encrypt one account's key anew; False where that is not needed. Somebody may be entering another one."""
    account = BigInterviewAccount.objects.select_for_update().filter(pk=pk).first()
    if account is None or not account.renew_encryption():
        return False
    account.save(update_fields=["api_key_encrypted"])
    return True
