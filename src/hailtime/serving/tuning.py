"""Which serving settings to try, and which to take: pure functions of what was measured.

A trial is one setting under one trace of arrivals. Arrivals come when they come (Poisson), whether or not the server
is done with those before, and a request's latency counts from its arrival.
"""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hailtime.serving.settings import Settings

# How long a request may wait for others in microseconds, and the sizes that need wait no longer
BATCHING: tuple[tuple[int, tuple[int, ...]], ...] = ((500, ()), (1000, (4,)), (2000, (8,)))
HEADROOM = 1.25  # times the rate asked for: what a robust setting carries as well
NEAR = (
    1.1  # p99 that differ by less are the same: one setting measured again differs by that (measured, two busy cores)
)


@dataclass(frozen=True)
class Measured:
    """One trial. `late_p99_ms` is how late the requests were sent: load that the measuring machine could not keep."""

    settings: Settings
    rps: float
    seed: int
    n_due: int
    n_answered: int
    p50_ms: float
    p95_ms: float
    p99_ms: float
    max_ms: float
    late_p99_ms: float

    def meets(self, p99_ms: float) -> bool:
        """Every request was answered, and 99 % of them within the goal."""
        return self.n_answered == self.n_due and self.p99_ms <= p99_ms

    def to_dict(self) -> dict[str, Any]:
        """For JSON, which has no infinity: None where nothing was answered."""
        return {name: None if value == np.inf else value for name, value in asdict(self).items()}


def arrivals(rps: float, seconds: float, seed: int) -> NDArray[np.float64]:
    """When requests are due, seconds from the start: Poisson at this rate, the same for the same seed."""
    rng = np.random.default_rng(seed)
    enough = int(rps * seconds + 10 * np.sqrt(rps * seconds) + 10)
    due_s: NDArray[np.float64] = np.cumsum(rng.exponential(1 / rps, enough))
    return due_s[due_s < seconds]


def measured(
    settings: Settings, rps: float, seed: int, latency_s: NDArray[np.float64], late_s: NDArray[np.float64], n_due: int
) -> Measured:
    """What a trial says: latencies of the answered requests, and how late each was sent."""
    p50, p95, p99, most = np.percentile(latency_s, [50, 95, 99, 100]) * 1e3 if len(latency_s) else np.full(4, np.inf)
    late_ms = float(np.percentile(late_s, 99)) * 1e3 if len(late_s) else np.inf
    figures = [round(float(value), 3) for value in (p50, p95, p99, most, late_ms)]
    return Measured(settings, rps, seed, n_due, len(latency_s), *figures)


def shapes(n_cores: int, base: Settings) -> list[Settings]:
    """Instances and threads in powers of two that the cores can hold, the simplest first."""
    powers = [2**k for k in range(n_cores.bit_length()) if 2**k <= n_cores]
    if base.device == "gpu":
        return [replace(_plain(base), instances=n) for n in powers if n <= 4]
    pairs = sorted(((i, t) for i in powers for t in powers if i * t <= n_cores), key=lambda p: (p[0] * p[1], p[1]))
    return [replace(_plain(base), instances=i, threads=t) for i, t in pairs]


def with_batching(shape: Settings, p99_ms: float) -> list[Settings]:
    """The same with the ways of batching whose wait leaves half of the goal for the work."""
    return [
        replace(shape, max_queue_delay_us=delay_us, preferred_batch_sizes=sizes)
        for delay_us, sizes in BATCHING
        if delay_us <= p99_ms * 1e3 / 2
    ]


def shortlist(trials: Iterable[Measured], p99_ms: float, n: int) -> list[Settings]:
    """Those to look at more closely: the fastest, then the cheapest that meet the goal, then the next fastest."""
    by_speed = sorted(trials, key=_slowness)
    cheapest = sorted((t for t in by_speed if t.meets(p99_ms)), key=lambda t: t.settings.cores)
    return list(dict.fromkeys(trial.settings for trial in (*by_speed[:1], *cheapest, *by_speed)))[:n]


def choose(trials: Sequence[Measured], p99_ms: float, rps: float) -> Settings | None:
    """The setting to take, None when none meets the goal at this rate by its typical trial.

    Of those that do: one that does with more load as well, then one that keeps the fewest cores busy, then the
    fastest; where speeds are near, the one that makes requests wait the least.
    """
    good = [s for s in _settings(trials) if typical(trials, s, rps).meets(p99_ms)]
    robust = [s for s in good if typical(trials, s, rps * HEADROOM).meets(p99_ms)]
    left = robust or good
    left = [s for s in left if s.cores == min(other.cores for other in left)]
    speed_ms = {s: typical(trials, s, rps).p99_ms for s in left}
    near = [s for s in left if speed_ms[s] <= NEAR * min(speed_ms.values())]
    return min(near, key=lambda s: (s.max_queue_delay_us, s.threads, speed_ms[s]), default=None)


def best_effort(trials: Sequence[Measured], rps: float) -> Settings:
    """The one that came nearest: the most answered, then the fastest."""
    return min(_settings(trials), key=lambda s: _slowness(typical(trials, s, rps)))


def typical(trials: Iterable[Measured], settings: Settings, rps: float) -> Measured:
    """Of a setting's trials at this rate the middle one, so that one busy moment of the machine decides nothing."""
    own = sorted((t for t in trials if (t.settings, t.rps) == (settings, rps)), key=_slowness)
    return own[len(own) // 2]  # of two the slower


def _slowness(trial: Measured) -> tuple[int, float]:
    return (trial.n_due - trial.n_answered, trial.p99_ms)


def _settings(trials: Iterable[Measured]) -> list[Settings]:
    return list(dict.fromkeys(trial.settings for trial in trials))


def _plain(base: Settings) -> Settings:
    return replace(base, instances=1, threads=1, max_queue_delay_us=0, preferred_batch_sizes=())
