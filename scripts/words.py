"""Find words that this project avoids in its code, tests and documentation, and name what to write instead."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

SUFFIXES = {".py", ".md", ".html", ".txt", ".cfg", ".toml", ".yml", ".yaml", ".ini", ".js", ".css", ".svg", ""}
#: This list, and texts of others.
EXCEPT = {"scripts/words.py", "LICENSE"}
#: What to write instead of what matches. The words are matched without regard to case.
WORDS = {
    r"whom|whoever|whomever": "anyone who; or name the person",
    r"anew": "again",
    r"lest": "so that … not",
    r"shall": "should, must",
    r"(?:tells?|told|telling)(?! me| you)": "report, identify, send, say",
    r"(?<!claimed )alone": "only",
    r"(?<!there )(?-i:is none|are none)|there is no \w+ that": "is not a valid X, no X",
    r"to be had": "available",
    r"where (?:there|nothing|none|no|one|it is|they are|that is|possible|needed|necessary)": "if, when",
    r"as far as": "if, when",
    r"goes? by|has a say|have a say|makes? of (?:it|them)": "uses, affects, interprets",
    r"away": "unavailable",
    r"(?:of )?(?:its|their) own": "its, separate",
    r"refus(?:e|es|ed|al|als|ing)": "reject, rejection",
    r"pro(?:ve|ves|ved|ving|of|ofs)(?! of concept)": "credential, authenticate, show",
    r"wake-ups?": "notification (of a worker)",
    r"settle[sd]?|settling|stints?": "complete, time budget",
    r"takes? in": "applies, supersedes",
    r"deaths?|knock(?:s|ed)?": "crash, probe",
    r"former key|peer's way": "previous key, forwarding chain",
    r"nobody knows": "unknown",
}
PATTERN = re.compile("|".join(rf"\b({words})\b" for words in WORDS), re.IGNORECASE)
INSTEAD = list(WORDS.values())


def main() -> int:
    """Print each word that was found with its place, and return the exit code."""
    found = [line for path in tracked_files() for line in problems(path)]
    print("\n".join(found) or "No word to avoid was found.")
    return 1 if found else 0


def tracked_files() -> Iterator[Path]:
    """Yield the text files under version control, and new ones that are not ignored."""
    names = subprocess.check_output(["git", "ls-files", "--cached", "--others", "--exclude-standard"], text=True)
    for path in map(Path, names.splitlines()):
        if path.suffix in SUFFIXES and str(path) not in EXCEPT and path.is_file():
            yield path


def problems(path: Path) -> Iterator[str]:
    """Describe the words to avoid in a file, except for those in code between backticks."""
    for number, line in enumerate(path.read_text().splitlines(), 1):
        for match in PATTERN.finditer(re.sub(r"`[^`]*`", "`", line)):
            yield f"{path}:{number}: “{match[0]}”, write: {INSTEAD[(match.lastindex or 1) - 1]}"


if __name__ == "__main__":
    sys.exit(main())
