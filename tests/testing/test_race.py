"""The example's race is found by its seeds, and replayed by the command that the failure prints."""

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = "docs/examples/race.py"


def pytest_run(*words: str) -> subprocess.CompletedProcess[str]:
    paths = [str(ROOT / folder) for folder in ("core", "gateway")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([*paths, os.environ.get("PYTHONPATH", "")])}
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *words],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )


def test_the_race_is_found_and_replayed() -> None:
    found = pytest_run(EXAMPLE, "--seeds", "200")
    assert found.returncode == 1, found.stdout
    command = re.search(r"replay it with: python -m pytest (\S+) --seed (\d+)", found.stdout)
    assert command is not None, found.stdout
    assert command[1] == f"{EXAMPLE}::test_nobody_pays_what_he_has_not"
    assert "assert -6 >= 0" in found.stdout
    replayed = pytest_run(command[1], "--seed", command[2])
    assert replayed.returncode == 1
    ends = [re.search(r"E +at \S+ s of the run.*?replay it with", run.stdout, re.DOTALL) for run in (found, replayed)]
    assert ends[0] is not None
    assert ends[1] is not None
    assert ends[0][0] == ends[1][0]  # the trace at the end of both
