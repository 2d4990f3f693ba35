"""Writes a month of for-hire trips that never were, as published: python scripts/tlc_file.py AGGREGATES OUT

As large as a real month (July 2026: 20,921,249 rows), for benchmarks and for tests of what that does to memory.
AGGREGATES is the folder of the published figures and zone tables; nothing of it is in this project. Out of them come:

- hvfhv_2026-07_population_stats.json: waits by company, trips by hour, and how many rows have which fault
- hvfhv_2026-07_late_share_by_borough_hour.csv: trips and the share later than ten minutes by borough and hour
- hvfhv_2020-04-30_10k.parquet: how the trips of a borough fall on its zones

What no figure says is a guess, and marked as one. In July 2026 both companies report `on_scene_datetime` and no row is
there twice; `lyft_on_scene=False` writes what Lyft did in 2020 and 2023, `duplicate_share` repeats rows.
"""

import argparse
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow.parquet as pq

from hailtime.errors import DataError
from hailtime.report import run_script
from hailtime.sources.nyc_hvfhv import LOOKUP, SLOT_US, UNKNOWN_ZONE

STATS, LATE, SAMPLE = (
    "hvfhv_2026-07_population_stats.json",
    "hvfhv_2026-07_late_share_by_borough_hour.csv",
    "hvfhv_2020-04-30_10k.parquet",
)
COMPANIES = {"HV0003": ("HV0003_Uber", "Uber"), "HV0005": ("HV0005_Lyft", "Lyft")}
GROUP_ROWS = 1_000_000
MONTH, DAYS = np.datetime64("2026-07-01T00:00:00", "us"), 31
LATE_S, SLOT_S = 600, SLOT_US // 1_000_000
OUTSIDE_SHARE = 0.021  # of the drop-offs: 209 of the 10,000 of the sample
LAST = 1 - 1e-8  # the share whose logarithm still exists
DISORDER_S = 900  # a guess: rows are roughly in the order of their pickups

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class Figures:
    """What the aggregates say, as tables to draw from.

    - companies: share of the rows of each; faults: share of the rows with each
    - waits, dwells: by company, the points of a distribution for `_at`
    - hours: share of the pickups in each hour of the day
    - zones: LocationID of each place in `zone_steps` (24, n_zones), the steps of a zone's share within its hour
    - late: (24, n_zones) share of the waits over ten minutes, 1 where it is as everywhere
    """

    companies: dict[str, float]
    waits: dict[str, tuple[Array, Array]]
    dwells: dict[str, tuple[Array, Array]]
    hours: Array
    zones: Array
    zone_steps: Array
    late: Array
    faults: dict[str, float]


def read_figures(folder: Path) -> Figures:
    """DataError when the folder lacks a file."""
    for name in (STATS, LATE, SAMPLE, LOOKUP):
        if not (folder / name).is_file():
            raise DataError(f"the folder of published figures must hold {name}, {folder} does not")
    stats = json.loads((folder / STATS).read_text())
    faults = {name: n / stats["data_faults"]["rows"] for name, n in stats["data_faults"].items()}
    published = stats["wait_min_pickup_minus_request"]
    n_trips = {code: published[long]["n"] for code, (long, _) in COMPANIES.items()}
    hours = np.array([stats["hour_of_pickup_n"][str(hour)] for hour in range(24)], dtype=float)
    zones, zone_steps, late = _zones(folder)
    dwells = stats["dwell_min_pickup_minus_on_scene"]
    return Figures(
        companies={code: n / sum(n_trips.values()) for code, n in n_trips.items()},
        waits={code: _waits(published[long], faults) for code, (long, _) in COMPANIES.items()},
        dwells={code: _steps(dwells[short], {0.0: 0.0, LAST: 20.0}) for code, (_, short) in COMPANIES.items()},
        hours=hours / hours.sum(),
        zones=zones,
        zone_steps=zone_steps,
        late=late,
        faults=faults,
    )


def write(
    folder: Path, path: Path, n_rows: int, seed: int = 7, lyft_on_scene: bool = True, duplicate_share: float = 0.0
) -> None:
    """The file, in row groups of a million: no more is in memory."""
    figures, generator = read_figures(folder), np.random.default_rng(seed)
    writer = None
    for first in range(0, n_rows, GROUP_ROWS):
        n_group = min(GROUP_ROWS, n_rows - first)
        table = trips(figures, generator, n_group, (first / n_rows, (first + n_group) / n_rows), lyft_on_scene)
        if duplicate_share:
            again = np.flatnonzero(generator.random(n_group) < duplicate_share)
            table = pl.concat([table, table[again]])
        arrow = table.to_arrow(compat_level=pl.CompatLevel.oldest())
        writer = writer or pq.ParquetWriter(path, arrow.schema)
        writer.write_table(arrow, row_group_size=GROUP_ROWS)
    assert writer is not None
    writer.close()


def trips(
    figures: Figures, generator: np.random.Generator, n: int, part: tuple[float, float], lyft_on_scene: bool
) -> pl.DataFrame:
    """Some rows of the part of the month that lies between two shares of its trips."""
    codes = list(figures.companies)
    company = (generator.random(n) >= figures.companies[codes[0]]).astype(np.int64)
    pickup = _pickups(figures, generator, n, part)
    hour = pickup // 3600 % 24
    zone = _draw_zones(figures, generator, hour)
    wait = np.empty(n, dtype=np.int64)
    dwell = np.empty(n, dtype=np.int64)
    for index, code in enumerate(codes):
        own = np.flatnonzero(company == index)
        shares = _late_as_told(generator.random(len(own)), figures.late[hour[own], zone[own]], figures.waits[code])
        wait[own] = _at(shares, figures.waits[code])
        dwell[own] = _at(generator.random(len(own)), figures.dwells[code])
    request, on_scene, pickup = _times(figures, generator, pickup, wait, dwell)
    dropoff_zone = np.where(generator.random(n) < 0.6, zone, generator.permutation(zone))  # 60 %: a guess
    drive = np.rint(np.exp(generator.normal(np.log(900), 0.6, n))).astype(np.int64) + 60  # median 16 minutes: a guess
    return _published(figures, generator, codes, company, lyft_on_scene, {
        "request_datetime": request,
        "on_scene_datetime": on_scene,
        "pickup_datetime": pickup,
        "dropoff_datetime": pickup + drive,
        "PULocationID": _some(generator, n, figures.faults["unknown_pickup_zone_265"], 265, figures.zones[zone]),
        "DOLocationID": _some(generator, n, OUTSIDE_SHARE, 265, figures.zones[dropoff_zone]),
    })  # fmt: skip


def _steps(published_min: Mapping[str, float], further_min: Mapping[float, float]) -> tuple[Array, Array]:
    """Logarithms of the shares left and seconds, of a published distribution ("p99_9": 30.3 minutes) and more."""
    known = {float(name[1:].replace("_", ".")) / 100: m for name, m in published_min.items() if name != "n"}
    knots = sorted({**known, **further_min}.items())
    return -np.log1p(-np.array([share for share, _ in knots])), np.array([minutes * 60 for _, minutes in knots])


def _at(shares: Array, steps: tuple[Array, Array]) -> Array:
    """Seconds at shares of a distribution. What is left falls evenly in its logarithm between two published points."""
    return np.rint(np.interp(-np.log1p(-shares), *steps)).astype(np.int64)


def _waits(published_min: Mapping[str, float], faults: Mapping[str, float]) -> tuple[Array, Array]:
    """The waits, with the shares below 0 and beyond three hours as they were counted; half an hour early: a guess."""
    negative = faults["negative_wait_and_on_scene_before_request(pre-arranged)"] + faults["pickup_before_request_only"]
    return _steps(published_min, {0.0: -30.0, negative: -1 / 120, 1 - faults["wait_gt_180min"]: 180, LAST: 240.0})


def _zones(folder: Path) -> tuple[Array, Array, Array]:
    """Zones, the steps of their shares within each hour, and how many waits are over ten minutes, 1 on average."""
    lookup = pl.read_csv(folder / LOOKUP).filter(pl.col("LocationID") < UNKNOWN_ZONE)
    seen = pl.read_parquet(folder / SAMPLE).group_by(pl.col("PULocationID").alias("LocationID")).len()
    # half a trip more each: a zone that 10,000 trips do not meet is rare, not impossible
    zones = lookup.join(seen, on="LocationID", how="left").with_columns(pl.col("len").fill_null(0) + 0.5)
    zones = zones.with_columns(pl.col("len") / pl.col("len").sum().over("Borough"))
    late = pl.read_csv(folder / LATE)
    cells = late.join(zones, left_on="borough", right_on="Borough").with_columns(pl.col("n_trips") * pl.col("len"))
    wide = cells.sort("hour_of_request", "LocationID")
    n_zones = wide["LocationID"].n_unique()
    trips_HZ = wide["n_trips"].to_numpy().reshape(24, n_zones)
    late_HZ = wide["share_wait_gt_10min"].to_numpy().reshape(24, n_zones)
    late_HZ = late_HZ * trips_HZ.sum() / (trips_HZ * late_HZ).sum()
    steps_HZ = np.cumsum(trips_HZ / trips_HZ.sum(axis=1, keepdims=True), axis=1)
    return wide["LocationID"][:n_zones].to_numpy(), steps_HZ, late_HZ


def _pickups(figures: Figures, generator: np.random.Generator, n: int, part: tuple[float, float]) -> Array:
    """Seconds into the month, roughly in order; all days are alike."""
    steps = np.concatenate([[0.0], np.cumsum(np.tile(figures.hours, DAYS) / DAYS)])
    at = np.interp(generator.uniform(*part, n), steps, np.arange(len(steps)) * 3600.0)
    order = np.argsort(at + generator.normal(0, DISORDER_S, n))
    return np.asarray(at[order], dtype=np.int64)


def _draw_zones(figures: Figures, generator: np.random.Generator, hour: Array) -> Array:
    """A zone for each hour: one search over the steps of all hours behind each other."""
    n_zones = len(figures.zones)
    steps = (figures.zone_steps + np.arange(24)[:, None]).ravel()
    found = np.searchsorted(steps, hour + generator.random(len(hour))) - hour * n_zones
    return np.asarray(np.minimum(found, n_zones - 1))  # a sum of shares may end a hair below 1


def _late_as_told(shares: Array, late: Array, waits: tuple[Array, Array]) -> Array:
    """Shares of the company's waits, moved so that a place and hour is late as much more often as it was counted."""
    on_time = 1 - float(np.exp(-np.interp(LATE_S, waits[1], waits[0])))
    is_early = 1 - late * (1 - on_time)  # the share that is
    moved: Array = np.where(shares < is_early, shares / is_early * on_time, 1 - (1 - shares) / late)
    return moved


def _times(
    figures: Figures, generator: np.random.Generator, pickup: Array, wait: Array, dwell: Array
) -> tuple[Array, Array, Array]:
    """Request, arrival and pickup with their faults. Trips booked ahead were asked for at a full five minutes."""
    faults, n = figures.faults, len(pickup)
    request, on_scene = pickup - wait, pickup - np.clip(dwell, 1, np.maximum(wait - 1, 1))
    negative = faults["negative_wait_and_on_scene_before_request(pre-arranged)"]
    there_before = faults["on_scene_before_request"] - negative
    draw = generator.random(n)
    is_booked = (wait >= 0) & (draw < there_before)
    is_same = (wait >= 0) & ~is_booked & (draw > 1 - faults["on_scene_equals_or_after_pickup"])
    on_scene = np.where(is_booked, request - generator.integers(1, 600, n), on_scene)  # up to ten minutes: a guess
    # 80 % the same, the others up to five minutes after: a guess
    after = generator.integers(1, 300, n) * (generator.random(n) < 0.2)
    on_scene = np.where(is_same, pickup + after, on_scene)
    only_pickup = faults["pickup_before_request_only"] / (negative + faults["pickup_before_request_only"])
    is_only_pickup = (wait < 0) & (draw < only_pickup)
    on_scene = np.where(wait < 0, np.where(is_only_pickup, request + after, pickup - dwell), on_scene)
    moved = np.where(is_booked | (wait < 0), (request + SLOT_S // 2) // SLOT_S * SLOT_S - request, 0)
    return request + moved, on_scene + moved, pickup + moved


def _some(generator: np.random.Generator, n: int, share: float, value: Any, others: Array) -> Array:
    return np.where(generator.random(n) < share, value, others)


def _published(
    figures: Figures,
    generator: np.random.Generator,
    codes: list[str],
    company: Array,
    lyft_on_scene: bool,
    drawn: Mapping[str, Array],
) -> pl.DataFrame:
    """All published columns in their order. Miles, fares and flags are guesses: no model may see them."""
    n, faults = len(company), figures.faults
    drive = drawn["dropoff_datetime"] - drawn["pickup_datetime"]
    gap = _some(generator, n, faults["trip_time_vs_timestamps_gap_gt_120s"], 300, np.zeros(n, dtype=np.int64))
    miles = np.round(drive / 3600 * generator.uniform(8, 20, n), 2)
    fare = np.round(2.5 + drive / 60 * 0.6 + miles * 1.5, 2)
    flag = pl.Series(["N", "Y"])
    bases = pl.Series(["B03404", "B03406"]).gather(company)
    columns: dict[str, Any] = {
        "hvfhs_license_num": pl.Series(codes).gather(company),
        "dispatching_base_num": bases,
        "originating_base_num": bases.set(pl.Series(company == 1), None),
        **{name: pl.Series(MONTH + at.astype("timedelta64[s]"))
           for name, at in drawn.items() if name.endswith("datetime")},
        **{name: pl.Series(drawn[name], dtype=pl.Int32) for name in ("PULocationID", "DOLocationID")},
        "trip_miles": _some(generator, n, faults["zero_miles_over_60s"], 0.0, miles),
        "trip_time": drive + gap,
        "base_passenger_fare": np.where(generator.random(n) < faults["negative_fare_or_pay"], -fare, fare),
        "tolls": _some(generator, n, 0.07, 6.94, np.zeros(n)),
        "bcf": np.round(fare * 0.025, 2),
        "sales_tax": np.round(fare * 0.08875, 2),
        "congestion_surcharge": _some(generator, n, 0.4, 2.75, np.zeros(n)),
        "airport_fee": _some(generator, n, 0.08, 2.5, np.zeros(n)),
        "tips": np.round(fare * 0.15 * (generator.random(n) < 0.2), 2),
        "driver_pay": np.round(fare * 0.8, 2),
        "shared_request_flag": flag.gather((generator.random(n) < 0.02).astype(np.int64)),
        "shared_match_flag": flag.gather((generator.random(n) < 0.01).astype(np.int64)),
        "access_a_ride_flag": pl.Series([" ", "N"]).gather(company),
        "wav_request_flag": flag.gather((generator.random(n) < 0.003).astype(np.int64)),
        "wav_match_flag": flag.gather((generator.random(n) < 0.06).astype(np.int64)),
        "cbd_congestion_fee": _some(generator, n, 0.3, 1.5, np.zeros(n)),
    }  # fmt: skip
    if not lyft_on_scene:
        columns["on_scene_datetime"] = columns["on_scene_datetime"].set(pl.Series(company == 1), None)
    return pl.DataFrame(columns)


def main() -> None:
    parser = argparse.ArgumentParser(description="Write a month of for-hire trips that never were.")
    parser.add_argument("aggregates", type=Path, help="the folder of the published figures")
    parser.add_argument("out", type=Path, help="the Parquet file")
    parser.add_argument("--rows", type=int, default=20_921_249, help="July 2026 had 20,921,249")
    parser.add_argument("--seed", type=int, default=7)
    arguments = parser.parse_args()
    write(arguments.aggregates, arguments.out, arguments.rows, arguments.seed)


if __name__ == "__main__":
    run_script(main)
