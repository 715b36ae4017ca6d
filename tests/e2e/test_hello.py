"""The README's hello-world app, run as the README says."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from skyloom_gateway.client import connect

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"


async def test_the_hello_world_app_runs_and_answers() -> None:
    server = subprocess.Popen(  # noqa: ASYNC220 - a real server process is the point, and it starts at once
        [sys.executable, "-m", "skyloom_gateway.cli", "gateway", "hello:app", "--port", "0", "--tcp-port", "0"],
        cwd=EXAMPLES,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert server.stdout is not None
        line = server.stdout.readline()
        found = re.search(r"http://(127\.0\.0\.1:\d+) and tcp://(127\.0\.0\.1:\d+)", line)
        assert found is not None, line
        for url in (f"ws://{found[1]}/ws", f"tcp://{found[2]}"):
            async with connect(url, auth={"scheme": "guest", "name": "ada"}) as client:
                answer = await client.request("hello.greet", {"name": "bob"})
            assert answer == {"text": "Hello bob, says ada's agent."}
    finally:
        server.terminate()
        assert server.wait(timeout=20) == 0
        assert server.stdout is not None
        server.stdout.close()
