"""The house rules that no linter knows, as tests."""

import ast
import importlib
import inspect
import io
import re
import subprocess
import tokenize
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FILE_LINES_MAX = 500
FUNCTION_LINES_MAX = 80
# Names that say nothing, so that everything ends up in them.
VAGUE_MODULES = {"base", "common", "helper", "helpers", "manager", "misc", "util", "utils"}
# Names of one person's machine, or of one package index.
MACHINE_PATH = re.compile(r"(?<![\w.:}-])/(?:home|root|work|Users|opt/pypi)/\w")
INDEX_HOST = re.compile(r"pypi[.]org/simple|pythonhosted[.]org|registry[.]npmjs|--(?:extra-)?index-url|/simple/")
EXCEPTION = re.compile(r"#\s*(?:noqa|type:\s*ignore|pragma:\s*no cover)")
# The codes in the form the tool wants, then - or another # and the reason; a pragma has no code.
REASONED = re.compile(
    r"#\s*(?:noqa: [A-Z]+\d+(?:, ?[A-Z]+\d+)*|type: ignore\[[\w, -]+\]|pragma: no cover)\s+(?:#|--?)\s*\w+"
)


@cache
def files(*endings: str) -> tuple[Path, ...]:
    """Return the repository's files with these endings: tracked, or new and not ignored."""
    listing = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listing, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0")
    paths = [ROOT / name for name in names if name and (ROOT / name).is_file()]
    return tuple(path for path in paths if not endings or path.suffix in endings)


def modules() -> Iterator[tuple[Path, ast.Module]]:
    for path in files(".py"):
        yield path, ast.parse(path.read_text(encoding="utf-8"))


def comments(path: Path) -> Iterator[tuple[int, str]]:
    for token in tokenize.generate_tokens(io.StringIO(path.read_text(encoding="utf-8")).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string


def at(path: Path, line: int, fault: str) -> str:
    return f"{path.relative_to(ROOT)}:{line}: {fault}"


def none(faults: Iterator[str]) -> None:
    found = list(faults)
    assert not found, "\n" + "\n".join(found)


def long_files() -> Iterator[str]:
    for path in files(".py", ".js"):
        lines = path.read_text(encoding="utf-8").count("\n")
        if lines >= FILE_LINES_MAX:
            yield at(path, lines, f"has {lines} lines; split it where its description needs an 'and'")


def long_functions() -> Iterator[str]:
    for path, module in modules():
        for node in ast.walk(module):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or node.lineno) - node.lineno + 1
                if lines > FUNCTION_LINES_MAX:
                    yield at(path, node.lineno, f"{node.name} has {lines} lines; name its parts")


def vague_names() -> Iterator[str]:
    for path in files(".py", ".js"):
        for name in (path.stem.strip("_"), path.parent.name):
            if name in VAGUE_MODULES:
                yield at(path, 1, f"is called {name}; call it what it is")


def machine_names() -> Iterator[str]:
    for path in files():
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue  # an image or the like
        for number, line in enumerate(text.splitlines(), 1):
            for pattern in (MACHINE_PATH, INDEX_HOST):
                if path != Path(__file__) and (found := pattern.search(line)):
                    yield at(path, number, f"names {found[0]}, which is not everybody's")


def bare_exceptions() -> Iterator[str]:
    for path in files(".py"):
        for line, comment in comments(path):
            if EXCEPTION.search(comment) and not REASONED.search(comment):
                yield at(path, line, f"{comment!r} needs its code and, after another # or a -, its reason")


def swallowed_cancellations() -> Iterator[str]:
    # Ruff bans this in the packages only: tests may use the rest of its banned list, and that is one rule.
    for path, module in modules():
        for node in ast.walk(module):
            if isinstance(node, ast.Attribute) and node.attr == "wait_for" and ast.unparse(node) == "asyncio.wait_for":
                yield at(path, node.lineno, "wait_for swallows cancellations on 3.11; use asyncio.timeout")


def untyped_packages() -> Iterator[str]:
    for pattern in ("core/skyloom*", "gateway/skyloom*", "apps/*/skyloom*"):
        packages = [path for path in ROOT.glob(pattern) if path.is_dir()]
        assert packages, f"{pattern} matches nothing"
        for package in packages:
            if not (package / "py.typed").is_file():
                yield at(package, 1, "has no py.typed, so its users' type checkers ignore its types")


def old_test_packages() -> Iterator[str]:
    for path in files(".py"):
        if path.name == "__init__.py" and path.is_relative_to(ROOT / "tests"):
            yield at(path, 1, "tests are found by their path (pytest's importlib mode): delete this file")


RULES = [
    long_files,
    long_functions,
    vague_names,
    machine_names,
    bare_exceptions,
    swallowed_cancellations,
    untyped_packages,
    old_test_packages,
]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_no(rule: Callable[[], Iterator[str]]) -> None:
    none(rule())


@pytest.mark.parametrize("name", ["skyloom", "skyloom_gateway"])
def test_a_package_exports_what_it_says(name: str) -> None:
    package = importlib.import_module(name)
    public = {
        key
        for key, value in vars(package).items()
        if not key.startswith("_") and not inspect.ismodule(value) and key != "annotations"
    }
    assert public == set(package.__all__)
    assert len(package.__all__) == len(set(package.__all__))
