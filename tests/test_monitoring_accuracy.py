"""The log as sums and measures, against a plain recomputation with pandas."""

import json
from contextlib import closing

import numpy as np
import pandas as pd
import polars as pl
import pytest

from hailtime.client.log_tables import INSERT, INSERT_ACTUAL, LogFile, transaction
from hailtime.errors import ConfigError, LogError
from hailtime.histograms import reference_histograms
from hailtime.monitoring.accuracy import Z_95, measures
from hailtime.monitoring.log_source import LogSource
from hailtime.monitoring.store import MonitorStore, counts_of
from hailtime.monitoring.watch import PREDICTION, Watch, WatchedModel
from hailtime.schema import Schema

NOON_S = 1_768_219_200
SCHEMA = Schema.from_dict(
    {
        "source": "small_town",
        "timezone": "UTC",
        "zone": "pickup_zone",
        "columns": {
            "request_id": {"role": "id"},
            "requested_at": {"role": "requested_at"},
            "speed_mps": {"role": "numeric", "unit": "m/s"},
            "rain_mm_h": {"role": "numeric", "unit": "mm/h"},
            "pickup_zone": {"role": "categorical"},
            "pickup_time_s": {"role": "target", "unit": "s"},
        },
    }
)


def trips(n=4000, seed=1, hours=5):
    """Answers and ends: four of five have arrived, one of twenty was cancelled."""
    rng = np.random.default_rng(seed)
    p50 = rng.gamma(3, 100, n)
    end = rng.random(n)
    return pd.DataFrame(
        {
            "request_id": [f"{seed}-{i}" for i in range(n)],
            "requested_at_s": np.sort(NOON_S + rng.integers(0, hours * 3600, n)),
            "version": np.where(rng.random(n) < 0.1, "2", "1"),
            "path": np.where(rng.random(n) < 0.02, "rule", "triton"),
            "p10_s": p50 * 0.6,
            "p50_s": p50,
            "p90_s": p50 * 1.7,
            "latency_s": rng.lognormal(-7, 0.3, n),
            "speed_mps": rng.gamma(3, 2, n),
            "rain_mm_h": rng.choice([0.0, 2.0, np.nan], n, p=[0.7, 0.2, 0.1]),
            "pickup_zone": rng.choice(["a", "b", "c"], n),
            "pickup_time_s": np.where(end < 0.8, p50 * rng.lognormal(0.05, 0.4, n), np.nan),
            "cancelled_after_s": np.where((end >= 0.8) & (end < 0.85), 200.0, np.nan),
        }
    )


def write(path, table, with_actuals=True):
    inputs = ("speed_mps", "rain_mm_h", "pickup_zone")
    with closing(LogFile(path, 1.0).connection()) as connection, transaction(connection):
        for row in table.to_dict("records"):
            kept = json.dumps({name: None if row[name] != row[name] else row[name] for name in inputs})
            names = ("requested_at_s", "version", "path", "p10_s", "p50_s", "p90_s", "latency_s")
            asked_us = row["requested_at_s"] * 1_000_000
            connection.execute(INSERT["predictions"], (row["request_id"], asked_us, *(row[n] for n in names), kept))
        if with_actuals:
            report(connection, table)


def report(connection, table):
    for row in table.to_dict("records"):
        ends = [None if row[name] != row[name] else row[name] for name in ("pickup_time_s", "cancelled_after_s")]
        if ends != [None, None]:
            connection.execute(INSERT_ACTUAL, (row["request_id"], *ends, 1))


@pytest.fixture(scope="module")
def model():
    train = pl.from_pandas(trips(seed=9)).drop_nulls("pickup_time_s")
    return WatchedModel(SCHEMA, reference_histograms(SCHEMA, train.with_columns(pl.col("rain_mm_h").fill_nan(None))))


@pytest.fixture
def log(tmp_path):
    return tmp_path / "log.sqlite"


def watch_of(log, model):
    return Watch(LogSource(log), MonitorStore(log.with_name("monitor.sqlite")), model)


def told(store, by, slice_name="", now_s=NOON_S + 7 * 3600):
    return measures(store.sums(slice_name), by, now_s=now_s, label_delay_s=7200)


def expected(table, by):
    """The same with pandas, trip by trip."""
    table = table.assign(hour_s=table["requested_at_s"] // 3600 * 3600)
    arrived = table.dropna(subset="pickup_time_s")
    error = arrived["p50_s"] - arrived["pickup_time_s"]
    off = arrived.assign(
        bias_s=error,
        mae_s=error.abs(),
        coverage=arrived["pickup_time_s"].between(arrived["p10_s"], arrived["p90_s"]).astype(float),
    )
    means = off.groupby(by)[["bias_s", "mae_s", "coverage"]].mean()
    band = Z_95 * off.groupby(by)["mae_s"].std(ddof=0) / np.sqrt(off.groupby(by).size())
    return means.assign(
        n=table.groupby(by).size().astype(float),
        n_arrived=off.groupby(by).size().astype(float),
        n_cancelled=table.groupby(by)["cancelled_after_s"].count().astype(float),
        mae_low_s=means["mae_s"] - band,
        p90_error_s=off.groupby(by)["mae_s"].quantile(0.9),
    ).reset_index()


@pytest.mark.parametrize(
    ("by", "slice_name", "column"),
    [
        (["hour_s"], "", None),
        (["version"], "", None),
        (["hour_s", "version", "path"], "", None),
        (["value"], "zone", "pickup_zone"),
        (["version", "value"], "zone", "pickup_zone"),
    ],
    ids=str,
)
def test_measures_are_those_of_pandas(log, model, by, slice_name, column):
    table = trips()
    write(log, table)
    watch = watch_of(log, model)
    assert len(watch.read_on()) == 5
    found = told(watch.store, by, slice_name).filter(pl.col("n_arrived") > 0).to_pandas()
    keys = [column if name == "value" else name for name in by]
    wanted = expected(table, keys).rename(columns={column: "value"})
    names = [*by, "n", "n_arrived", "n_cancelled", "mae_s", "mae_low_s", "bias_s", "coverage"]
    pd.testing.assert_frame_equal(found[names], wanted[names], check_dtype=False, rtol=1e-9)
    if slice_name == "" and by != ["hour_s", "version", "path"]:
        np.testing.assert_allclose(found["p90_error_s"], wanted["p90_error_s"], rtol=0.05)


def test_wet_and_dry_are_told_apart_and_the_unknown_is_neither(log, model):
    table = trips()
    write(log, table)
    watch = watch_of(log, model)
    watch.read_on()
    found = dict(told(watch.store, ["value"], "weather").select("value", "n").iter_rows())
    assert found == {"dry": (table["rain_mm_h"] == 0).sum(), "wet": (table["rain_mm_h"] == 2).sum()}


def test_what_comes_later_changes_its_hours_and_a_second_pass_nothing(log, model):
    table = trips()
    write(log, table, with_actuals=False)
    watch = watch_of(log, model)
    watch.read_on()
    assert told(watch.store, ["hour_s"])["n_arrived"].sum() == 0
    connection = LogFile(log, 1.0).connection()
    first_hour = table[table["requested_at_s"] < NOON_S + 3600]
    report(connection, first_hour)
    assert watch.read_on() == [NOON_S]
    assert watch.read_on() == []
    report(connection, table)
    assert len(watch.read_on()) == 4  # the first hour's were known
    once = watch.store.sums()
    watch.count_hour(NOON_S)  # as after a kill before the position was kept
    pd.testing.assert_frame_equal(
        told(watch.store, ["hour_s", "version", "path"]).to_pandas(),
        measures(once, ["hour_s", "version", "path"], NOON_S + 7 * 3600, 7200).to_pandas(),
    )


def test_an_hour_is_complete_when_the_last_can_have_arrived(log, model):
    write(log, trips())
    watch = watch_of(log, model)
    watch.read_on()
    found = told(watch.store, ["hour_s"], now_s=NOON_S + 5 * 3600)
    assert found["is_complete"].to_list() == [True, True, True, False, False]


def test_the_models_own_expectation_is_there_before_any_arrival(log, model):
    write(log, trips(), with_actuals=False)
    watch = watch_of(log, model)
    watch.read_on()
    (row,) = told(watch.store, ["slice"]).to_dicts()
    assert row["mae_s"] is None
    assert row["expected_mae_s"] == pytest.approx((trips()["p50_s"] * 1.1).mean() * 0.31126, rel=1e-3)


def test_actuals_of_unknown_requests_are_counted(log, model):
    write(log, trips(100))
    report(LogFile(log, 1.0).connection(), trips(50, seed=2).assign(pickup_time_s=100.0, cancelled_after_s=np.nan))
    watch = watch_of(log, model)
    watch.read_on()
    assert watch.store.state("n_unmatched", 0) == 50


def test_inputs_answers_and_actuals_are_counted_in_the_models_bins(log, model):
    table = trips()
    write(log, table)
    watch = watch_of(log, model)
    watch.read_on()
    stored = watch.store.columns()
    zones = counts_of(stored[NOON_S]["pickup_zone"], model.histograms["pickup_zone"])
    assert dict(zones.values) == table[table["requested_at_s"] < NOON_S + 3600]["pickup_zone"].value_counts().to_dict()
    rain = [counts_of(hour["rain_mm_h"], model.histograms["rain_mm_h"]) for hour in stored.values()]
    assert sum(counts.missing for counts in rain) == table["rain_mm_h"].isna().sum()
    said = [counts_of(hour[PREDICTION], model.histograms["pickup_time_s"]) for hour in stored.values()]
    assert sum(counts.rows for counts in said) == len(table)


def test_a_request_is_looked_up_by_its_id(log):
    write(log, trips(50))
    row = LogSource(log).request("1-7").to_dicts()[0]
    assert row["p50_s"] == pytest.approx(trips(50)["p50_s"][7])
    assert LogSource(log).request("it's; DROP TABLE predictions").height == 0


def test_what_cannot_be_watched_is_told(tmp_path):
    with pytest.raises(ConfigError, match=r"must be a prediction log or a postgresql:// URL, got .*none\.sqlite"):
        LogSource(tmp_path / "none.sqlite")
    (tmp_path / "text").write_text("no database at all" * 100)
    with pytest.raises(LogError, match="cannot be read"):
        LogSource(tmp_path / "text").last_ids()
    with pytest.raises(LogError, match=r"postgresql://127\.0\.0\.1:1/x cannot be read"):
        LogSource("postgresql://me:secret@127.0.0.1:1/x").last_ids()


def test_the_monitors_file_can_be_deleted(log, model):
    write(log, trips(500))
    watch = watch_of(log, model)
    watch.read_on()
    before = told(watch.store, ["hour_s"])
    watch.store.path.unlink()
    again = watch_of(log, model)
    again.read_on()
    assert told(again.store, ["hour_s"]).equals(before)
