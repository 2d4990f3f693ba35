"""The log as a source, and a warm start: what was asked is what is trained on, and what was known is kept."""

import contextlib
import json
import time
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import polars as pl
import pytest
import torch
from omegaconf import OmegaConf
from polars.testing import assert_frame_equal

from hailtime import clock
from hailtime.errors import ConfigError, DataError, DeployError
from hailtime.monitoring.log_source import LogSource
from hailtime.preparation.from_config import prepared_data
from hailtime.retraining.champion import Champion
from hailtime.retraining.decide import decide
from hailtime.retraining.live import look
from hailtime.retraining.retrain import retrain
from hailtime.retraining.state import retrainings
from hailtime.retraining.window import recent_config, training_config
from hailtime.sources.prediction_log import LogReader, answered, load
from hailtime.training.features import FeatureSpec, row_features
from hailtime.training.train import build_network
from hailtime.training.warm_start import grown, reason_against, start_from
from tests.retrained_city import make_town, offline_place, town_settings, write_log

DAY_S = 86_400


@pytest.fixture(scope="module")
def town(small_run):
    return make_town(small_run.folder)


@pytest.fixture(scope="module")
def place(town, tmp_path_factory):
    return offline_place(tmp_path_factory.mktemp("place"), town)


def in_seconds(rows):
    """As a model is asked: whole seconds, single precision."""
    return rows.with_columns(requested_at=pl.col("requested_at") // 1_000_000 * 1_000_000)


def test_the_log_gives_back_what_was_asked_and_what_happened(place, town):
    found = answered(LogReader(place / "log.sqlite"), town.schema, 0, town.now_s)
    expected = in_seconds(town.rows).with_columns(true_median_s=pl.lit(None, pl.Float64))
    assert_frame_equal(found.sort("request_id"), expected.sort("request_id"))


def test_of_a_request_answered_twice_the_first_answer_counts(town, tmp_path):
    again = town.rows.head(3)
    for rows in (again, again.with_columns(idle_drivers=99.0)):
        write_log(tmp_path / "log.sqlite", town, rows)
    found = answered(LogReader(tmp_path / "log.sqlite"), town.schema, 0, town.now_s)
    assert len(found) == 3
    assert found["idle_drivers"].to_list() == again["idle_drivers"].to_list()


def test_a_log_without_ends_is_told_with_the_way_out(place, town):
    with pytest.raises(DataError, match=r"no answered request from 0 to 10 .* features='all'"):
        answered(LogReader(place / "log.sqlite"), town.schema, 0, 10)


def test_prepared_rows_of_the_log_are_the_rows_that_were_asked(place, town, tmp_path):
    """Joined columns come through the joins unchanged, and the schema is the live model's own."""
    settings = town_settings(place, "127.0.0.1:1", f"folder={tmp_path}", "window.old_per_new=0")
    champion = Champion.of(place / "models", 1)
    config = training_config(settings, decide(settings, town.now_s, "a test"), champion, tmp_path / "data", "x")
    prepared = prepared_data(config)
    assert prepared.schema.fingerprint == town.schema.fingerprint
    found = pl.concat(prepared.part(name) for name in ("train", "validation", "calibration", "test"))
    expected = in_seconds(town.rows).filter(pl.col("request_id").is_in(found["request_id"].implode()))
    names = ["request_id", "rain_mm_h", "traffic_speed_ratio", "incidents_active", "driver_lat", "pickup_zone"]
    assert_frame_equal(found.select(names).sort("request_id"), expected.select(names).sort("request_id"))
    assert len(found) + prepared.report["dropped_in_gaps"] == 3000
    assert len(prepared.part("test")) == pytest.approx(750, abs=5)


def test_old_rows_are_as_many_as_asked_for_and_come_before(place, town):
    since_s = town.now_s - DAY_S
    n_new = town.rows.filter(pl.col("requested_at") >= since_s * 1e6).height
    older = str(json.loads((town.run / "data.json").read_text())["folder"])
    raw = load(str(place / "log.sqlite"), str(town.run), 0, town.now_s, since_s, old_per_new=2.0, older=older)
    trips = raw.table()
    n_old = trips.filter(pl.col("requested_at") < since_s * 1e6).height
    assert n_old == pytest.approx(2 * n_new, rel=0.5)
    assert n_old <= 2 * n_new
    assert trips["requested_at"].min() < town.rows["requested_at"].min()  # the run's own rows are among them
    only_new = load(str(place / "log.sqlite"), str(town.run), 0, town.now_s, since_s, old_per_new=0.0).table()
    assert len(only_new) == n_new


def config_of(place, town, folder, *changes):
    settings = town_settings(place, "127.0.0.1:1", f"folder={folder}", *changes)
    decision = decide(settings, town.now_s, "a test")
    return settings, training_config(settings, decision, Champion.of(place / "models", 1), folder / "data", "x")


def test_no_later_part_is_longer_than_said(place, town, tmp_path):
    _, config = config_of(place, town, tmp_path, "parts.most_h=4")
    begins = [datetime.fromisoformat(config.source.split[name]) for name in ("validation", "calibration", "test")]
    ends = [*begins[1:], datetime.fromtimestamp(town.now_s - 3600, UTC)]
    hours = [(end - begin).total_seconds() / 3600 for begin, end in zip(begins, ends, strict=True)]
    assert hours == pytest.approx([2, 2, 4], abs=0.01)


def test_the_newest_rows_alone_have_the_same_later_parts(place, town, tmp_path):
    settings, config = config_of(place, town, tmp_path, "window.recent_days=0.5", "parts.most_h=4")
    recent = recent_config(config, settings, tmp_path / "recent")
    train = prepared_data(recent).part("train")
    begins_s = datetime.fromisoformat(config.source.split.validation).timestamp()
    assert train["requested_at"].min() / 1e6 == pytest.approx(begins_s - DAY_S / 2, abs=600)
    whole = prepared_data(config)
    for part in ("validation", "calibration", "test"):
        assert_frame_equal(whole.part(part), prepared_data(recent).part(part))
    assert recent_config(config, replace_window(settings, recent_days=None), tmp_path) is None


def replace_window(settings, **how):
    return replace(settings, window=replace(settings.window, **how))


@pytest.mark.slow
def test_where_the_world_changed_without_an_alert_the_newest_rows_alone_are_learnt(place, town, tmp_path, monkeypatch):
    """The last day's pickups take twenty minutes longer, and nobody said so."""
    monkeypatch.setenv(clock.VARIABLE, str(clock.Played(town.now_s, 1, time.time())))
    changed = pl.col("requested_at") >= (town.now_s - 1.2 * DAY_S) * 1e6
    target = pl.when(changed).then(pl.col("pickup_time_s") + 1200.0).otherwise(pl.col("pickup_time_s"))
    write_log(tmp_path / "log.sqlite", town, town.rows.with_columns(pickup_time_s=target))
    folder = f"folder={tmp_path / 'retrain'}"
    log, gates = f"log={tmp_path / 'log.sqlite'}", "gates.scratch=false"
    settings = town_settings(
        place,
        "127.0.0.1:1",
        folder,
        log,
        gates,
        "window.recent_days=0.5",
        "window.min_rows=200",
        "parts.most_h=8",
        "train.trainer.max_epochs=20",
    )
    with contextlib.suppress(DeployError):  # no server to go live on
        retrain(settings, because="a test")
    (one,) = retrainings(tmp_path / "retrain")
    trained = one.state["steps"]["train"]
    assert trained["rows"] == "recent"
    assert trained["validation_mae_s"]["recent"] < trained["validation_mae_s"]["window"]
    config = OmegaConf.load(one.run / "config.yaml")
    assert config.prepared == str(one.folder / "recent/data")
    assert not (one.folder / "recent/run").exists()


def test_settings_of_train_that_do_not_exist_are_refused_with_a_hint(place, town, tmp_path):
    settings = town_settings(place, "127.0.0.1:1", f"folder={tmp_path}", "train.trainer.max_epoch=3")
    with pytest.raises(ConfigError, match=r"did you mean 'trainer\.max_epochs'"):
        training_config(
            settings, decide(settings, town.now_s, "x"), Champion.of(place / "models", 1), tmp_path / "data", "x"
        )


def test_a_warm_start_says_what_the_run_said_and_a_new_word_is_as_the_unknown_was(small_run):
    known = FeatureSpec.load(small_run.folder / "features.json")
    apps = [*known.vocabulary["app"], "iOS 19"]
    spec = grown(known, replace(known, vocabulary={**known.vocabulary, "app": sorted(apps)}))
    assert spec.vocabulary["app"] == apps
    network = build_network(small_run.config, spec).eval()
    start_from(network, small_run.folder, spec)
    rows = small_run.prepared.part("test").head(200)
    with torch.no_grad():
        before = small_run.model.network(*row_features(small_run.schema, known, rows))
        after = network(*row_features(small_run.schema, spec, rows))
        assert torch.allclose(before, after, atol=1e-6)
        renamed = rows.with_columns(app=pl.lit("iOS 19"))
        unknown = small_run.model.network(*row_features(small_run.schema, known, renamed))
        assert torch.allclose(network(*row_features(small_run.schema, spec, renamed)), unknown, atol=1e-6)
    assert not np.allclose(unknown, before)


def test_another_network_or_schema_is_a_reason_to_start_fresh(small_run, tmp_path):
    fingerprint, network = small_run.schema.fingerprint, small_run.config.network
    assert reason_against(small_run.folder, fingerprint, network) is None
    assert "another schema" in reason_against(small_run.folder, "0" * 12, network)
    assert "another network" in reason_against(small_run.folder, fingerprint, {**network, "width": 8})
    assert "not at hand" in reason_against(tmp_path, fingerprint, network)
    spec = FeatureSpec.load(small_run.folder / "features.json")
    other = OmegaConf.merge(small_run.config, {"network": {"width": 8}})
    with pytest.raises(ConfigError, match="a warm start needs the network of"):
        start_from(build_network(other, spec), small_run.folder, spec)


def test_a_stage_counts_requests_that_are_old_enough_for_long_pickups_to_have_ended(place, town):
    """Sooner only the short ones have, and on these whoever says less looks better."""
    seen = look(
        LogSource(place / "log.sqlite"),
        Champion.of(place / "models", 1),
        1,
        "watch",
        0,
        town.now_s - 7200,
        label_delay_s=3600,
    )
    assert seen.answered == 2999  # the last one was asked at the very end of the span
    is_old = pl.col("requested_at") // 1_000_000 < town.now_s - 7200 - 3600
    assert seen.rows == town.rows.filter(is_old).height < 3000
    assert seen.difference.difference_s == pytest.approx(0.0, abs=0.01)  # the same file on both sides
