"""pytest with Skyloom's plugin as its users run it.

A race is found by its seeds and replayed by the command that the failure prints. Tests outside of this repository need
no settings but the documented ones.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = "docs/examples/race.py"


def pytest_run(*words: str, folder: Path = ROOT) -> subprocess.CompletedProcess[str]:
    paths = [str(ROOT / folder) for folder in ("core", "gateway")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([*paths, os.environ.get("PYTHONPATH", "")])}
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *words],
        cwd=folder,
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


@pytest.mark.parametrize("asyncio", [True, False])
def test_elsewhere_nothing_warns_with_the_documented_settings(asyncio: bool, tmp_path: Path) -> None:
    page = (ROOT / "docs/howto/testing-without-sleeping.md").read_text(encoding="utf-8")
    settings = re.search(r"```toml\n(.*?)```", page, re.DOTALL)
    assert settings is not None
    words = [] if asyncio else ["-p", "no:asyncio"]
    if asyncio:
        (tmp_path / "pyproject.toml").write_text(settings[1])
    (tmp_path / "test_pub.py").write_text((ROOT / "docs/examples/testing_an_app.py").read_text(encoding="utf-8"))
    ran = pytest_run("--seeds", "1", *words, folder=tmp_path)
    assert ran.returncode == 0, ran.stdout
    assert "1 passed" in ran.stdout
    assert "arning" not in ran.stdout + ran.stderr
