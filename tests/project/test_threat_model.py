"""The threat model names what holds it; what it names is there."""

import re
from pathlib import Path

TESTS = Path(__file__).parent.parent
PAGE = (TESTS.parent / "docs/threat-model.md").read_text()


def test_every_test_that_it_names_is_there():
    named = set(re.findall(r"`(test_\w+)`", PAGE))
    there = {name for file in TESTS.rglob("test_*.py") for name in re.findall(r"def (test_\w+)", file.read_text())}
    assert len(named) > 30
    assert named - there == set()


def test_every_attacker_leaves_something_to_the_host_project():
    attackers = re.split(r"^## ", PAGE, flags=re.MULTILINE)[2:]
    assert [text.splitlines()[0] for text in attackers if "**Yours:**" not in text] == []
