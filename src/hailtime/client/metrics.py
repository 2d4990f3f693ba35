"""A backend's own metrics for Prometheus: `EtaClient(..., observer=ClientMetrics())`, then its usual /metrics page.

Needs prometheus-client: pip install 'hailtime[metrics]'.
"""

from typing import TYPE_CHECKING

from hailtime.client.observing import Call

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

# half a millisecond to a second: around the 50 ms that a backend usually allows
BUCKETS_S = (0.0005, 0.001, 0.002, 0.003, 0.005, 0.01, 0.02, 0.03, 0.05, 0.1, 0.2, 0.5, 1.0)


class ClientMetrics:
    """An observer that counts calls by path and version, their time, retries and errors. One serves many clients."""

    def __init__(self, registry: "CollectorRegistry | None" = None) -> None:
        try:
            from prometheus_client import REGISTRY, Counter, Histogram
        except ImportError as error:
            raise ImportError("ClientMetrics needs prometheus-client: pip install 'hailtime[metrics]'") from error
        into = REGISTRY if registry is None else registry
        self._time = Histogram(
            "hailtime_client_request_duration_seconds",
            "Time of a predict call, by who answered",
            ["path"],
            buckets=BUCKETS_S,
            registry=into,
        )
        self._rows = Counter("hailtime_client_rows", "Rows answered", ["path", "version"], registry=into)
        self._retries = Counter("hailtime_client_retries", "Tries after the first", registry=into)
        self._errors = Counter("hailtime_client_errors", "Calls without an answer", ["error"], registry=into)

    def __call__(self, call: Call) -> None:
        self._time.labels(call.path or "none").observe(call.latency_s)
        if call.n_retries:
            self._retries.inc(call.n_retries)
        if call.path is None:
            self._errors.labels(call.error or "unknown").inc()
        else:
            self._rows.labels(call.path, call.version).inc(call.n_rows)
