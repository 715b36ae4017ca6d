"""The dashboard asks for metrics and labels that there are."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from skyloom.testing import Sim, simulate
from skyloom_gateway.admin.metrics import Metrics
from skyloom_gateway.listener import Connections
from skyloom_gateway.testing import TestGateway
from tests.gateway.cast import EchoAgent, echo

DASHBOARD = Path(__file__).resolve().parents[2] / "deploy" / "grafana" / "skyloom.json"
METRIC = re.compile(r"\b((?:skyloom|process)_\w+)")
FROM_PROMETHEUS = {"instance"}
HISTOGRAM_SUFFIXES = ("_bucket", "_sum", "_count")
# Made only when there is something to count.
LABELS = {
    "skyloom_connections_closed_total": {"code"},
    "skyloom_sessions_ended_total": {"code"},
    "skyloom_dead_letters_total": {"reason"},
}


def panels() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(DASHBOARD.read_text(encoding="utf-8"))["panels"]
    return [panel for panel in found if panel["type"] != "row"]


def known() -> dict[str, set[str]]:
    """Labels by the names of samples."""
    found = dict(LABELS)

    async def run(sim: Sim) -> None:
        EchoAgent.reset()
        async with TestGateway(sim, echo) as gateway:
            metrics = Metrics(gateway.node, gateway.gate, Connections(10, 10), lambda: True)
            for family in metrics.registry.collect():
                for sample in family.samples:
                    found.setdefault(sample.name, set()).update(sample.labels)

    simulate(run, seeds=[0], twice=False)
    return found


def test_every_query_is_of_metrics_and_labels_that_there_are() -> None:
    labels = known()
    queries = [target for panel in panels() for target in panel["targets"]]
    assert len(queries) > 20
    for query in queries:
        expression = query["expr"]
        names = METRIC.findall(expression)
        assert names, expression
        there: set[str] = set()
        for name in names:
            assert name in labels, name
            there |= labels[name]
        used = {word for group in re.findall(r"by \(([^)]*)\)", expression) for word in re.split(r",\s*", group)}
        used |= set(re.findall(r"[{,](\w+)[=!]", expression)) | set(re.findall(r"{{(\w+)}}", query["legendFormat"]))
        assert used <= there | FROM_PROMETHEUS, (expression, used - there)
        assert expression.count("(") == expression.count(")")
        if any(name.endswith("_total") or name.endswith(HISTOGRAM_SUFFIXES) for name in names):
            assert "rate(" in expression


def test_panels_lie_side_by_side_and_have_words() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in panels():
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken, panel["title"]
        assert at["x"] + at["w"] <= 24
        taken |= cells
        assert panel["title"]
        assert panel["description"].endswith(".")
    ids = [panel["id"] for panel in panels()]
    assert len(ids) == len(set(ids))
