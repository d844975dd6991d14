"""Look up every installed package for known vulnerabilities: `make audit`.

One that is known fails. A service that cannot be asked does not: it says so, and nothing was looked up.
"""

import json
import subprocess
import sys
from dataclasses import dataclass
from typing import Any

#: Whom pip-audit can ask, in this order: a mirror of the registry often has the packages and not the advisories.
SERVICES = ("pypi", "osv")
#: Seconds for a service to answer about all packages.
PATIENCE = 300


@dataclass(frozen=True)
class Audit:
    """What a service knows: a line for each vulnerability, the packages that it knows, and those that it does not."""

    vulnerabilities: list[str]
    known: list[str]
    unknown: list[str]


class NoAnswer(Exception):
    """The service could not be asked, or knows none of the packages."""


def main() -> int:
    """Ask the first service that answers; arguments go to pip-audit (``--ignore-vuln ID``)."""
    for service in SERVICES:
        try:
            return tell(service, ask(service, sys.argv[1:]))
        except NoAnswer as reason:
            print(f"{service} could not be asked: {reason}")
    print("NOT AUDITED: no service could be asked about vulnerabilities. Run `make audit` where one can be reached.")
    return 0


def ask(service: str, arguments: list[str]) -> Audit:
    """What the service knows of the installed packages."""
    command = [sys.executable, "-m", "pip_audit", "--format=json", "--progress-spinner=off", "--skip-editable"]
    command += ["--vulnerability-service", service, *arguments]
    try:
        run = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        raise NoAnswer(f"no answer within {PATIENCE} seconds") from None
    try:
        audit = read(json.loads(run.stdout))
    except ValueError:
        raise NoAnswer((run.stderr.strip() or "it said nothing").splitlines()[-1][:300]) from None
    if not audit.known:
        raise NoAnswer("it knows none of the packages")
    return audit


def read(report: dict[str, Any]) -> Audit:
    """Read pip-audit's report in JSON."""
    packages = report["dependencies"]
    return Audit(
        vulnerabilities=[
            f"{package['name']} {package['version']}: {found['id']}, mended in {found['fix_versions'] or 'no version'}"
            for package in packages
            for found in package.get("vulns", ())
        ],
        known=[package["name"] for package in packages if "skip_reason" not in package],
        unknown=[package["name"] for package in packages if "skip_reason" in package],
    )


def tell(service: str, audit: Audit) -> int:
    """Print it; the exit code."""
    print(
        f"{service} knows {len(audit.known)} of the packages, and {len(audit.vulnerabilities)} vulnerabilities in them."
    )
    if audit.unknown:
        print(f"Not looked up: {', '.join(audit.unknown)}")
    print(*audit.vulnerabilities, sep="\n", end="\n" if audit.vulnerabilities else "")
    return 1 if audit.vulnerabilities else 0


if __name__ == "__main__":
    sys.exit(main())
