"""What a version must pass before anybody is answered by it. Each gate is a function that gives a `GateResult`.

size     the file is no larger than a model of ours can be
schema   it takes the columns that clients send
parity   on the rows of probe.npz it answers what PyTorch answered
latency  it is not much slower than the live version, asked in turn on the same server
error    on the same later trips it is not worse than the live version
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hailtime.errors import DeployError
from hailtime.schema import Schema

N_BLOCKS, BLOCK = 20, 10  # calls of each version in a measurement of latency: 0.5 s in all at 1 ms a call

Ask = Callable[[], Any]


@dataclass(frozen=True)
class Limits:
    """What the gates allow."""

    model_bytes: int = 200_000_000  # a guess: 50 M weights of 4 bytes; the networks here take 1 to 10 MB
    parity_s: float = 0.05  # the same twentieth of a second that export allows between PyTorch and onnxruntime
    # Median of one row a call, as a multiple of the live version's, plus the noise: one model against itself differed
    # by at most 0.15 ms in 12 deployments on two cores with four busy processes (measured)
    latency_ratio: float = 1.5
    latency_slack_ms: float = 0.2
    latency_ms: float = 50.0  # whatever the live version takes: a tenth of the client's usual deadline
    # Seeds of one network differ by 0.05 % of the MAE on the simulated city, by 0.15 % on nyc_ems (docs/benchmarks.md)
    worse_share: float = 0.01


LIMITS = Limits()


@dataclass(frozen=True)
class GateResult:
    """What a gate found: passed when `value` is at most `limit`. `text` says it in words, with the way out."""

    name: str
    passed: bool
    value: float | None
    limit: float | None
    text: str


def require(result: GateResult) -> GateResult:
    """DeployError with the gate's text unless it is passed."""
    if not result.passed:
        raise DeployError(result.text)
    return result


def size_gate(n_bytes: int, limits: Limits) -> GateResult:
    text = f"model.onnx may have {limits.model_bytes:,} bytes, it has {n_bytes:,}"
    return GateResult("size", n_bytes <= limits.model_bytes, n_bytes, limits.model_bytes, text)


def schema_gate(schema: Schema, live: Schema | None) -> GateResult:
    """A new column is a new schema: today's clients do not send it, and a model must not guess what it was not sent."""
    if live is None or schema.fingerprint == live.fingerprint:
        return GateResult("schema", True, None, None, f"the columns of schema {schema.fingerprint}")
    text = (
        f"a new version must have the schema that is served ({live.fingerprint}), this run has {schema.fingerprint} "
        f"({_difference(schema, live)}): clients pack by it, so serve other columns from a repository and a server of "
        "their own and move the clients there"
    )
    return GateResult("schema", False, None, None, text)


def parity_gate(answers: NDArray[np.float32], told: NDArray[np.float32], limits: Limits) -> GateResult:
    """Both (n, 3) seconds: what the served version answers, and what PyTorch did."""
    difference = float(np.abs(answers - told).max())
    text = f"its answers may be {limits.parity_s} s off those in probe.npz, they are {difference:.3f} s off"
    return GateResult("parity", difference <= limits.parity_s, difference, limits.parity_s, text)  # NaN is refused too


def latency_gate(
    ask_candidate: Ask, ask_live: Ask | None, limits: Limits, clock: Callable[[], float] = perf_counter
) -> GateResult:
    """Measured twice at most: a busy moment of the machine refuses nobody."""
    result = _latency_once(ask_candidate, ask_live, limits, clock)
    return result if result.passed else _latency_once(ask_candidate, ask_live, limits, clock)


def error_gate(
    candidate_s: NDArray[np.float32], live_s: NDArray[np.float32], actual_s: NDArray[np.float64], limits: Limits
) -> GateResult:
    """Predictions (n, 3) of both versions for the same trips, and what became of these, (n,)."""
    errors_s = [np.abs(predicted[:, 1].astype(np.float64) - actual_s) for predicted in (candidate_s, live_s)]
    candidate_mae_s, live_mae_s = (float(error.mean()) for error in errors_s)
    spread_s = float((errors_s[0] - errors_s[1]).std()) / np.sqrt(len(actual_s))
    limit_s = live_mae_s * (1 + limits.worse_share)
    text = (
        f"on {len(actual_s):,} later trips its mean error is {candidate_mae_s:.2f} s, the live version's "
        f"{live_mae_s:.2f} s (difference ± {spread_s:.2f} s), allowed is {limit_s:.2f} s"
    )
    return GateResult("error", candidate_mae_s <= limit_s, candidate_mae_s, limit_s, text)


def _latency_once(ask_candidate: Ask, ask_live: Ask | None, limits: Limits, clock: Callable[[], float]) -> GateResult:
    asks = [ask_candidate] if ask_live is None else [ask_candidate, ask_live]
    candidate_ms, *live_ms = _interleaved_ms(asks, clock)
    limit_ms = limits.latency_ms
    if live_ms:
        limit_ms = min(limit_ms, limits.latency_ratio * live_ms[0] + limits.latency_slack_ms)
    beside = f", the live version {live_ms[0]:.2f} ms" if live_ms else ""
    text = f"one row takes it {candidate_ms:.2f} ms{beside}, allowed are {limit_ms:.2f} ms"
    return GateResult("latency", candidate_ms <= limit_ms, round(candidate_ms, 3), round(limit_ms, 3), text)


def _interleaved_ms(asks: Sequence[Ask], clock: Callable[[], float]) -> list[float]:
    """The median time of each call over blocks taken in turn, so that a slow moment hits all alike."""
    medians: list[list[float]] = [[] for _ in asks]
    for turn in range(N_BLOCKS + 1):
        for ask, found in zip(asks, medians, strict=True):
            spent_ms = [_timed_ms(ask, clock) for _ in range(BLOCK)]
            if turn:  # the first block warms up
                found.append(median(spent_ms))
    return [median(found) for found in medians]


def _timed_ms(ask: Ask, clock: Callable[[], float]) -> float:
    start = clock()
    ask()
    return (clock() - start) * 1e3


def _difference(schema: Schema, live: Schema) -> str:
    """`new: rain_mm_h; gone: app; changed: distance_m`."""
    new = [name for name in schema.by_name if name not in live.by_name]
    gone = [name for name in live.by_name if name not in schema.by_name]
    changed = [name for name, column in schema.by_name.items() if live.by_name.get(name, column) != column]
    parts = {"new": new, "gone": gone, "changed": changed}
    told = "; ".join(f"{part}: {', '.join(names)}" for part, names in parts.items() if names)
    return told or "the same columns, with another source, zone, journey, order or format"
