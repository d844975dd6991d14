"""Look up every installed package for known vulnerabilities: `make audit`.

The command fails if it finds a vulnerability. If no service can be queried, it says so and succeeds.
"""

import json
import subprocess
import sys
from dataclasses import dataclass
from typing import Any

#: The services to query, in this order: a mirror of the registry often has the packages without the advisories.
SERVICES = ("pypi", "osv")
#: Seconds that a service has to respond for all packages.
TIMEOUT = 300


@dataclass(frozen=True)
class Audit:
    """A service's response: a line for each vulnerability, the packages that it knows, and those that it does not."""

    vulnerabilities: list[str]
    known: list[str]
    unknown: list[str]


class NoAnswer(Exception):
    """The service could not be queried, or knows none of the packages."""


def main() -> int:
    """Query the first service that responds; arguments go to pip-audit (``--ignore-vuln ID``)."""
    for service in SERVICES:
        try:
            return report(service, query(service, sys.argv[1:]))
        except NoAnswer as reason:
            print(f"{service} could not be queried: {reason}")
    print("NOT AUDITED: no service could be queried. Run `make audit` on a machine that can reach one.")
    return 0


def query(service: str, arguments: list[str]) -> Audit:
    """Return what the service knows about the installed packages. Raise NoAnswer."""
    command = [sys.executable, "-m", "pip_audit", "--format=json", "--progress-spinner=off", "--skip-editable"]
    command += ["--vulnerability-service", service, *arguments]
    try:
        run = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT)
    except subprocess.TimeoutExpired:
        raise NoAnswer(f"no answer within {TIMEOUT} seconds") from None
    try:
        audit = parse(json.loads(run.stdout))
    except ValueError:
        raise NoAnswer((run.stderr.strip() or "it said nothing").splitlines()[-1][:300]) from None
    if not audit.known:
        raise NoAnswer("it knows none of the packages")
    return audit


def parse(output: dict[str, Any]) -> Audit:
    """Parse pip-audit's output."""
    packages = output["dependencies"]
    return Audit(
        vulnerabilities=[
            f"{package['name']} {package['version']}: {found['id']}, fixed in {found['fix_versions'] or 'no version'}"
            for package in packages
            for found in package.get("vulns", ())
        ],
        known=[package["name"] for package in packages if "skip_reason" not in package],
        unknown=[package["name"] for package in packages if "skip_reason" in package],
    )


def report(service: str, audit: Audit) -> int:
    """Print the result and return the exit code."""
    print(
        f"{service} knows {len(audit.known)} of the packages, and {len(audit.vulnerabilities)} vulnerabilities in them."
    )
    if audit.unknown:
        print(f"Not looked up: {', '.join(audit.unknown)}")
    print(*audit.vulnerabilities, sep="\n", end="\n" if audit.vulnerabilities else "")
    return 1 if audit.vulnerabilities else 0


if __name__ == "__main__":
    sys.exit(main())
