"""dev.py: what it says when it cannot work, how it starts the server, what it finds in documents."""

import importlib.util
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]
PRETENDING = """
import runpy, sys
{change}
sys.argv = ["dev.py", "lint"]
runpy.run_path("dev.py", run_name="__main__")
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A folder with what dev.py needs of a clone."""
    for file in ("dev.py", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / file, tmp_path)
    return tmp_path


def load(checkout: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("dev_under_test", checkout / "dev.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def pretend(checkout: Path, change: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", PRETENDING.format(change=change)]
    return subprocess.run(command, cwd=checkout, capture_output=True, text=True, check=False)


def test_an_old_python_is_told_which_it_needs(checkout: Path) -> None:
    done = pretend(checkout, "sys.version_info = (3, 10, 1)")
    assert done.returncode == 1
    assert "needs Python 3.11 or later" in done.stderr


@pytest.mark.parametrize("module", ["venv", "ensurepip"])
def test_a_python_without_venv_is_told_the_package_to_install(checkout: Path, module: str) -> None:
    done = pretend(checkout, f"sys.modules['{module}'] = None")
    assert done.returncode == 1
    assert f"apt-get install python3.{sys.version_info.minor}-venv" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.ci
def test_pip_speaks_only_when_it_fails(checkout: Path) -> None:
    (checkout / "constraints.txt").write_text("not a requirement!\n")
    done = subprocess.run([sys.executable, "dev.py", "lint"], cwd=checkout, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "pip could not install" in done.stderr
    assert "not a requirement!" in done.stderr
    assert not (checkout / ".venv" / "skyloom-stamp").exists(), "the next run would believe it is installed"


@pytest.mark.ci
def test_the_environment_that_is_made_anew_may_be_the_active_one(checkout: Path) -> None:
    (checkout / "constraints.txt").write_text("not a requirement!\n")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", ".venv"], cwd=checkout, check=True)
    command = [str(checkout / ".venv" / "bin" / "python"), "dev.py", "lint"]
    done = subprocess.run(command, cwd=checkout, capture_output=True, text=True, check=False)
    assert "pip could not install" in done.stderr, "it came as far as with any other Python"


def test_an_unknown_task_is_answered_with_the_known_ones(checkout: Path) -> None:
    with pytest.raises(SystemExit, match="no task 'lnit'; there are: run, test, lint"):
        load(checkout).main(["lnit"])


def test_the_environment_is_made_anew_when_a_file_that_decides_it_changes(checkout: Path) -> None:
    dev = load(checkout)
    before = dev.fingerprint()
    assert dev.fingerprint() == before
    for file in ("pyproject.toml", "constraints.txt"):
        with (checkout / file).open("a") as text:
            text.write("# changed\n")
        assert dev.fingerprint() != before
        before = dev.fingerprint()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_reaches_the_server_and_its_status_comes_back(checkout: Path, number: signal.Signals) -> None:
    dev = load(checkout)
    programs = checkout / ".venv" / "bin"
    programs.mkdir(parents=True)
    (programs / "python").symlink_to(sys.executable)
    server = programs / "skyloom"
    server.write_text(
        f"#!{sys.executable}\nimport signal, sys, time\n"
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))\n"
        "signal.signal(signal.SIGINT, lambda *_: sys.exit(7))\n"
        "print(*sys.argv[1:], flush=True)\n"
        "time.sleep(30)\n"
    )
    server.chmod(0o755)
    (checkout / ".venv" / "skyloom-stamp").write_text(dev.fingerprint())
    (checkout / "apps" / "chat" / "skyloom_chat").mkdir(parents=True)
    command = [sys.executable, "dev.py", "run", "--port=0", "--reload"]
    with subprocess.Popen(command, cwd=checkout, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        arguments = process.stdout.readline()
        process.send_signal(number)
        assert process.wait(10) == 7
    assert arguments.startswith("gateway skyloom_chat:app --host 127.0.0.1 --tcp-port 8001 --database ")
    assert arguments.endswith(" --set gateway.admin_port=0 --port=0 --reload\n")
    assert (checkout / ".skyloom").is_dir()


def test_the_documents_check_finds_dead_links_and_stale_snippets(checkout: Path) -> None:
    (checkout / "docs").mkdir()
    (checkout / "docs" / "hello.py").write_text("print('hello')\n")
    page = checkout / "docs" / "page.md"
    page.write_text(
        "# A page\n\n[good](hello.py) [self](#a-page) [web](https://example.org) `[code](nowhere)`\n"
        "[bad](gone.md) [no heading](#b-page)\n\n"
        "```python file=docs/hello.py\nprint('hello')\n```\n\n"
        "```python file=docs/hello.py\nprint('goodbye')\n```\n\n"
        "```python file=docs/gone.py\n```\n"
    )
    assert sorted(load(checkout).page_faults(page)) == [
        "a snippet names docs/gone.py, which does not exist",
        "the link to #b-page names no heading",
        "the link to gone.md leads nowhere",
        "the snippet of docs/hello.py differs from the file",
    ]
