"""What the monitor knows, for Prometheus: `exposition(store, now_s)` is the text of its /metrics page.

Errors are those of the last complete hour, because an hour that still arrives looks better than it is.
"""

from collections.abc import Iterator
from typing import Any

from hailtime.monitoring.accuracy import measures
from hailtime.monitoring.hours import HOUR_S
from hailtime.monitoring.store import MonitorStore

_OF_HOUR = {  # measure → metric and what it is
    "mae_s": ("hailtime_error_mean_seconds", "Mean absolute error of the last complete hour"),
    "bias_s": ("hailtime_error_bias_seconds", "Mean of predicted minus actual; below 0, drivers come later than said"),
    "p90_error_s": ("hailtime_error_p90_seconds", "Error that nine of ten trips stay below"),
    "coverage": ("hailtime_interval_coverage_ratio", "Share of the trips within P10 to P90; 0.8 when all is well"),
    "above": ("hailtime_late_ratio", "Share of the trips that took longer than P90; 0.1 when all is well"),
    "expected_mae_s": ("hailtime_error_expected_seconds", "Mean absolute error that the model itself expects"),
}


def exposition(store: MonitorStore, now_s: float, label_delay_s: float = 7200.0) -> bytes:
    """Prometheus' text format. ImportError says how to install what it needs."""
    try:
        from prometheus_client import CollectorRegistry, generate_latest
        from prometheus_client.core import GaugeMetricFamily
    except ImportError as error:
        raise ImportError("metrics need prometheus-client: pip install 'hailtime[metrics]'") from error

    class Collector:
        def collect(self) -> Iterator[Any]:
            for (name, help_text), found in _families(store, now_s, label_delay_s):
                family = GaugeMetricFamily(name, help_text, labels=list(found[0][0]))
                for labels, value in found:
                    family.add_metric(list(labels.values()), value)
                yield family

    registry = CollectorRegistry()
    registry.register(Collector())
    return generate_latest(registry)


_Found = list[tuple[dict[str, str], float]]


def _families(store: MonitorStore, now_s: float, label_delay_s: float) -> Iterator[tuple[tuple[str, str], _Found]]:
    read = store.state("read_at_s", None)
    if read is not None:
        yield ("hailtime_monitor_looked_at_seconds", "When the monitor's last pass ended, UTC"), [({}, float(read))]
    trouble = store.state("trouble", None)
    yield ("hailtime_monitor_log_up", "Whether the prediction log can be read"), [({}, float(trouble is None))]
    unmatched = float(store.state("n_unmatched", 0))
    yield ("hailtime_actuals_unmatched", "Actuals of requests that the log never answered"), [({}, unmatched)]
    malformed = float(store.state("n_malformed", 0))
    yield ("hailtime_actuals_malformed", "Actuals that are no time a ride can take, left out"), [({}, malformed)]
    alerts = store.state("alerts", {})
    if alerts:
        firing: _Found = [({"alert": name}, float(state["is_firing"])) for name, state in alerts.items()]
        yield ("hailtime_alert_firing", "1 while one of the monitor's rules fires"), firing
    for name, (value, n, *_) in store.state("measures", {}).items():
        yield (f"hailtime_window_{name}", f"{name} of its rule's window"), [({}, float(value))]
        yield (f"hailtime_window_{name}_rows", f"Rows that {name} stands on"), [({}, float(n))]
    yield from _of_last_complete_hour(store, now_s, label_delay_s)


def _of_last_complete_hour(
    store: MonitorStore, now_s: float, label_delay_s: float
) -> Iterator[tuple[tuple[str, str], _Found]]:
    until_s = (now_s - label_delay_s) // HOUR_S * HOUR_S
    hour = measures(store.sums(since_s=until_s - HOUR_S, until_s=until_s), ["version"], now_s, label_delay_s)
    rows = hour.to_dicts()
    if not rows:
        return
    answered: _Found = [({"version": row["version"]}, float(row["n"])) for row in rows]
    yield ("hailtime_hour_predictions", "Answers in the last complete hour"), answered
    for measure, described in _OF_HOUR.items():
        found: _Found = [({"version": row["version"]}, row[measure]) for row in rows if row[measure] is not None]
        if found:
            yield described, found
