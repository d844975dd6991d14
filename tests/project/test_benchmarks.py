"""The benchmarks run. Each checks that the measured work was really done."""

import importlib.util
import subprocess
import sys

import pytest

from benchmarks.report import ratio
from tests.helpers.servers import ServerMissing, provided
from tests.helpers.stack import ROOT

pytestmark = pytest.mark.slow

SMALL = ["--rounds=1", "--seconds=0.5", "--backlog=200", "--deliveries=3", "--requests=500", "--number=500"]


def run(*arguments):
    command = [sys.executable, "-m", "benchmarks", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=500)


@pytest.fixture
def servers():
    if importlib.util.find_spec("psutil") is None:
        pytest.skip("psutil is not installed (make setup EXTRAS=bench)")
    try:
        with provided("postgres"), provided("redis"):
            yield
    except ServerMissing as missing:
        pytest.skip(str(missing))


def test_each_measurement_prints_its_table(servers):
    result = run(*SMALL, "--rows=20000")
    assert result.returncode == 0, result.stderr
    for title in (
        "Intake",
        "Dispatch",
        "From the POST",
        "A flood of 500",
        "Webhooks while",
        "Memory",
        "Growth to 20,000",
    ):
        assert f"## {title}" in result.stdout


@pytest.mark.parametrize("database", ["postgres", "mariadb"])
def test_the_snapshot_benchmark_runs_on_each_database(servers, database):
    try:
        with provided(database):
            result = run("snapshot", "--minutes=0.1", f"--database={database}")
    except ServerMissing as missing:
        pytest.skip(str(missing))
    assert result.returncode == 0, result.stderr
    assert "## A snapshot held open for 0.1 minutes" in result.stdout


def test_a_ratio_is_reported_with_its_confidence_interval():
    """Of 15 ratios, the interval spans from the 4th smallest to the 4th largest.

    Of the 2**15 outcomes of 15 coin tosses, 576 have at most three heads, and 576 have at most three tails.
    """
    rates = [10, 13, 11, 24, 12, 14, 15, 23, 16, 22, 17, 21, 18, 20, 19]
    assert ratio(rates, [10] * 15) == "1.70 (1.30–2.10)"
    assert ratio(rates[:5], [10] * 5) == "1.20 (1.00–2.40)"


def test_an_unknown_benchmark_is_reported_by_name(servers):
    result = run("intkae")
    assert result.returncode == 2
    assert "unknown: intkae" in result.stderr
