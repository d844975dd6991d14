"""bi_doctor: check that deliveries arrive, are stored and are dispatched."""

import json
import re
from argparse import ArgumentParser
from collections import Counter
from dataclasses import asdict
from typing import Any
from urllib.parse import urlsplit

from django.core.management.base import CommandError

from django_bi_integration.management.base import CommandWithExamples
from django_bi_integration.operations.doctor import examine
from django_bi_integration.operations.findings import Finding, Level


class Command(CommandWithExamples):
    help = "Check that deliveries arrive, are stored and are dispatched, and say what to do if they are not."
    examples = """\
examples:
  bi_doctor                                      check this project, as this process sees it
  bi_doctor --url https://careers.example.edu    also post to the webhook from outside, as a vendor would
  bi_doctor --json

It stores nothing and sends no event. The exit code is 1 if something fails, 0 otherwise, also with warnings.
"""
    # The command runs the checks itself, so that an error does not hide the other findings.
    requires_system_checks = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--url", help="scheme and host of the URL that was given to the vendors")
        parser.add_argument("--json", action="store_true", help="print one JSON object")

    def handle(self, *, url: str | None, **options: Any) -> None:
        if url is not None and not is_origin(url):
            raise CommandError(f"{url!r} is not a scheme and a host such as https://careers.example.edu.", returncode=2)
        findings = []
        for finding in examine(url):
            findings.append(finding)
            if not options["json"]:
                self._show(finding)
        counts = Counter(finding.level for finding in findings)
        if options["json"]:
            report = {"working": not counts[Level.FAIL], "findings": [asdict(finding) for finding in findings]}
            self.stdout.write(json.dumps(report))
        else:
            self.stdout.write(f"{counts[Level.OK]} ok, {counts[Level.WARN]} to look at, {counts[Level.FAIL]} failed.")
        if counts[Level.FAIL]:
            raise CommandError(f"{counts[Level.FAIL]} of the findings must be fixed before it works.")

    def _show(self, finding: Finding) -> None:
        style = {Level.OK: self.style.SUCCESS, Level.WARN: self.style.WARNING, Level.FAIL: self.style.ERROR}
        word = style[finding.level](f"{finding.level.upper():4}")
        self.stdout.write(f"{word}  {finding.subject}: {finding.message}")
        if finding.remedy:
            self.stdout.write(f"      → {finding.remedy}")


def is_origin(url: str) -> bool:
    """Return True if ``url`` is only a scheme and a host."""
    try:
        parts = urlsplit(url)
        has_host = bool(parts.hostname) and parts.port != 0  # raises if it is not a valid port
    except ValueError:
        return False
    return has_host and re.fullmatch(r"(?i:https?)://[^/@?#\s]+/?", url) is not None
