"""A schema of four inputs, a row of it and a stand-in for the server that serves it: for the tests of the client."""

import json
from zoneinfo import ZoneInfo

import numpy as np

from hailtime.client.transport import ModelConfig
from hailtime.errors import PredictionError
from hailtime.schema import Schema

SCHEMA = Schema.from_dict(
    {
        "source": "small_town",
        "timezone": "Europe/Berlin",
        "columns": {
            "request_id": {"role": "id"},
            "requested_at": {"role": "requested_at"},
            "pickup_lat": {"role": "numeric", "unit": "deg", "range": [43.4, 43.8], "out_of_range": "reject"},
            "speed_mps": {"role": "numeric", "unit": "m/s", "range": [0, 45]},
            "product": {"role": "categorical"},
            "pickup_time_s": {"role": "target", "unit": "s"},
        },
    }
)
NOON_S = 1_768_219_200  # date -u -d 2026-01-12T12:00:00Z +%s
NEW_YORK = ZoneInfo("America/New_York")  # five hours behind in January
ROW = {"requested_at": NOON_S, "pickup_lat": 43.6, "speed_mps": 8.5, "product": "xl"}


def model_config(schema=SCHEMA, stable=1, max_batch_size=4096):
    rollout = {"stable": stable, "canary": None, "canary_percent": 0, "shadow": None}
    return ModelConfig(max_batch_size, {"schema": schema.to_json(), "rollout": json.dumps(rollout)})


class StandIn:
    """A transport that answers 100 s for each version number plus the row's numbers, x 0.5, 1, 2, and keeps the calls.

    `fails` are errors to raise, one a call, None for a good one; `takes_s` moves the clock it was given.
    """

    def __init__(self, config=None, config_fails=(), infer_fails=(), takes_s=0.0, clock=None):
        self.served = config or model_config()
        self.config_fails, self.infer_fails = list(config_fails), list(infer_fails)
        self.takes_s, self.clock = takes_s, clock
        self.config_calls, self.infer_calls, self.is_closed = [], [], False

    def config(self, timeout_s):
        self.config_calls.append(timeout_s)
        self._pass_time_and_fail(self.config_fails)
        return self.served

    def infer(self, version, numeric, categorical, requested_at, timeout_s):
        self.infer_calls.append((version, len(numeric), timeout_s))
        self._pass_time_and_fail(self.infer_fails)
        median_s = 100.0 * version + np.nan_to_num(numeric).sum(axis=1, keepdims=True)
        return (median_s * [0.5, 1.0, 2.0]).astype(np.float32)

    def close(self):
        self.is_closed = True

    def _pass_time_and_fail(self, fails: list[PredictionError | None]):
        if self.clock:
            self.clock.now += self.takes_s
        if fails and (error := fails.pop(0)):
            raise error


class Clock:
    now = 1000.0

    def __call__(self):
        return self.now
