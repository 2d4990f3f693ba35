"""Lineage both ways, from the command: what is written somewhere is found from any end, what is not is said."""

import json
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from hailtime.client.log_tables import INSERT
from hailtime.client.prediction_log import PredictionLog
from hailtime.rollout import Rollout
from hailtime.serving.config_file import Served, store_config, write_config
from hailtime.serving.history import new_change, write_down
from hailtime.serving.places import version_folder
from hailtime.serving.repository import publish, read_origin

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def world(small_run, tmp_path_factory):
    """A run in runs/small that is version 1, and a log: two answers of it that came true, one of the rule."""
    home = tmp_path_factory.mktemp("world")
    run = shutil.copytree(small_run.folder, home / "runs" / "small")
    (home / "models").mkdir()
    version = publish(run, home / "models")
    origin = read_origin(version_folder(home / "models", version))
    plan = Served.from_text(write_config(small_run.schema, (version,), Rollout(version)))
    store_config(home / "models", plan)
    write_down(home / "models", new_change("deploy", version, Rollout(version), plan.revision, origin, "the first"))
    with PredictionLog(home / "log.sqlite") as log:
        with sqlite3.connect(home / "log.sqlite") as file:
            for name, said, path, p50_s in (
                ("a", "1", "triton", 300.0),
                ("b", "1", "triton", 100.0),
                ("c", "", "rule", 90.0),
            ):
                file.execute(
                    INSERT["predictions"],
                    (name, 2_000_000, 1, said, path, 50.0, p50_s, 350.0, 0.002, '{"rain_mm_h": 1}'),
                )
        file.close()
        log.report_actuals([("a", 320.0), ("b", 400.0)])
    return home


def lineage(home, *words, **places):
    found = {"repository": home / "models", "log": home / "log.sqlite", "runs": home / "runs", **places}
    options = [str(word) for name, value in found.items() if value is not None for word in (f"--{name}", value)]
    return subprocess.run(
        [sys.executable, ROOT / "scripts/lineage.py", *words, *options], capture_output=True, text=True
    )


def found(home, *words, **places):
    done = lineage(home, *words, "--json", **places)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_from_a_request_back_to_the_data(world, small_run):
    node = found(world, "a")
    assert node["kind"] == "request"
    assert node["answers"][0]["pickup_time_s"] == 320.0
    assert node["answers"][0]["features"] == {"rain_mm_h": 1}
    (source,) = node["sources"]
    assert source["version"] == 1
    assert source["run"]["seed"] == small_run.config.seed
    assert source["run"]["data"]["fingerprint"] == small_run.prepared.fingerprint
    assert source["missing"] == []


def test_from_a_version_to_its_file_its_run_and_how_good_it_was(world):
    node = found(world, "1")
    exported = json.loads((world / "runs/small/export.json").read_text())
    assert node["model"]["sha256"] == node["run"]["model"]["sha256"] == exported["sha256"]
    assert (node["state"], node["changes"][0]["why"]) == ("stable", "the first")
    # |300 − 320| and |100 − 400|; 320 lies in 50 to 350, 400 does not
    answers = node["answers"]
    assert (answers["requests"], answers["mae_s"], answers["bias_s"], answers["share_inside"]) == (
        2,
        160.0,
        -160.0,
        0.5,
    )


def test_from_the_data_and_from_the_run_to_the_version_and_its_requests(world, small_run):
    by_data, by_run = found(world, small_run.prepared.fingerprint), found(world, "small")
    assert by_data["runs"][0]["run"] == by_run["run"] == "small"
    for node in (by_data, by_run):
        assert [(row["version"], row["answers"]["requests"]) for row in node["versions"]] == [(1, 2)]
        assert node["missing"] == []


def test_the_tree_names_every_link(world, small_run):
    told = lineage(world, "a").stdout
    for text in ("request a", "version 1 said 50 / 300 / 350 s", "after 320 s, +20 s", "run small", "commit"):
        assert text in told
    assert f"data {small_run.prepared.fingerprint}" in told
    assert "the rule said" in lineage(world, "c").stdout


def test_what_is_gone_is_said_and_what_travelled_with_the_file_is_kept(world, small_run, tmp_path):
    node = found(world, "1", runs=tmp_path, log=None)
    assert node["answers"] is None
    assert "no log was named (--log), so nothing is said of requests" in node["missing"]
    models = shutil.copytree(world / "models", tmp_path / "models")
    manifest = models / "pickup_eta/1/manifest.json"
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "folder": "/gone"}))
    node = found(world, "1", runs=tmp_path, repository=models)
    assert node["missing"] == [f"the run folder 'small' is not under {tmp_path}"]
    assert node["run"]["seed"] == small_run.config.seed
    assert node["run"]["data"]["source"] == "simulated_city"


def test_a_run_exported_again_since_is_not_taken_for_the_versions(world, tmp_path):
    runs = shutil.copytree(world / "runs", tmp_path / "runs")
    report = json.loads((runs / "small/export.json").read_text())
    (runs / "small/export.json").write_text(json.dumps({**report, "sha256": "0" * 64}))
    assert found(world, "small", runs=runs)["versions"] == []


def test_what_is_nowhere_is_told_with_where_it_was_looked_for(world):
    done = lineage(world, "r-404")
    assert done.returncode == 2
    assert "r-404 is no run or version or data or request: looked in" in done.stderr
    assert "Traceback" not in done.stderr
