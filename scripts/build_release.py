"""Build the sdist, the wheel and the SBOM of the last commit, byte for byte the same each time: `make dist`."""

import argparse
import gzip
import io
import json
import os
import re
import subprocess
import sys
import tarfile
import uuid
import venv
from configparser import ConfigParser
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).resolve().parent.parent
#: The version of the build backend is part of what is built: the wheel names it.
CONSTRAINTS = ROOT / "scripts" / "build_constraints.txt"


def main() -> int:
    """Build the last commit into a folder, print the hashes, and check that a package index renders the README."""
    parser = argparse.ArgumentParser(prog="make dist", description=__doc__, allow_abbrev=False)
    parser.add_argument("--outdir", type=Path, default=ROOT / "dist", help="the folder for both files (default: dist)")
    parser.add_argument("--tag", help="fail unless the version and the changelog are those of this tag, as in v0.1.0")
    parser.add_argument("--sbom", type=Path, metavar="FILE", help="also write a CycloneDX SBOM of the installed wheel")
    options = parser.parse_args()
    if options.tag and (problems := tag_problems(options.tag, ROOT)):
        print(*problems, sep="\n", file=sys.stderr)
        return 1
    epoch = int(os.environ.get("SOURCE_DATE_EPOCH") or git("log", "-1", "--format=%ct"))
    with TemporaryDirectory() as folder:
        extract(git("archive", "--format=tar", "HEAD"), Path(folder))
        files = build(Path(folder), options.outdir, epoch)
    for file in files:
        print(f"{sha256(file.read_bytes()).hexdigest()}  {file.name}")
    subprocess.run([sys.executable, "-m", "twine", "check", "--strict", *files], check=True)
    if options.sbom:
        write_sbom(files[1], options.sbom, epoch)
        print(f"SBOM: {options.sbom}")
    return 0


def tag_problems(tag: str, root: Path) -> list[str]:
    """List what a release with this tag still lacks."""
    version = tag.removeprefix("v")
    package = (root / "django_bi_integration" / "__init__.py").read_text()
    changelog = (root / "CHANGELOG.md").read_text()
    problems = []
    if f'__version__ = "{version}"' not in package:
        problems.append(f"{tag}: __version__ in django_bi_integration/__init__.py is not {version}. Set it, then tag.")
    if not re.search(rf"^## {re.escape(version)} \(\d{{4}}-\d\d-\d\d\)$", changelog, re.MULTILINE):
        problems.append(f"{tag}: CHANGELOG.md has no heading “## {version} (YYYY-MM-DD)”. Rename “## Unreleased”.")
    return problems


def git(*arguments: str) -> bytes:
    """Run git in the repository and return its output."""
    return subprocess.run(["git", "-C", str(ROOT), *arguments], check=True, stdout=subprocess.PIPE).stdout


def extract(archive: bytes, folder: Path) -> None:
    """Unpack a tar archive."""
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        tar.extractall(folder, filter="data")


def build(source: Path, outdir: Path, epoch: int) -> list[Path]:
    """Build the sdist, then the wheel from the sdist, and return both paths; ``epoch`` is the time of all entries."""
    outdir.mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, "SOURCE_DATE_EPOCH": str(epoch), "PIP_CONSTRAINT": str(CONSTRAINTS)}
    with TemporaryDirectory() as name:
        folder = Path(name)

        def run_build(kind: str, tree: Path) -> None:
            command = [sys.executable, "-m", "build", kind, "--outdir", name, str(tree)]
            # The umask decides the modes of the files that the build makes, and the wheel keeps the modes.
            subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL, umask=0o022)

        run_build("--sdist", source)
        [made] = folder.glob("*.tar.gz")
        sdist = outdir / made.name
        sdist.write_bytes(gzip.compress(normalized(made, epoch), mtime=epoch))
        extract(gzip.decompress(sdist.read_bytes()), folder)
        run_build("--wheel", folder / sdist.name.removesuffix(".tar.gz"))
        [made] = folder.glob("*.whl")
        wheel = outdir / made.name
        wheel.write_bytes(made.read_bytes())
    return [sdist, wheel]


def normalized(sdist: Path, epoch: int) -> bytes:
    """Return the sdist as an uncompressed tar whose order, times, owners and modes do not depend on the machine."""
    output = io.BytesIO()
    with tarfile.open(sdist) as old, tarfile.open(fileobj=output, mode="w", format=tarfile.PAX_FORMAT) as new:
        for member in sorted(old.getmembers(), key=lambda member: member.name):
            entry = tarfile.TarInfo(member.name)
            entry.type, entry.size, entry.mtime = member.type, member.size, epoch
            entry.mode = 0o755 if member.isdir() else 0o644
            new.addfile(entry, old.extractfile(member))
    return output.getvalue()


def write_sbom(wheel: Path, file: Path, epoch: int) -> None:
    """Install the wheel into an empty environment and list everything that is installed there then."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        venv.create(folder / "env", symlinks=True)
        python = str(folder / "env" / "bin" / "python")
        subprocess.run([sys.executable, "-m", "pip", "--python", python, "install", "--quiet", str(wheel)], check=True)
        root = folder / "pyproject.toml"
        root.write_text(main_component(version=wheel.name.split("-")[1]))
        command = [sys.executable, "-m", "cyclonedx_py", "environment", "--output-reproducible", "--mc-type", "library"]
        command += ["--pyproject", str(root), "--output-file", "-", python]
        environment = {**os.environ, "SOURCE_DATE_EPOCH": str(epoch)}
        output = subprocess.run(command, check=True, env=environment, stdout=subprocess.PIPE, text=True).stdout
    file.write_text(with_serial_number(output))


def with_serial_number(sbom: str) -> str:
    """Add the serial number that attestations require, made from the contents: the same SBOM has the same number."""
    serial_number = uuid.uuid5(uuid.NAMESPACE_URL, sbom).urn
    return json.dumps({"serialNumber": serial_number, **json.loads(sbom)}, indent=2, ensure_ascii=False) + "\n"


def main_component(version: str) -> str:
    """Return the metadata of the package in the only form from which cyclonedx-py reads it."""
    setup = ConfigParser()
    setup.read(ROOT / "setup.cfg")
    metadata = setup["metadata"]
    values = {name: metadata[name] for name in ("name", "description")} | {"version": version}
    lines = [f"{name} = {json.dumps(value)}" for name, value in values.items()]
    lines.append(f"license = {json.dumps(metadata['license_expression'])}")
    lines.append(f"dependencies = {json.dumps(setup['options']['install_requires'].split())}")
    return "\n".join(["[project]", *lines, ""])


if __name__ == "__main__":
    sys.exit(main())
