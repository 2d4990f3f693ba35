"""Made data for the monitor's benchmarks: a log of many answers, and columns to look for drift in."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from hailtime.client.log_tables import INSERT, INSERT_ACTUAL, LogFile
from hailtime.schema import Schema

START_S = 1_768_176_000
A_SECOND = 116  # answers: ten million in a day
AT_ONCE = 200_000
ZONES = [f"zone {number}" for number in range(60)]
N_NUMERIC, N_TEXTS = 15, 5
DRIFT_SCHEMA = Schema.from_dict(
    {
        "source": "benchmark",
        "timezone": "UTC",
        "columns": {
            "request_id": {"role": "id"},
            "requested_at": {"role": "requested_at"},
            **{f"number_{i}": {"role": "numeric", "unit": "1"} for i in range(N_NUMERIC)},
            **{f"text_{i}": {"role": "categorical"} for i in range(N_TEXTS)},
            "pickup_time_s": {"role": "target", "unit": "s"},
        },
    }
)
LOG_SCHEMA = Schema.from_dict(
    {
        "source": "benchmark",
        "timezone": "UTC",
        "zone": "pickup_zone",
        "columns": {
            "request_id": {"role": "id"},
            "requested_at": {"role": "requested_at"},
            "rain_mm_h": {"role": "numeric", "unit": "mm/h"},
            "pickup_zone": {"role": "categorical"},
            "pickup_time_s": {"role": "target", "unit": "s"},
        },
    }
)


def write_log(path: Path, n_rows: int) -> None:
    """Answers with a zone and the rain, nine of ten arrived."""
    connection = LogFile(path, 5.0).connection()
    rng = np.random.default_rng(1)
    for first in range(0, n_rows, AT_ONCE):
        answers, ends = _some(rng, first, min(AT_ONCE, n_rows - first))
        connection.execute("BEGIN")
        connection.executemany(INSERT["predictions"], answers)
        connection.executemany(INSERT_ACTUAL, ends)
        connection.execute("COMMIT")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()


def _some(rng: np.random.Generator, first: int, n: int) -> tuple[Iterator[Any], list[Any]]:
    p50, taken = rng.gamma(3, 100, n), rng.lognormal(0, 0.35, n)
    zones, rain = rng.integers(0, len(ZONES), n).tolist(), np.round(rng.exponential(0.2, n), 1).tolist()
    ids, at_s = [f"r{first + i:09d}" for i in range(n)], [START_S + (first + i) // A_SECOND for i in range(n)]
    kept = [f'{{"rain_mm_h": {mm}, "pickup_zone": "{ZONES[zone]}"}}' for mm, zone in zip(rain, zones, strict=True)]
    said = zip((p50 * 0.6).tolist(), p50.tolist(), (p50 * 1.6).tolist(), strict=True)
    answers = (
        (name, at * 1_000_000, at, "1", "triton", *quantiles, 0.001, text)
        for name, at, quantiles, text in zip(ids, at_s, said, kept, strict=True)
    )
    actual = (p50 * taken).tolist()
    arrived = (rng.random(n) < 0.9).tolist()
    ends = [
        (name, seconds, None, int((at + seconds) * 1e6))
        for name, at, seconds, is_there in zip(ids, at_s, actual, arrived, strict=True)
        if is_there
    ]
    return answers, ends


def drift_frame(n: int, seed: int) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    numbers = {f"number_{i}": rng.gamma(1 + i, 1.0, n) for i in range(N_NUMERIC)}
    texts = {f"text_{i}": rng.choice(ZONES[: 3 + 4 * i], n) for i in range(N_TEXTS)}
    return pl.DataFrame({**numbers, **texts, "pickup_time_s": rng.gamma(3, 100, n)})
