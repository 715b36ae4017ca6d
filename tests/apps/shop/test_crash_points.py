"""Crash points: each has a name of its own and a place in the source, and one that is off does nothing."""

import ast
import subprocess
import sys
from importlib.resources import files

import pytest

from skyloom_shop.crash_points import CRASH_AT, POINTS, armed, reach


def reached_in_source() -> list[str]:
    return [
        ast.literal_eval(node.args[0])
        for file in files("skyloom_shop").iterdir()
        if file.name.endswith(".py")
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "reach"
    ]


def run(code: str, wish: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code]
    return subprocess.run(command, env={CRASH_AT: wish}, capture_output=True, text=True, check=False)


def test_every_point_is_in_the_source() -> None:
    assert set(reached_in_source()) == set(POINTS)
    assert len(POINTS) >= 18


def test_a_point_that_is_armed_calls() -> None:
    seen: list[str] = []
    with armed(seen.append):
        reach("order.before_save")
    reach("order.after_save")
    assert seen == ["order.before_save"]


@pytest.mark.parametrize(("wish", "lines"), [("stock.in_hold", 0), ("stock.in_hold:3", 2)])
def test_the_environment_kills_the_process_at_a_point(wish: str, lines: int) -> None:
    code = "import skyloom_shop.crash_points as c\nfor n in range(9): c.reach('stock.in_hold'); print(n, flush=True)"
    ran = run(code, wish)
    assert ran.returncode == -9
    assert len(ran.stdout.splitlines()) == lines


def test_a_point_that_is_not_there_is_refused() -> None:
    ran = run("import skyloom_shop", "nowhere")
    assert "there is no crash point 'nowhere'" in ran.stderr
