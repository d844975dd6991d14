"""The files for contributors and the package index name commands, paths and links that exist."""

import json
import re
import tomllib
from configparser import ConfigParser

import pytest

from scripts.build_release import main_component, tag_problems, with_serial_number
from tests.helpers.stack import ROOT

PACKAGE = "django_bi_integration"
REPOSITORY = "https://github.com/django-bi-integration/django-bi-integration"
GUIDES = ["CONTRIBUTING.md", "RELEASING.md", ".github/PULL_REQUEST_TEMPLATE.md", "README.md"]
#: The target of a Markdown link or picture.
LINK = re.compile(r"(?:\]\(|^\[[\w-]+\]: )([^)\s]+)", re.MULTILINE)


def text(name):
    """Return the text of a file of the repository."""
    return (ROOT / name).read_text()


@pytest.fixture(scope="module")
def setup_cfg():
    parser = ConfigParser()
    parser.read(ROOT / "setup.cfg")
    return parser


@pytest.mark.parametrize("name", GUIDES)
def test_each_make_target_that_a_guide_names_exists(name):
    targets = set(re.findall(r"^([a-z]+):", text("Makefile"), re.MULTILINE))
    named = set(re.findall(r"(?:`|^\s*)make\s+([a-z]+)", text(name), re.MULTILINE))
    assert named, f"{name} names no make target"
    assert named <= targets


def test_each_path_in_the_contributing_guide_exists():
    """Paths are relative to the repository or to the package."""
    quoted = re.findall(r"`([\w.-]+(?:/[\w.-]*)*)`", text("CONTRIBUTING.md"))
    paths = [path for path in quoted if "/" in path or path.endswith((".cfg", ".ini", ".md", ".py"))]
    assert len(paths) > 20
    assert [path for path in paths if not any((base / path).exists() for base in (ROOT, ROOT / PACKAGE))] == []


def test_each_folder_of_code_is_in_the_contributing_guide():
    folders = {f"{PACKAGE}/{path.parent.name}/" for path in (ROOT / PACKAGE).glob("*/__init__.py")}
    small = {f"{PACKAGE}/migrations/", f"{PACKAGE}/templatetags/"}
    assert {folder for folder in folders - small if f"`{folder}`" not in text("CONTRIBUTING.md")} == set()


@pytest.mark.parametrize("name", ["CONTRIBUTING.md", "RELEASING.md", "SECURITY.md", "README.md"])
def test_each_link_within_the_repository_has_a_target(name):
    links = [link.removeprefix(f"{REPOSITORY}/blob/main/") for link in LINK.findall(text(name))]
    inside = [link for link in links if not link.startswith("https://")]
    assert inside
    for link in inside:
        path, _, anchor = link.partition("#")
        assert (ROOT / path).is_file(), f"{name}: {link}"
        assert not anchor or anchor in anchors(text(path)), f"{name}: {link}"


def anchors(page):
    """Return the anchors of a page's headings, as GitHub and Sphinx generate them."""
    headings = re.findall(r"^#+ (.+)$", page, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_readme_works_on_a_package_index():
    """It does not resolve relative links, and shows a picture only from a URL that serves the file itself."""
    links = LINK.findall(text("README.md"))
    assert [link for link in links if not link.startswith(("https://", "#"))] == []
    raw = REPOSITORY.replace("github.com", "raw.githubusercontent.com") + "/main/"
    [picture] = [link for link in links if link.endswith(".svg")]
    assert (ROOT / picture.removeprefix(raw)).is_file()
    assert re.search(r"^!\[.{20,}\]\[flow\]$", text("README.md"), re.MULTILINE), "the picture has no description"


def test_ci_runs_the_same_script_as_a_contributor():
    assert re.search(r"^ +- run: \.ci/run$", text(".github/workflows/ci.yml"), re.MULTILINE)
    assert "uses: ./.github/workflows/ci.yml" in text(".github/workflows/release.yml")


def test_ci_installs_every_supported_python(setup_cfg):
    versions = re.findall(r"Python :: (3\.\d+)$", setup_cfg["metadata"]["classifiers"], re.MULTILINE)
    assert f"uv python install --quiet {' '.join(versions)}\n" in text(".github/workflows/ci.yml")


@pytest.mark.parametrize("name", ["ci.yml", "release.yml"])
def test_workflows_start_without_permissions_and_pin_actions(name):
    workflow = text(f".github/workflows/{name}")
    assert "\npermissions: {}\n" in workflow
    actions = re.findall(r"uses: (\S+)", workflow)
    assert [action for action in actions if not re.fullmatch(r"\./\S+|[\w/-]+@[0-9a-f]{40}", action)] == []


def test_the_pre_commit_hooks_use_a_version_of_ruff_that_the_lint_extra_allows(setup_cfg):
    floor = re.search(r"^ruff>=([\d.]+)$", setup_cfg["options.extras_require"]["lint"], re.MULTILINE).group(1)
    revision = re.search(r"ruff-pre-commit\n +rev: v([\d.]+)", text(".pre-commit-config.yaml")).group(1)
    assert parts(revision) >= parts(floor)


def parts(version):
    """Return the numbers of a version, which compare as versions do."""
    return [int(part) for part in version.split(".")]


def test_the_metadata_names_the_author_and_the_project_urls(setup_cfg):
    metadata = setup_cfg["metadata"]
    assert metadata["author"] == "django_bi_integration contributors"
    urls = dict(line.split(" = ") for line in metadata["project_urls"].strip().splitlines())
    assert set(urls) == {"Documentation", "Source", "Issues", "Changelog", "Security"}
    assert all(url.startswith(REPOSITORY) for url in urls.values())


def test_a_release_tag_needs_its_version_and_a_dated_changelog_heading(tmp_path):
    (tmp_path / PACKAGE).mkdir()
    (tmp_path / PACKAGE / "__init__.py").write_text('__version__ = "0.2.0"\n')
    (tmp_path / "CHANGELOG.md").write_text("# Changelog\n\n## 0.2.0 (2027-01-31)\n")
    assert tag_problems("v0.2.0", tmp_path) == []
    (tmp_path / "CHANGELOG.md").write_text("# Changelog\n\n## Unreleased\n\n## 0.1.0 (2026-12-31)\n")
    [changelog] = tag_problems("v0.2.0", tmp_path)
    assert "no heading “## 0.2.0 (YYYY-MM-DD)”" in changelog
    [version] = tag_problems("v0.1.0", tmp_path)
    assert "__version__ in django_bi_integration/__init__.py is not 0.1.0" in version


def test_the_sbom_names_the_package_and_its_dependencies(setup_cfg):
    project = tomllib.loads(main_component("0.2.0"))["project"]
    assert (project["name"], project["version"], project["license"]) == ("django-bi-integration", "0.2.0", "MIT")
    assert project["dependencies"] == setup_cfg["options"]["install_requires"].split()


def test_the_same_sbom_has_the_same_serial_number():
    """GitHub's attestation requires a serial number, and a random one would make each build differ."""
    first, again, other = (
        json.loads(with_serial_number(text))
        for text in ('{"components": []}', '{"components": []}', '{"components": [1]}')
    )
    assert re.fullmatch(r"urn:uuid:[0-9a-f-]{36}", first["serialNumber"])
    assert first == again
    assert first["serialNumber"] != other["serialNumber"]
