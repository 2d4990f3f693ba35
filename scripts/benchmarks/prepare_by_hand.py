"""The benchmark's job as somebody would write it for this one table: no schema, no declared rules, no report page.

Both give the same rows as Hailtime, and how many rows each rule caught.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl

HOUR_US = 3600 * 1_000_000
FRESH_H = {"weather": 3, "incidents": 12}
SHARES = (0.70, 0.78, 0.85)
PARTS = ("train", "validation", "calibration", "test")
GAP_US = 7200 * 1_000_000
RANGES = {  # missing outside
    "driver_lat": (43.30, 43.90),
    "driver_lon": (-71.35, -70.50),
    "driver_speed_mps": (0, 45),
    "driver_heading_deg": (0, 360),
    "driver_busy_s": (0, 1800),
    "idle_drivers": (0, 500),
    "open_requests": (0, 500),
}
FIRST_US, LAST_US = 946_684_800_000_000, 4_102_444_800_000_000  # 2000 and 2100
# fmt: off
COLUMNS = [
    "request_id", "requested_at", "pickup_lat", "pickup_lon", "driver_lat", "driver_lon", "driver_speed_mps",
    "driver_heading_deg", "driver_busy_s", "idle_drivers", "open_requests", "rain_mm_h", "temperature_c",
    "incidents_active", "pickup_zone", "pickup_area", "product", "pickup_place", "app", "pickup_time_s",
    "true_median_s",
]
# fmt: on


def with_polars(trips: Path, out: Path) -> dict[str, Any]:
    rows = pl.scan_parquet(trips / "trips" / "*.parquet").with_columns(
        pickup_time_s=(pl.col("arrived_at") - pl.col("requested_at")) / 1e6
    )
    inside = {name: pl.col(name).is_between(low, high) for name, (low, high) in RANGES.items()}
    unusable = {
        "no time": pl.col("pickup_time_s").is_null() | pl.col("requested_at").is_null(),
        "no id": pl.col("request_id").is_null(),
        "other age": ~pl.col("requested_at").is_between(FIRST_US, LAST_US),
        "pickup_lat": ~pl.col("pickup_lat").is_between(43.40, 43.80),
        "pickup_lon": ~pl.col("pickup_lon").is_between(-71.20, -70.65),
    }
    rows = rows.with_columns(pl.when(ok).then(pl.col(name)) for name, ok in inside.items())
    wrong = {
        **unusable,
        "before asked": pl.col("arrived_at") < pl.col("requested_at"),
        "too fast": _too_fast(),
        "target": ~pl.col("pickup_time_s").is_between(20, 7200),
    }
    rule = pl.coalesce(pl.when(bad.fill_null(False)).then(pl.lit(name)) for name, bad in wrong.items())
    flagged = rows.with_columns(rule=rule)
    counts = flagged.group_by("rule").len()
    good = flagged.filter(pl.col("rule").is_null())
    good = good.sort("requested_at", "request_id").unique("request_id", keep="first", maintain_order=True)
    for table, columns in (("weather", ["rain_mm_h", "temperature_c"]), ("incidents", ["incidents_active"])):
        good = _join_polars(good, pl.scan_parquet(trips / f"{table}.parquet"), table, columns)
    caught, clean = pl.collect_all([counts, good.select(COLUMNS)], engine="streaming")
    times = clean["requested_at"]
    starts = [times[int(share * len(times))] for share in SHARES]
    for part, first, end in zip(PARTS, [FIRST_US, *starts], [*starts, LAST_US + GAP_US], strict=True):
        (out / part).mkdir(parents=True)
        is_here = (times >= first) & (times < end - GAP_US)
        clean.filter(is_here).write_parquet(out / part / "0.parquet", compression_level=1)
    return {"caught": json.loads(json.dumps(dict(caught.iter_rows())))}


def _too_fast() -> pl.Expr:
    lat_1, lon_1 = pl.col("driver_lat").radians(), pl.col("driver_lon").radians()
    lat_2, lon_2 = pl.col("pickup_lat").radians(), pl.col("pickup_lon").radians()
    way = ((lat_2 - lat_1) / 2).sin() ** 2 + lat_1.cos() * lat_2.cos() * ((lon_2 - lon_1) / 2).sin() ** 2
    return 2 * 6_371_008.8 * way.sqrt().arcsin() > 45 * pl.col("pickup_time_s")


def _join_polars(rows: pl.LazyFrame, known: pl.LazyFrame, table: str, columns: list[str]) -> pl.LazyFrame:
    by = ["pickup_zone"] if table == "incidents" else []
    known = known.sort(*by, "known_at", "observed_at", *columns)
    newest = pl.col("observed_at").cum_max()
    known = known.filter(pl.col("observed_at") == (newest.over(by) if by else newest))
    known = known.unique([*by, "known_at"], keep="last", maintain_order=True).sort("known_at")
    joined = rows.join_asof(known, left_on="requested_at", right_on="known_at", by=by or None, check_sortedness=False)
    is_fresh = pl.col("requested_at") - pl.col("observed_at") <= FRESH_H[table] * HOUR_US
    return joined.with_columns(pl.when(is_fresh).then(pl.col(c)) for c in columns).drop("observed_at", "known_at")


def with_pandas(trips: Path, out: Path) -> dict[str, Any]:
    rows = pd.read_parquet(trips / "trips")
    rows["pickup_time_s"] = (rows["arrived_at"] - rows["requested_at"]) / 1e6
    unusable = {
        "no time": rows["pickup_time_s"].isna() | rows["requested_at"].isna(),
        "no id": rows["request_id"].isna(),
        "other age": ~rows["requested_at"].between(FIRST_US, LAST_US),
        "pickup_lat": rows["pickup_lat"].notna() & ~rows["pickup_lat"].between(43.40, 43.80),
        "pickup_lon": rows["pickup_lon"].notna() & ~rows["pickup_lon"].between(-71.20, -70.65),
    }
    for name, (low, high) in RANGES.items():
        rows[name] = rows[name].where(rows[name].between(low, high))
    wrong = {
        **unusable,
        "before asked": rows["arrived_at"] < rows["requested_at"],
        "too fast": _too_fast_pandas(rows),
        "target": rows["pickup_time_s"].notna() & ~rows["pickup_time_s"].between(20, 7200),
    }
    rule = np.select(list(wrong.values()), list(range(len(wrong))), default=-1)
    caught = {name: int((rule == place).sum()) for place, name in enumerate(wrong)}
    good = rows[rule == -1].sort_values(["requested_at", "request_id"]).drop_duplicates("request_id")
    for table, columns in (("weather", ["rain_mm_h", "temperature_c"]), ("incidents", ["incidents_active"])):
        good = _join_pandas(good, pd.read_parquet(trips / f"{table}.parquet"), table, columns)
    clean = good[COLUMNS]
    times = clean["requested_at"].to_numpy()
    starts = [times[int(share * len(times))] for share in SHARES]
    for part, first, end in zip(PARTS, [FIRST_US, *starts], [*starts, LAST_US + GAP_US], strict=True):
        (out / part).mkdir(parents=True)
        is_here = (times >= first) & (times < end - GAP_US)
        clean[is_here].to_parquet(out / part / "0.parquet", compression="zstd", index=False)
    return {"caught": caught}


def _too_fast_pandas(rows: pd.DataFrame) -> Any:
    lat_1, lon_1 = np.radians(rows["driver_lat"]), np.radians(rows["driver_lon"])
    lat_2, lon_2 = np.radians(rows["pickup_lat"]), np.radians(rows["pickup_lon"])
    way = np.sin((lat_2 - lat_1) / 2) ** 2 + np.cos(lat_1) * np.cos(lat_2) * np.sin((lon_2 - lon_1) / 2) ** 2
    return 2 * 6_371_008.8 * np.arcsin(np.sqrt(way)) > 45 * rows["pickup_time_s"]


def _join_pandas(rows: pd.DataFrame, known: pd.DataFrame, table: str, columns: list[str]) -> pd.DataFrame:
    by = ["pickup_zone"] if table == "incidents" else []
    known = known.sort_values([*by, "known_at", "observed_at", *columns])
    observed = known.groupby(by)["observed_at"] if by else known["observed_at"]
    known = known[known["observed_at"] == observed.cummax()]
    known = known.drop_duplicates([*by, "known_at"], keep="last").sort_values("known_at")
    rows = rows.astype({"requested_at": "int64"})
    joined = pd.merge_asof(rows, known, left_on="requested_at", right_on="known_at", by=by or None)
    is_fresh = joined["requested_at"] - joined["observed_at"] <= FRESH_H[table] * HOUR_US
    joined[columns] = joined[columns].where(is_fresh)
    return joined.drop(columns=["observed_at", "known_at"])
