"""The names that public modules export are the names that the reference page documents."""

import re
from importlib import import_module
from pathlib import Path

import pytest

PAGE = (Path(__file__).parents[2] / "docs" / "reference.md").read_text()
PACKAGE = "django_bi_integration"
#: The modules in the page's first table.
MODULES = re.findall(rf"^\| `{PACKAGE}\.([\w.]+)` \|", PAGE, re.MULTILINE)
#: The kind and path of each autodoc directive of the page.
DIRECTIVES = re.findall(rf"^\.\. auto(\w+):: {PACKAGE}\.([\w.]+)$", PAGE, re.MULTILINE)


def exported(module):
    """Return the names that a module of the package exports."""
    return import_module(f"{PACKAGE}.{module}").__all__


@pytest.mark.parametrize("module", MODULES)
def test_every_name_that_a_public_module_exports_is_on_the_reference_page(module):
    is_documented_whole = ("module", module) in DIRECTIVES
    missing = [name for name in exported(module) if not re.search(rf"\b{name}\b", PAGE)]
    assert is_documented_whole or not missing


def test_every_documented_name_is_exported_by_a_public_module():
    names = [path.rpartition(".") for kind, path in DIRECTIVES if kind != "module"]
    assert [f"{module}.{name}" for module, _, name in names if name not in exported(module)] == []


def test_every_documented_module_is_in_the_table_of_public_modules_once():
    documented = {path if kind == "module" else path.rpartition(".")[0] for kind, path in DIRECTIVES}
    assert documented <= set(MODULES)
    assert len(MODULES) == len(set(MODULES))
