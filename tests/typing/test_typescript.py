"""skyloom.d.ts, as the TypeScript compiler sees it; and every name in it is there in skyloom.js."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.required import required

ROOT = Path(__file__).resolve().parents[2]
STATIC = ROOT / "gateway/skyloom_gateway/static"
TYPESCRIPT = "typescript@5.9.3"
INSTALL_SECONDS = 90


@pytest.fixture(scope="module")
def tsc(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("typescript")
    command = [required("npm"), "install", "--no-save", "--no-audit", "--no-fund", "--silent", TYPESCRIPT]
    subprocess.run(command, cwd=folder, check=True, timeout=INSTALL_SECONDS)
    return folder / "node_modules/.bin/tsc"


@pytest.mark.ci
@pytest.mark.real_time
@pytest.mark.timeout(INSTALL_SECONDS + 60)
def test_user_code_in_typescript_is_checked(tsc: Path, tmp_path: Path) -> None:
    shutil.copy(STATIC / "skyloom.d.ts", tmp_path / "skyloom.d.ts")
    shutil.copy(ROOT / "tests/typing/user_code.ts", tmp_path / "user_code.ts")
    options = ["--strict", "--noEmit", "--target", "es2022", "--module", "nodenext", "--lib", "es2022,dom"]
    (tmp_path / "package.json").write_text('{"type": "module"}')
    checked = subprocess.run([tsc, *options, "user_code.ts"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert checked.stdout == ""
    assert checked.returncode == 0


def test_every_declared_name_is_exported() -> None:
    exported = re.compile(r"^export (?:async )?(?:class|function) (\w+)", re.MULTILINE)
    sources = "".join((STATIC / file).read_text() for file in ("skyloom.js", "skyloom/errors.js"))
    assert set(exported.findall((STATIC / "skyloom.d.ts").read_text())) == set(exported.findall(sources))
