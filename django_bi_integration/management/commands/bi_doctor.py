"""bi_doctor: is it working, and if not, what to do."""

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
    help = "Look whether deliveries get in, are stored and are dispatched; say what to do where they do not."
    examples = """\
examples:
  bi_doctor                                      look at this project, as this process sees it
  bi_doctor --url https://careers.example.edu    also post to the webhook from outside, as a vendor would
  bi_doctor --json

It stores nothing and sends no event. The exit code is 1 when something fails; warnings leave it at 0.
"""
    # They are among the findings; an error shall not keep the rest from being told.
    requires_system_checks = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--url", help="scheme and host of the URL that the vendors were given")
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
            told = {"working": not counts[Level.FAIL], "findings": [asdict(finding) for finding in findings]}
            self.stdout.write(json.dumps(told))
        else:
            self.stdout.write(f"{counts[Level.OK]} ok, {counts[Level.WARN]} to look at, {counts[Level.FAIL]} failed.")
        if counts[Level.FAIL]:
            raise SystemExit(1)

    def _show(self, finding: Finding) -> None:
        style = {Level.OK: self.style.SUCCESS, Level.WARN: self.style.WARNING, Level.FAIL: self.style.ERROR}
        word = style[finding.level](f"{finding.level.upper():4}")
        self.stdout.write(f"{word}  {finding.subject}: {finding.message}")
        if finding.remedy:
            self.stdout.write(f"      → {finding.remedy}")


def is_origin(url: str) -> bool:
    """Whether it is a scheme and a host, and nothing else."""
    try:
        parts = urlsplit(url)
        has_host = bool(parts.hostname) and parts.port != 0  # raises where it is no number, or too large a one
    except ValueError:
        return False
    return has_host and re.fullmatch(r"(?i:https?)://[^/@?#\s]+/?", url) is not None
