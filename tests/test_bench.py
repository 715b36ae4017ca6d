"""The benchmarks run; what they measure is not judged here."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from bench.rig.load import framed
from bench.rig.process import raise_file_limit
from bench.rig.report import Row, environment, table

ROOT = Path(__file__).resolve().parents[1]
FIELDS = {"name": str, "loop": str, "per_second": float, "ratio": float, "baseline": str}
ROWS = {
    "core": [
        *("call, one caller", "send", "forward A to B to C", "call across two nodes", "memory of an idle service"),
        *("call through a breaker", "call with retry through a breaker", "call with a pooled connection"),
        *("batched call, 100 callers", "topic, 100 subscribers"),
    ],
    "echo": ["bare websockets echo, json", "gateway echo, json", "gateway echo, msgpack"],
    "fanout": ["fan_out, json, one at a time", "fan_out, json, 16 under way", "fan_out, msgpack, one at a time"],
    "shop": ["bare loop, SQLite", "shop, SQLite", "shop without batching, SQLite", "shop with batching, SQLite"],
    "cluster": ["nats-py request, one at a time", "call, one at a time", "call, 100 under way"],
    "connections": ["bare websockets", "WebSocket, greeted", "WebSocket, in a chat room", "TCP, greeted"],
}


@pytest.mark.ci
@pytest.mark.timeout(120)
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="the benchmarks read memory from Linux' /proc")
@pytest.mark.parametrize("name", sorted(ROWS))
def test_a_benchmark_runs_and_writes_its_rows(name: str, tmp_path: Path) -> None:
    file = tmp_path / "rows.json"
    command = [sys.executable, "-m", f"bench.{name}", "--json", str(file), "--loop", "asyncio", "--scale", "0.01"]
    done = subprocess.run(
        command, cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    rows = json.loads(file.read_text())
    for row in rows:
        for field, kind in FIELDS.items():
            assert type(row[field]) is kind, (field, row)
        assert row["loop"] == "asyncio"
        assert row["per_second"] > 0
        assert row["ratio"] > 0
        assert row["name"] in done.stdout
    assert set(ROWS[name]) <= {row["name"] for row in rows}


def test_the_table_has_a_line_for_each_row() -> None:
    row = Row(name="call", loop="uvloop", per_second=216_000.4, ratio=2.519, baseline="queue", details={"bytes": 461.0})
    head, line = table([row]).splitlines()
    assert head.split() == ["loop", "per", "second", "ratio", "of"]
    assert line.split() == ["call", "uvloop", "216,000", "2.52", "queue", "461", "bytes"]


@pytest.mark.parametrize("size", [0, 125, 126, 65_535])
def test_a_load_generators_frame_is_what_the_gateway_reads(size: int) -> None:
    from skyloom_gateway.listener.frames import client_frame_bytes

    data = bytes(size)
    assert client_frame_bytes(framed(data, "websocket"), 0, 65_536) == len(framed(data, "websocket"))
    assert framed(data, "tcp") == size.to_bytes(2, "big") + data


def test_the_file_limit_is_never_lowered() -> None:
    limit = raise_file_limit(1)
    assert limit > 1
    assert raise_file_limit(1) == limit
