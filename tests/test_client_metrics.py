"""The client's metrics: what Prometheus reads is what happened."""

import pytest
from prometheus_client import CollectorRegistry

from hailtime.client import EtaClient
from hailtime.client.metrics import ClientMetrics
from hailtime.errors import ServerUnavailable
from tests.small_town import ROW, StandIn


def test_calls_rows_retries_and_errors_are_counted():
    registry = CollectorRegistry()
    down = ServerUnavailable("away")
    server = StandIn(infer_fails=[None, down, None, *[down] * 50])
    client = EtaClient(transport=server, observer=ClientMetrics(registry), answer_by_rule=False, deadline_s=0.2)
    client.predict(ROW)
    client.predict([ROW] * 3)
    with pytest.raises(ServerUnavailable):
        client.predict(ROW)
    client.close()

    def value(name, **labels):
        return registry.get_sample_value(f"hailtime_client_{name}", labels)

    assert value("rows_total", path="triton", version="1") == 4
    assert value("request_duration_seconds_count", path="triton") == 2
    assert value("request_duration_seconds_count", path="none") == 1
    assert value("errors_total", error="ServerUnavailable") == 1
    assert value("retries_total") >= 1
