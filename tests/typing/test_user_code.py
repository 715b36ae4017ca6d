"""The public types, as a user's type checker sees them."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
USER_CODE = Path(__file__).with_name("user_code.py")


def _mypy(*files: Path) -> subprocess.CompletedProcess[str]:
    # Strict mode reports an ignore that ignores nothing, so that each wrong line must be seen as wrong.
    command = [sys.executable, "-m", "mypy", "--strict", "--no-error-summary", *map(str, files)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.mark.timeout(300)
def test_user_code_type_checks_and_its_mistakes_do_not(tmp_path: Path) -> None:
    pytest.importorskip("mypy")
    found = _mypy(USER_CODE)
    assert found.returncode == 0, found.stdout + found.stderr
    bare = tmp_path / "bare_user_code.py"
    text, wrong = re.subn(r"# type: ignore.*", "", USER_CODE.read_text(encoding="utf-8"))
    bare.write_text(text, encoding="utf-8")
    errors = [line for line in _mypy(bare).stdout.splitlines() if ": error:" in line]
    assert len(errors) == wrong == 12
