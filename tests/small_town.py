"""A schema of four inputs, a row of it and a stand-in for the server that serves it: for the tests of the client."""

import asyncio
import json
from zoneinfo import ZoneInfo

import numpy as np

from hailtime.client.messages import ModelConfig
from hailtime.errors import PredictionError
from hailtime.rule import FallbackRule
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
LONG_S = (
    20.0  # nobody waits so long in a test that passes; a collection of the tests' 800,000 objects takes half a second
)
NOON_S = 1_768_219_200  # date -u -d 2026-01-12T12:00:00Z +%s
NEW_YORK = ZoneInfo("America/New_York")  # five hours behind in January
ROW = {"requested_at": NOON_S, "pickup_lat": 43.6, "speed_mps": 8.5, "product": "xl"}


RULE = FallbackRule(lines={}, otherwise=(300.0, 0.0), middle_s=300.0, spread=(0.5, 2.0))


def model_config(schema=SCHEMA, stable=1, max_batch_size=4096, rule=None, **rollout):
    plan = {"stable": stable, "canary": None, "canary_percent": 0, "shadow": None, **rollout}
    parameters = {"schema": schema.to_json(), "rollout": json.dumps(plan), "rule": rule.to_json() if rule else ""}
    return ModelConfig(max_batch_size, parameters)


class StandIn:
    """A transport that answers 100 s for each version number plus the row's numbers, x 0.5, 1, 2, and keeps the calls.

    `fails` are errors to raise, one a call, None for a good one; `takes_s` moves the clock it was given. `broken` are
    versions that answer NaN.
    """

    def __init__(self, config=None, config_fails=(), infer_fails=(), takes_s=0.0, clock=None, broken=()):
        self.served, self.broken = config or model_config(), set(broken)
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
        if version in self.broken:
            return np.full((len(numeric), 3), np.nan, np.float32)
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


class AsyncStandIn:
    """A stand-in for `AsyncEtaClient`: each call gives the loop a turn, so that others come in between."""

    def __init__(self, *args, **kwargs):
        self.inner = StandIn(*args, **kwargs)

    def __getattr__(self, name):
        return getattr(self.inner, name)

    async def config(self, timeout_s):
        await asyncio.sleep(0)
        return self.inner.config(timeout_s)

    async def infer(self, *arguments):
        await asyncio.sleep(0)
        return self.inner.infer(*arguments)

    async def close(self):
        self.inner.close()
