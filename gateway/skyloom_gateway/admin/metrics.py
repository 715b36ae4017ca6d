"""Metrics for Prometheus, read from the node, the gate and the listeners when somebody asks for them.

No metric has a label of a session, user, address or agent: their number stays the same however many clients there are.
"""

from __future__ import annotations

import platform
from collections import Counter
from importlib.metadata import version
from itertools import accumulate
from typing import TYPE_CHECKING, Final

from prometheus_client import CollectorRegistry, GCCollector, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

from skyloom.node.status import node_status
from skyloom_gateway.listener.connections import LIMITS, Connections
from skyloom_gateway.log import lines_lost

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from prometheus_client.metrics_core import Metric

    from skyloom import Node
    from skyloom.node.histogram import Histogram
    from skyloom_gateway.gate import Gate
    from skyloom_gateway.tally import RouteTally

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"

EVENTS_MAX: Final = 200
"""Different events that are shown; services may count some of their own in `node.counters`."""

TRANSPORTS: Final = ("websocket", "tcp")

LIMIT_NAMES: Final = (
    *LIMITS.values(),
    "unsent_messages",
    "unsent_bytes",
    "unsent_bytes_total",
    "stall_seconds",
    "messages_per_second",
    "requests_in_flight",
    "suspended_sessions",
    "suspended_bytes",
)


class Metrics:
    """The page /metrics.

    Args:
        node, gate: whose.
        connections: what the listeners share.
        is_ready: whether the server takes new clients.
    """

    def __init__(self, node: Node, gate: Gate, connections: Connections, is_ready: Callable[[], bool]) -> None:
        self.registry = CollectorRegistry()
        self.registry.register(_Runtime(node))
        self.registry.register(_Gateway(gate, connections, is_ready))
        ProcessCollector(registry=self.registry)
        GCCollector(registry=self.registry)

    def page(self) -> tuple[int, str, bytes]:
        """Status, content type and body, as `Pages.add_dynamic` wants them."""
        return 200, CONTENT_TYPE, generate_latest(self.registry)


class _Runtime(Collector):
    """What the core knows."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._version = version("skyloom")  # which reads a file

    def collect(self) -> Iterator[Metric]:
        node = self._node
        status = node_status(node)
        info = GaugeMetricFamily("skyloom_info", "The version that runs", labels=["version", "python", "node"])
        info.add_metric([self._version, platform.python_version(), node.name], 1)
        yield info
        if node.harbor.connected:
            yield GaugeMetricFamily(
                "skyloom_cluster_nodes", "Other nodes that this one is connected to", value=len(status.nodes)
            )
        classes = status.services
        yield _gauges(
            "skyloom_services", "Services by class", "service", {name: one.services for name, one in classes.items()}
        )
        yield _gauges(
            "skyloom_mailbox_messages",
            "Messages that wait, by the class of their services",
            "service",
            {name: one.mailbox_messages for name, one in classes.items()},
        )
        yield _gauges(
            "skyloom_mailbox_bytes",
            "Bytes that wait, by the class of their services",
            "service",
            {name: one.mailbox_bytes for name, one in classes.items()},
        )
        yield GaugeMetricFamily(
            "skyloom_mailbox_fullest_ratio",
            "How full the fullest mailbox is, of the messages that it takes",
            value=status.fullest_mailbox,
        )
        yield GaugeMetricFamily("skyloom_handlers", "Handlers that are half-run", value=status.handlers)
        yield GaugeMetricFamily("skyloom_calls_waiting", "Calls without an answer yet", value=status.calls)
        yield CounterMetricFamily("skyloom_messages_handled", "Messages that services took", value=status.handled)
        yield _counters(
            "skyloom_dead_letters", "Messages that came to a bad end, by why", "reason", status.dead_letters
        )
        yield _counters(
            "skyloom_events",
            "What happened in the runtime, and what services count in node.counters",
            "event",
            dict(list(status.counters.items())[:EVENTS_MAX]),
        )
        lag = HistogramMetricFamily("skyloom_loop_lag_seconds", "How late the event loop is, asked 20 times a second")
        lag.add_metric([], *_buckets(node.loop_lag))
        yield lag


class _Gateway(Collector):
    """What the gate and the listeners know."""

    def __init__(self, gate: Gate, connections: Connections, is_ready: Callable[[], bool]) -> None:
        self._gate, self._connections, self._is_ready = gate, connections, is_ready

    def collect(self) -> Iterator[Metric]:
        gate, tally = self._gate, self._gate.tally
        yield GaugeMetricFamily("skyloom_ready", "1 while new clients are let in", value=self._is_ready())
        yield _gauges(
            "skyloom_connections",
            "Connections by transport",
            "transport",
            {kind: tally.opened[kind] - tally.left[kind] for kind in TRANSPORTS},
        )
        yield _counters(
            "skyloom_connections_opened",
            "Connections that came, by transport",
            "transport",
            {kind: tally.opened[kind] for kind in TRANSPORTS},
        )
        yield _counters("skyloom_connections_closed", "Connections that ended, by close code", "code", tally.closed)
        away = len(gate.suspended)
        yield _gauges(
            "skyloom_sessions",
            "Sessions that have a connection, and that wait for one",
            "state",
            {"connected": len(gate.sessions) - away, "suspended": away},
        )
        yield CounterMetricFamily("skyloom_sessions_resumed", "Sessions that clients came back to", value=tally.resumed)
        yield _counters("skyloom_sessions_ended", "Sessions that ended, by close code", "code", tally.ended)
        yield _counters("skyloom_logins", "Logins by the error code that the client got", "code", tally.logins)
        yield from self._requests()
        yield GaugeMetricFamily(
            "skyloom_requests_in_flight",
            "Requests that wait for their answers",
            value=sum(seat.session.in_flight for seat in gate.sessions.values()),
        )
        yield _counters("skyloom_notifies", "Notifies by route", "route", tally.notifies)
        yield _counters("skyloom_pushes", "Pushes by route, once for each client", "route", tally.pushes)
        yield from self._bytes()
        yield _counters(
            "skyloom_limit_hits", "How often limits bit, by the names of their settings", "limit", self._limits()
        )
        yield CounterMetricFamily("skyloom_log_lines_lost", "Lines that the log could not take", value=lines_lost())

    def _requests(self) -> Iterator[Metric]:
        tally = self._gate.tally
        routes: dict[str, RouteTally] = {**tally.requests, "other": tally.other}
        requests = CounterMetricFamily(
            "skyloom_requests", "Requests that were answered, by route and error code", labels=["route", "code"]
        )
        seconds = HistogramMetricFamily(
            "skyloom_request_seconds", "From a request's arrival to its answer", labels=["route"]
        )
        for route, one in routes.items():
            for code, count in one.codes.items():
                requests.add_metric([route, code], count)
            seconds.add_metric([route], *_buckets(one.seconds))
        yield requests
        yield seconds

    def _bytes(self) -> Iterator[Metric]:
        connections = self._connections
        traffic = connections.traffic
        yield _counters(
            "skyloom_received_bytes",
            "Bytes from clients, by transport, without TLS",
            "transport",
            {kind: each.received for kind, each in traffic.items()},
        )
        yield _counters(
            "skyloom_sent_bytes",
            "Bytes to clients, by transport, without TLS",
            "transport",
            {kind: each.sent for kind, each in traffic.items()},
        )
        yield GaugeMetricFamily(
            "skyloom_unsent_bytes", "Bytes that wait for clients which do not read", value=connections.backlog.bytes
        )
        yield GaugeMetricFamily(
            "skyloom_kept_bytes", "Bytes kept for clients that are away", value=self._gate.suspended_bytes
        )

    def _limits(self) -> Counter[str]:
        hits = Counter(dict.fromkeys(LIMIT_NAMES, 0))
        hits.update(self._connections.hits)
        hits.update(self._gate.tally.limits)
        refused = crowded = 0
        for seat in self._gate.sessions.values():  # `Session.hits`, without a dict for each
            session = seat.session
            refused += session.refusals_total
            crowded += session.crowded_total
        hits["messages_per_second"] += refused
        hits["requests_in_flight"] += crowded
        return hits


def _gauges(name: str, text: str, label: str, values: Mapping[str, float]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, text, labels=[label])
    for key, value in values.items():
        family.add_metric([key], value)
    return family


def _counters(name: str, text: str, label: str, values: Mapping[str, float]) -> CounterMetricFamily:
    family = CounterMetricFamily(name, text, labels=[label])
    for key, value in values.items():
        family.add_metric([key], value)
    return family


def _buckets(histogram: Histogram) -> tuple[list[tuple[str, float]], float]:
    """What `HistogramMetricFamily.add_metric` wants: counts up to each bound, and the sum."""
    bounds = [*map(str, histogram.bounds), "+Inf"]
    return list(zip(bounds, map(float, accumulate(histogram.counts)), strict=True)), histogram.sum
