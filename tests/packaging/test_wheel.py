"""The wheel: what is in it, and that it works where nothing else is installed."""

import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# One worker builds the wheel for all tests of this file; installing it takes longer than other tests.
pytestmark = [pytest.mark.xdist_group("wheel"), pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    # Without isolation pip needs no second download of the build backend, which the dev extra installs.
    pip("wheel", str(ROOT), "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder))
    (built,) = folder.glob("skyloom-*.whl")
    return built


def pip(*arguments: str) -> None:
    command = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def is_cache(file: Path) -> bool:
    return any(part.startswith((".", "__pycache__")) for part in file.relative_to(ROOT).parts)


def test_the_wheel_holds_the_packages_whole_and_nothing_else(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    expected = {
        file.relative_to(root).as_posix()
        for root in (ROOT / "core", ROOT / "gateway", *(ROOT / "apps").iterdir())
        for file in root.glob("skyloom*/**/*")
        if file.is_file() and not is_cache(file)
    }
    assert {name for name in names if ".dist-info/" not in name} == expected
    assert {
        "skyloom/py.typed",
        "skyloom_gateway/static/skyloom.js",
        "skyloom_gateway/static/skyloom.d.ts",
        "skyloom_chat/page/index.html",
    } <= names
    assert any(name.startswith("skyloom_chat/migrations/") for name in names)
    assert any(name.endswith("licenses/LICENSE") for name in names)


@pytest.mark.ci
def test_a_fresh_environment_with_the_base_dependencies_runs_the_command(wheel: Path, tmp_path: Path) -> None:
    venv.create(tmp_path / "venv", with_pip=False)
    python = tmp_path / "venv" / "bin" / "python"
    pip("--python", str(python), "install", str(wheel), "--constraint", str(ROOT / "constraints.txt"))
    command = [str(python.with_name("skyloom")), "--version"]
    said = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert "0.1.0" in said
    # Nothing that an extra brings may be needed to import the core and the gateway.
    subprocess.run([str(python), "-c", "import skyloom, skyloom_gateway"], cwd=tmp_path, check=True)
