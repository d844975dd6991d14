"""The wheel and the sdist: built, inspected, installed elsewhere, and used by following only the README."""

import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile
from configparser import ConfigParser
from email import message_from_bytes
from hashlib import sha256

import pytest

from scripts import build_release
from tests.helpers.readme import README, blocks
from tests.helpers.servers import free_port
from tests.helpers.stack import ROOT, Program, answers_http

pytestmark = pytest.mark.packaging

PACKAGE = "django_bi_integration"


@pytest.fixture(scope="module")
def distributions(tmp_path_factory):
    """Return the folder with the wheel and the sdist, built from a copy without the files of earlier builds."""
    source = copied_project(tmp_path_factory.mktemp("source"))
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--outdir", str(folder), str(source))
    return folder


def copied_project(folder):
    """Copy the project into a folder without the files of earlier builds, and return its path."""
    ignored = shutil.ignore_patterns(".*", "__pycache__", "*.egg-info", "build", "dist", "_build")
    return shutil.copytree(ROOT, folder / "project", ignore=ignored)


@pytest.fixture(scope="module")
def package_files():
    """Return the path of every file of the package."""
    files = (ROOT / PACKAGE).rglob("*")
    return {str(file.relative_to(ROOT)) for file in files if file.is_file() and "__pycache__" not in file.parts}


def test_the_wheel_holds_the_package_and_nothing_else(distributions, package_files):
    """It includes templates, static files, migrations and py.typed, but no tests and no example project."""
    [wheel] = distributions.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    assert {name for name in names if ".dist-info/" not in name} == package_files
    assert f"{PACKAGE}/py.typed" in names
    assert f"{PACKAGE}/migrations/0001_initial.py" in names
    assert any(name.endswith(".html") for name in names)
    assert any(name.endswith("licenses/LICENSE") for name in names)


def test_the_sdist_has_all_files_to_build_the_wheel(distributions, package_files):
    """The package, its metadata, and the README that the metadata includes."""
    [sdist] = distributions.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert package_files <= names
    assert {"setup.cfg", "pyproject.toml", "README.md", "LICENSE"} <= names
    assert {"CHANGELOG.md", "CONTRIBUTING.md", "RELEASING.md", "SECURITY.md"} <= names
    assert not [name for name in names if name.startswith(("demo", "example_project", "fake_vendors"))]


def test_the_metadata_of_the_wheel_names_the_author_the_licence_and_the_links(distributions):
    """A package index shows these links beside the README."""
    [wheel] = distributions.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        [name] = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        metadata = message_from_bytes(archive.read(name))
    assert metadata["Author"] == "django_bi_integration contributors"
    assert metadata["License-Expression"] == "MIT"
    assert metadata["Description-Content-Type"] == "text/markdown"
    urls = [url.partition(",")[0] for url in metadata.get_all("Project-URL")]
    assert urls == ["Documentation", "Source", "Issues", "Changelog", "Security"]


def test_two_builds_of_a_commit_are_the_same_bytes(tmp_path):
    """Although the files' times and modes differ in each checkout."""
    hashes = []
    for attempt in ("first", "second"):
        source = copied_project(tmp_path / attempt)
        if attempt == "second":
            for file in source.rglob("*.py"):
                file.chmod(0o600)
                os.utime(file, (1_000_000_000, 1_000_000_000))
        files = build_release.build(source, tmp_path / f"{attempt}-dist", 1_700_000_000)
        assert [file.suffix for file in files] == [".gz", ".whl"]
        hashes.append([sha256(file.read_bytes()).hexdigest() for file in files])
    assert hashes[0] == hashes[1]


def test_a_new_project_receives_an_event_by_following_the_readme(distributions, tmp_path):
    """In an empty environment, run the README's blocks in order; the dispatch prints the output in the README."""
    [wheel] = distributions.glob("*.whl")
    venv.create(tmp_path / "env", with_pip=True)
    programs = tmp_path / "env" / "bin"
    project = tmp_path / "project"
    project.mkdir()
    code = blocks()
    assert code["install"].strip() == "pip install django-bi-integration"
    run(programs / "python", "-m", "pip", "install", "--quiet", wheel)
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("DJANGO_", "TEST_"))}
    environment |= {"PATH": f"{programs}:{os.environ['PATH']}"}

    def shell(script, **more):
        return run("bash", "-euc", script, cwd=project, env=environment | more)

    shell(code["project"])
    append(project / "university" / "settings.py", code["settings"])
    append(project / "university" / "urls.py", code["urls"])
    shell(code["migrate"])
    shell(code["startapp"])
    append(project / "university" / "settings.py", code["settings-portal"])
    (project / "portal" / "receivers.py").write_text(code["receivers"])
    (project / "portal" / "apps.py").write_text(code["apps"])
    shell("python manage.py makemigrations --check")
    path = json.loads(shell(code["register"]))["path"]
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    command = [str(programs / "python"), str(project / "manage.py"), "runserver", "--noreload", str(port)]
    server = Program("runserver", command, environment, tmp_path / "log", lambda _: answers_http(url))
    server.start()
    try:
        assert shell(code["send"], WEBHOOK_PATH=path, PORT=str(port)).startswith("200 in ")
    finally:
        server.stop()
    assert shell(code["dispatch"]) in README.read_text()
    (project / "portal" / "templates").mkdir()
    (project / "portal" / "templates" / "practise.html").write_text(code["sso"])
    render = "from django.template.loader import render_to_string as r; print(r('practise.html'))"
    assert '<a href="/bi/sso/login/?to=dashboard"' in shell(f'python manage.py shell -c "{render}"')
    append(project / "university" / "settings.py", code["celery"])
    (project / "university" / "celery.py").write_text(code["celery-app"])
    (project / "university" / "__init__.py").write_text(code["celery-init"])
    assert shell("python manage.py check") == "System check identified no issues (0 silenced).\n"


def append(file, *texts):
    """Append the texts to a file."""
    with file.open("a") as module:
        module.writelines(texts)


def test_tox_tests_the_lowest_versions_that_the_metadata_allows():
    setup, tox = ConfigParser(), ConfigParser(interpolation=None)
    setup.read(ROOT / "setup.cfg")
    tox.read(ROOT / "tox.ini")
    extras = setup["options.extras_require"]
    required = "\n".join([setup["options"]["install_requires"], extras["redis"], extras["postgres"]])
    floors = dict(re.findall(r"^([\w.-]+)(?:\[\w+\])?>=([\d.]+)", required, re.MULTILINE))
    pinned = dict(re.findall(r"^([\w.-]+)(?:\[\w+\])?==([\d.]+)", tox["testenv:lowest"]["deps"], re.MULTILINE))
    assert pinned == floors


def run(*command, **options):
    """Run a program, check that it succeeds, and return its output."""
    result = subprocess.run(
        [str(part) for part in command], check=False, capture_output=True, text=True, timeout=300, **options
    )
    assert result.returncode == 0, f"{command}:\n{result.stdout}\n{result.stderr}"
    return result.stdout
