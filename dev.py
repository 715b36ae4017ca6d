#!/usr/bin/env python3
"""Runs the project's tasks: python3 dev.py TASK [arguments].

Needs nothing but Python 3.11 or later. The first run makes .venv and installs Skyloom with everything for
development; later runs reuse it until pyproject.toml, constraints.txt or the Python version change.

  run    [arguments]       serve the demo apps on http://127.0.0.1:8000 and TCP 8001, data in .skyloom/;
                           the arguments go to `skyloom gateway`. `.venv/bin/skyloom console` looks inside
  test   [arguments]       run the tests; the arguments go to pytest
  lint                     check style, types and layers
  fix                      format, and repair what can be repaired by itself
  bench  [NAME] [--json FILE]  run a benchmark, or list them
  docs                     check the documentation's links and snippets
  ci                       everything that must pass before a change is merged
"""

from __future__ import annotations  # an older Python then gets as far as the line that says it is too old

import hashlib
import importlib.util
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NoReturn

PYTHON_VERSION_MIN = (3, 11)
TEST_WORKERS_MAX = 4  # more of them gain little: start-up and the longest test decide
ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
STAMP = VENV / "skyloom-stamp"
BIN = VENV / "bin"
DATA = ROOT / ".skyloom"
ADMIN_PORT = 8018  # where `skyloom console` looks
# Properties under the simulator, which CI runs with more seeds than `test` does: two minutes of one processor.
SIMULATED = [f"tests/testing/test_{name}.py" for name in ("promises", "patterns_simulated", "resume_simulated")]
SEEDS_CI = 1000
SEEDS_TIMEOUT_SECONDS = 900  # of one test with all its seeds, on a machine with other work
# What `run` serves: the apps that exist in this checkout.
APPS = {"apps/chat/skyloom_chat": "skyloom_chat:app", "apps/shop/skyloom_shop": "skyloom_shop:app"}
LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)|!\[[^\]]*\]\(([^)\s]+)\)")
FENCE = re.compile(r"^```\w+[ \t]+file=(\S+)[ \t]*\n(.*?)^```[ \t]*$", re.MULTILINE | re.DOTALL)


def main(arguments: Sequence[str]) -> int:
    """Run the task that `arguments` names and return its exit status."""
    if not arguments or arguments[0] in {"-h", "--help", "help"}:
        print(__doc__)
        return 0
    name, *rest = arguments
    if name not in TASKS:
        fail(f"there is no task {name!r}; there are: {', '.join(TASKS)}")
    if rest and name not in {"run", "test", "bench"}:
        fail(f"`{name}` takes no arguments, but got: {shlex.join(rest)}")
    os.chdir(ROOT)
    # The tests start a hundred processes; without what the first one compiled, each would compile everything anew.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    prepare()
    return TASKS[name](rest)


# The environment


def prepare() -> None:
    """Make .venv and install the project, unless that was done for just these files and this Python."""
    stamp = fingerprint()
    usable = (BIN / "python").exists()  # its link breaks when that Python is uninstalled
    if usable and STAMP.is_file() and STAMP.read_text() == stamp:
        return
    began = time.monotonic()
    print("dev.py: making .venv and installing Skyloom; this takes a minute or two", file=sys.stderr)
    make_venv()
    install = [str(BIN / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    done = subprocess.run(
        [*install, "-e", ".[all,dev]", "-c", "constraints.txt"],
        cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False,
    )  # fmt: skip
    if done.returncode:
        print(done.stdout, file=sys.stderr)
        fail(
            "pip could not install the packages (its output is above). Behind a proxy or a mirror, tell pip "
            "where to find them with HTTPS_PROXY or PIP_INDEX_URL; then run this again."
        )
    STAMP.write_text(stamp)
    print(f"dev.py: installed in {time.monotonic() - began:.0f} s", file=sys.stderr)


def fingerprint() -> str:
    """Return a hash of all that decides what .venv holds."""
    digest = hashlib.sha256(f"{sys.version}\n{ROOT}\n".encode())
    for file in ("pyproject.toml", "constraints.txt"):
        digest.update((ROOT / file).read_bytes())
    return digest.hexdigest()


def make_venv() -> None:
    """Make an empty .venv of this Python; explain what to install when Python cannot."""
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    remedy = (
        f"this Python {version} ({sys.executable}) cannot make virtual environments, because its venv or "
        f"ensurepip module is missing. On Debian and Ubuntu: sudo apt-get install python{version}-venv "
        "(or python3-venv); elsewhere install a Python that has both. Then run this again."
    )
    if not (importlib.util.find_spec("venv") and importlib.util.find_spec("ensurepip")):
        fail(remedy)
    if VENV.exists():
        shutil.rmtree(VENV)
    # Not sys.executable: where .venv is active, that one has just been removed.
    made = subprocess.run(
        [getattr(sys, "_base_executable", sys.executable), "-m", "venv", str(VENV)],
        text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False,
    )  # fmt: skip
    if made.returncode:
        shutil.rmtree(VENV, ignore_errors=True)
        print(made.stdout, file=sys.stderr)
        fail(remedy)


# The tasks


def run(arguments: Sequence[str]) -> int:
    """Serve the demo apps. The server takes this process's place, so every signal reaches it."""
    apps = [app for folder, app in APPS.items() if (ROOT / folder).is_dir()]
    DATA.mkdir(exist_ok=True)
    given = {argument.partition("=")[0] for argument in arguments}
    command = [tool("skyloom"), "gateway", *apps]
    database = f"sqlite:///{DATA / 'skyloom.sqlite3'}"
    defaults = {"--host": "127.0.0.1", "--port": "8000", "--tcp-port": "8001", "--database": database}
    for option, value in defaults.items():
        if option not in given:
            command += [option, value]
    if not any("gateway.admin_port=" in argument for argument in arguments):
        # Beside another demo, which was given a port of its own too, any free one does.
        command += ["--set", f"gateway.admin_port={0 if '--port' in given else ADMIN_PORT}"]
    become([*command, *arguments])


def test(arguments: Sequence[str]) -> int:
    """Run pytest; without arguments all tests but those that only `ci` runs, on several workers."""
    become([tool("python"), "-m", "pytest", *(arguments or [*workers("loadfile", spare=1), "-m", "not ci"])])


def lint(_arguments: Sequence[str] = ()) -> int:
    """Check style, format, types and layers; run all four also when one fails."""
    checks = [
        [tool("ruff"), "check", "."],
        [tool("ruff"), "format", "--check", "--quiet", "."],
        [tool("mypy")],
        [tool("lint-imports")],
    ]
    return max(call(check) for check in checks)


def fix(_arguments: Sequence[str]) -> int:
    """Repair what ruff can repair, then format."""
    return max(call([tool("ruff"), "check", "--fix", "."]), call([tool("ruff"), "format", "."]))


def bench(arguments: Sequence[str]) -> int:
    """Run bench/NAME.py, or list what there is."""
    names = sorted(file.stem for file in (ROOT / "bench").glob("*.py") if not file.stem.startswith("_"))
    if not arguments:
        print("\n".join(names) or "bench/ holds no benchmark")
        return 0
    name, *rest = arguments
    if name in names:
        become([tool("python"), "-m", f"bench.{name}", *rest])
    fail(f"there is no benchmark {name!r}; there are: {', '.join(names) or 'none'}")


def docs(_arguments: Sequence[str] = ()) -> int:
    """Check every Markdown file: links inside the repository resolve, snippets that name a file equal it."""
    pages = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("deploy/**/*.md")])
    faults = [f"{page.relative_to(ROOT)}: {fault}" for page in pages for fault in page_faults(page)]
    print("\n".join(faults) or f"{len(pages)} pages are sound")
    return 1 if faults else 0


def ci(_arguments: Sequence[str]) -> int:
    """Run every stage, with its time, and stop at the first that fails."""
    stages: dict[str, Callable[[], int]] = {
        "lint": lint,
        "docs": docs,
        "deploy": lambda: max(call(check) for check in deploy_checks()),
        "seeds": lambda: call(
            [
                *(tool("python"), "-m", "pytest", *SIMULATED, *workers("loadgroup"), "--maxschedchunk=1"),
                *(f"--seeds={SEEDS_CI}", f"--timeout={SEEDS_TIMEOUT_SECONDS}"),
            ]
        ),
        "test": lambda: call(
            [
                *(tool("python"), "-m", "pytest", *workers("loadfile"), "--hypothesis-profile=ci"),
                *(f"--ignore={file}" for file in SIMULATED),
            ]
        ),
    }
    times = []
    for name, stage in stages.items():
        print(f"== {name}", flush=True)
        began = time.monotonic()
        status = stage()
        times.append(f"{name} {time.monotonic() - began:.0f} s")
        if status:
            print(f"== {name} FAILED ({', '.join(times)})")
            return status
    print(f"== passed ({', '.join(times)})")
    return 0


# What the tasks are made of


def deploy_checks() -> Iterator[list[str]]:
    """Yield the commands that check what deploy/ holds."""
    yield [tool("hadolint"), "deploy/Dockerfile"]
    compose = sorted(str(file.relative_to(ROOT)) for file in (ROOT / "deploy").glob("compose*.yaml"))
    yield [tool("check-jsonschema"), "--builtin-schema", "vendor.compose-spec", *compose]


def page_faults(page: Path) -> Iterator[str]:
    """Yield what is wrong with one Markdown page."""
    text = page.read_text(encoding="utf-8")
    for file, body in FENCE.findall(text):
        source = ROOT / file
        if not source.is_file():
            yield f"a snippet names {file}, which does not exist"
        elif body.strip() not in source.read_text(encoding="utf-8"):
            yield f"the snippet of {file} differs from the file"
    prose = re.sub(r"^```.*?^```|`[^`\n]*`", "", text, flags=re.MULTILINE | re.DOTALL)
    for match in LINK.finditer(prose):
        target, _, anchor = (match[1] or match[2]).partition("#")
        if re.match(r"[a-z]+:", target):
            continue  # only links inside the repository can be checked without a network
        linked = (page.parent / target).resolve() if target else page
        if not linked.exists():
            yield f"the link to {target} leads nowhere"
        elif anchor and linked.suffix == ".md" and anchor not in anchors(linked):
            yield f"the link to {target}#{anchor} names no heading"


def anchors(page: Path) -> set[str]:
    """Return the anchors that GitHub gives to a page's headings."""
    headings = re.findall(r"^#{1,6} +(.+?) *$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def workers(spread: str, spare: int = 0) -> list[str]:
    """Return the pytest options that spread the tests over the processors.

    By "loadfile" all tests of a file share a worker, and with it the file's server and browser; by "loadgroup" each
    goes where there is room. `spare` workers more than processors use the time in which the others wait for servers
    and browsers to start.
    """
    count = min(TEST_WORKERS_MAX, (os.cpu_count() or 1) + spare)
    return ["-n", str(count), "--dist", spread] if count > 1 else []


def tool(name: str) -> str:
    """Return the path of a program that .venv installed."""
    return str(BIN / name)


def call(command: Sequence[str]) -> int:
    """Run a command to its end and return its status."""
    return subprocess.run(command, cwd=ROOT, check=False).returncode


def become(command: Sequence[str]) -> NoReturn:
    """Become the command: it gets this process's id, terminal and signals, and its status is ours."""
    sys.stdout.flush()
    os.execv(command[0], list(command))


def fail(message: str) -> NoReturn:
    """End with one clear line."""
    sys.exit(f"dev.py: {message}")


TASKS: dict[str, Callable[[Sequence[str]], int]] = {
    task.__name__: task for task in (run, test, lint, fix, bench, docs, ci)
}

if __name__ == "__main__":
    if sys.version_info < PYTHON_VERSION_MIN:
        fail(f"Skyloom needs Python 3.11 or later, and this is {sys.version.split()[0]} ({sys.executable})")
    sys.exit(main(sys.argv[1:]))
