"""Other learners: each by hand or against what it must beat, and a comparison that goes on after a kill."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from hailtime.baselines import Table, table
from hailtime.comparison.boosted import in_order
from hailtime.comparison.classical import NaiveBayes, ZoneMedian
from hailtime.comparison.compare import compare
from hailtime.comparison.entries import LEARNERS, WITHOUT_CHANCE, Comparison, learner_entry, with_tails_of_errors
from hailtime.comparison.page import markdown, picture
from hailtime.config import CONFIGS
from hailtime.errors import ConfigError
from hailtime.locking import locked
from tests.conftest import small_config

QUICK = {"lightgbm": {"learning_rate": 0.2}, "xgboost": {"learning_rate": 0.3}, "catboost": {"learning_rate": 0.3}}


@pytest.fixture(scope="module")
def parts(small_run, prepared):
    return {name: table(prepared, small_run.spec, name) for name in ("train", "validation", "calibration", "test")}


def mae(predicted, rows):
    middle = predicted[:, 1] if predicted.ndim == 2 else predicted
    return np.abs(middle - rows.target_s).mean()


# naive Bayes counts 26 features that say the same 26 times: it may lose to a median
@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(set(LEARNERS) - {"zone_median", "naive_bayes"}))
def test_every_learner_beats_the_zones_median(name, parts, prepared):
    learner = LEARNERS[name](prepared.schema, 1, **QUICK.get(name, {})).fit(parts["train"], parts["validation"])
    said = learner.predict(parts["test"])
    of_zone = ZoneMedian(prepared.schema.zone).fit(parts["train"], parts["validation"]).predict(parts["test"])
    assert np.isfinite(said).all()
    assert mae(said, parts["test"]) < 0.95 * mae(of_zone, parts["test"])


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(QUICK))
def test_boosted_tails_hold_about_80_percent_in_order(name, parts, prepared):
    learner = LEARNERS[name](prepared.schema, 1, **QUICK[name]).fit(parts["train"], parts["validation"])
    learner.fit_tails(parts["train"], parts["validation"])
    said, actual = learner.predict(parts["test"]), parts["test"].target_s
    assert (np.diff(said, axis=1) >= 0).all()
    assert 0.65 < ((actual >= said[:, 0]) & (actual <= said[:, 2])).mean() < 0.95


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(set(LEARNERS) - set(WITHOUT_CHANCE)))
def test_the_same_seed_gives_the_same_answers(name, parts, prepared):
    few = {part: rows.take(slice(0, 1500)) for part, rows in parts.items()}
    once, twice = (
        LEARNERS[name](prepared.schema, 5, **QUICK.get(name, {})).fit(few["train"], few["validation"]) for _ in range(2)
    )
    # threads add up a forest's trees in the order in which they end
    np.testing.assert_allclose(once.predict(few["test"]), twice.predict(few["test"]), rtol=1e-12)


def zones(codes, target_s):
    codes = np.array(codes)[:, None]
    return Table(("pickup_zone",), np.zeros((len(codes), 0), np.float32), codes, np.array(target_s, float))


def test_the_zones_median_by_hand():
    fitted = ZoneMedian("pickup_zone").fit(zones([1, 1, 1, 2], [100, 110, 900, 300]), zones([], []))
    assert fitted.predict(zones([1, 2, 7], [0, 0, 0])).tolist() == [110, 300, 205]


def test_naive_bayes_knows_the_quantiles_of_each_zone():
    rng = np.random.default_rng(0)
    codes = rng.integers(1, 3, 20_000)
    train = zones(codes, np.where(codes == 1, rng.uniform(0, 100, 20_000), rng.uniform(200, 300, 20_000)))
    said = NaiveBayes(1, n_target_bins=40).fit(train, train).predict(zones([1, 2], [0, 0]))
    np.testing.assert_allclose(said, [[10, 50, 90], [210, 250, 290]], atol=3)


def test_a_missing_number_is_a_bin_of_its_own():
    x = np.array([[np.nan]] * 50 + [[1.0]] * 50, np.float32)
    train = Table(("a",), x, np.zeros((100, 0), np.int64), np.repeat([500.0, 100.0], 50) + np.arange(100))
    said = NaiveBayes(1, n_bins=2, n_target_bins=2, alpha=0.1).fit(train, train).predict(train)
    assert said[0, 1] > 400
    assert said[-1, 1] < 300


def test_crossing_tails_give_way_to_the_middle():
    ordered = in_order(np.array([100.0]), np.array([120.0]), np.array([90.0]))
    assert ordered.tolist() == [[100.0, 100.0, 100.0]]


@pytest.fixture
def small(tmp_path, small_run, prepared):
    overrides = ["experiment=smoke", f"prepared={prepared.folder}"]
    return Comparison.of(tmp_path, small_config(prepared.folder), overrides, prepared, n_trials=0)


def test_a_single_number_gets_the_tails_of_its_errors(small):
    n = len(small.parts["calibration"].target_s)
    low, high = np.quantile(small.parts["calibration"].target_s - 300.0, [0.1, 0.9])
    _, tails = with_tails_of_errors(small, [np.full(n, 300.0), np.array([300.0, 400.0])])
    np.testing.assert_allclose(tails, [[300 + low, 300, 300 + high], [400 + low, 400, 400 + high]])


def test_an_entry_holds_error_interval_time_and_size(small):
    entry = learner_entry(small, "tree", 1)
    assert 0.7 < entry["coverage_p10_p90"] < 0.9
    assert entry["mae_s"] > 0
    assert entry["pinball_s"] > 0
    assert entry["intervals"] == "errors on the calibration part"
    assert entry["bytes"] > 1000
    assert 0 < entry["latency_us"] < 1e6


@pytest.mark.slow
def test_a_network_is_compared_by_its_onnx_file(small_run, tmp_path):
    overrides = ["experiment=smoke", f"prepared={small_run.prepared.folder}", "trainer.max_epochs=1"]
    result = compare(tmp_path / "work", overrides, seeds=[1, 2], n_trials=1, only=["mlp", "rule"])
    assert list(result["learners"]) == ["mlp", "rule"]  # the best first
    mlp = result["learners"]["mlp"]
    assert set(mlp["seeds"]) == {"1", "2"}
    assert mlp["deviation"]["mae_s"] > 0
    assert mlp["mean"]["bytes"] == (tmp_path / "work/runs/mlp-1/model.onnx").stat().st_size
    assert len(result["learners"]["rule"]["seeds"]) == 1
    text = markdown(result, ["mlp"])
    assert text.count("\n| ") == 5  # heading, rule, two learners, best possible
    assert f"| **mlp** | {mlp['mean']['mae_s']:.2f} ± " in text
    picture(result, ["mlp"], tmp_path / "picture.png")
    assert (tmp_path / "picture.png").stat().st_size > 10_000
    with pytest.raises(ConfigError, match="was begun with n_trials 1 and now 2: name another"):
        compare(tmp_path / "work", overrides, seeds=[1], n_trials=2, only=["rule"])


def test_an_unknown_learner_is_named(tmp_path):
    with pytest.raises(ConfigError, match="no learner 'lightgmb', did you mean 'lightgbm'"):
        compare(tmp_path, [], seeds=[1], n_trials=0, only=["lightgmb"])


@pytest.mark.slow
def test_a_killed_comparison_makes_only_what_is_missing(small_run, tmp_path):
    command = [sys.executable, str(CONFIGS.parent / "scripts" / "compare.py"), "experiment=smoke"]
    command += [f"prepared={small_run.prepared.folder}", "--trials", "0", "--only", "rule", "ridge", "tree", "svm"]
    command += ["--seeds", "1", "--out", "out", "--name", "killed"]
    entries = tmp_path / "runs/compare/killed/entries"
    running = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not (entries / "ridge-1.json").exists() and time.monotonic() < deadline:
        assert running.poll() is None
        time.sleep(0.02)
    os.kill(running.pid, signal.SIGKILL)
    running.wait()
    made = {path.name: path.stat().st_mtime_ns for path in entries.glob("[!.]*.json")}
    assert "ridge-1.json" in made
    assert "svm-1.json" not in made
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    assert {path.name: path.stat().st_mtime_ns for path in entries.iterdir() if path.name in made} == made
    result = json.loads((tmp_path / "out/compare_killed.json").read_text())
    assert set(result["learners"]) == {"rule", "ridge", "tree", "svm"}


@pytest.mark.slow
def test_two_comparisons_do_not_share_a_folder(small_run, tmp_path):
    overrides = [f"prepared={small_run.prepared.folder}", "source.load.n_requests=8000"]
    with (
        locked(tmp_path / ".lock", ConfigError),
        pytest.raises(ConfigError, match=r"another process has held .*wait for it or stop it"),
    ):
        compare(tmp_path, overrides, seeds=[1], n_trials=0, only=["rule"])


@pytest.mark.slow
def test_a_comparison_goes_on_from_its_published_file(small_run, tmp_path):
    overrides = ["experiment=smoke", f"prepared={small_run.prepared.folder}"]
    settings = {"seeds": [1], "n_trials": 0, "published": tmp_path / "compare.json"}
    result = compare(tmp_path / "here", overrides, **settings, only=["rule"])
    result["learners"]["rule"]["seeds"]["1"]["mae_s"] = 12.5  # known again, so not made again
    settings["published"].write_text(json.dumps(result))
    there = compare(tmp_path / "there", overrides, **settings, only=["rule", "tree"])
    assert there["learners"]["rule"]["mean"]["mae_s"] == 12.5
    assert there["learners"]["tree"]["mean"]["mae_s"] > 12.5
    others = compare(tmp_path / "others", overrides, **{**settings, "n_trials": 1}, only=["rule"])
    assert others["learners"]["rule"]["mean"]["mae_s"] > 12.5
