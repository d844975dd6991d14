"""The threat model names the tests of each claim, and all of them exist."""

import re
from pathlib import Path

TESTS = Path(__file__).parent.parent
PAGE = (TESTS.parent / "docs/threat-model.md").read_text()


def test_every_test_that_the_threat_model_names_exists():
    named = set(re.findall(r"`(test_\w+)`", PAGE))
    existing = {name for file in TESTS.rglob("test_*.py") for name in re.findall(r"def (test_\w+)", file.read_text())}
    assert len(named) > 30
    assert named - existing == set()


def test_every_attacker_section_lists_the_host_projects_part():
    attackers = re.split(r"^## ", PAGE, flags=re.MULTILINE)[2:]
    assert [text.splitlines()[0] for text in attackers if "**Yours:**" not in text] == []
