"""What is remembered of releases, and that a killed writer spoils none of it. No server: the plans are written here."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from hailtime.errors import DeployError
from hailtime.rollout import Rollout
from hailtime.serving.config_file import Served, read_served, store_config, write_config
from hailtime.serving.history import (
    PENDING,
    announce,
    new_change,
    read_history,
    settled_changes,
    stable_versions,
    write_down,
)
from hailtime.serving.releases import standings
from hailtime.serving.repository import N_KEPT, check_version, prune, publish, quarantine
from hailtime.serving.rollback import rollback
from hailtime.serving.switch import settle
from tests.tiny_run import TINY_SCHEMA, store_model, tiny_model, write_tiny_run

SCRIPTS = Path(__file__).parents[1] / "scripts"


@pytest.fixture
def models(tmp_path):
    (tmp_path / "models/pickup_eta").mkdir(parents=True)
    return tmp_path / "models"


def changed(models, action, version, plan, versions=None, **parts):
    """The plan on the disk and its line, as a deployment leaves them."""
    config = Served.from_text(write_config(TINY_SCHEMA, tuple(versions or sorted(plan.versions)), plan))
    store_config(models, config)
    change = new_change(action, version, plan, config.revision, {"run": f"run{version}", "mae_s": 60 + version}, "")
    write_down(models, change)
    return change


def three_releases(models, tmp_path):
    for version in (1, 2, 3):
        publish(write_tiny_run(tmp_path / f"run{version}", base_s=100 * version), models)
        changed(models, "deploy", version, Rollout(version), {version, max(1, version - 1)})


def test_change_is_read_as_it_was_written(models):
    change = changed(models, "canary", 4, Rollout(3, canary=4, canary_percent=5.0))
    assert read_history(models) == [change]


def test_line_that_was_cut_off_is_passed_over_and_spoils_no_other(models):
    first = changed(models, "deploy", 1, Rollout(1))
    with (models / "pickup_eta/releases.jsonl").open("a") as file:
        file.write('{"action": "deploy", "ver')
    second = changed(models, "deploy", 2, Rollout(2))
    assert read_history(models) == [first, second]


def test_change_that_was_made_by_who_was_killed_is_written_down_once(models):
    config = Served.from_text(write_config(TINY_SCHEMA, (1,), Rollout(1)))
    change = new_change("deploy", 1, Rollout(1), config.revision, {}, "")
    announce(models, change)
    store_config(models, config)
    assert settled_changes(models, config) == [change]
    settle(models)
    settle(models)
    assert read_history(models) == [change]
    assert not (models / "pickup_eta" / PENDING).exists()


def test_change_that_was_announced_and_not_made_is_forgotten(models):
    made = changed(models, "deploy", 1, Rollout(1))
    announce(models, new_change("deploy", 2, Rollout(2), "never stored", {}, ""))
    settle(models)
    assert read_history(models) == [made]


@pytest.mark.parametrize(
    ("actions", "way"),
    [
        pytest.param([("deploy", 1), ("deploy", 2), ("deploy", 3)], [1, 2, 3], id="forward"),
        pytest.param([("deploy", 1), ("deploy", 2), ("deploy", 3), ("rollback", 2)], [1, 2], id="one back"),
        pytest.param([("deploy", 1), ("deploy", 2), ("rollback", 1), ("deploy", 3)], [1, 3], id="around the bad one"),
        pytest.param([("deploy", 1), ("deploy", 2), ("rollback", 1), ("rollback", 2)], [1, 2], id="back and forth"),
        pytest.param([("deploy", 1), ("refuse", 2), ("deploy", 3)], [1, 3], id="refused between"),
    ],
)
def test_way_to_the_stable_version(actions, way):
    changes = [new_change(action, version, Rollout(version), "", {}, "") for action, version in actions]
    assert stable_versions(changes) == way


def test_candidate_is_no_step_of_the_way():
    changes = [new_change("deploy", 1, Rollout(1), "", {}, "")]
    changes += [new_change("canary", 2, Rollout(1, canary=2, canary_percent=5), "", {}, "")]
    changes += [new_change("abort", 2, Rollout(1), "", {}, "")]
    assert stable_versions(changes) == [1]


def test_rollback_without_a_server_goes_one_back_and_then_one_more(models, tmp_path):
    three_releases(models, tmp_path)
    assert [rollback(models, offline=True).stable for _ in range(2)] == [2, 1]
    assert read_served(models).versions == (1,)
    with pytest.raises(DeployError, match=r"an earlier stable version is not; there is: 2, 3"):
        rollback(models, offline=True)


def test_rollback_passes_over_a_version_that_is_damaged(models, tmp_path):
    three_releases(models, tmp_path)
    (models / "pickup_eta/2/model.onnx").write_bytes(b"damaged")
    assert rollback(models, offline=True).stable == 1


@pytest.mark.parametrize("version", [4, 3, 17], ids=["never stable", "the stable one", "not there"])
def test_rollback_to_what_is_no_earlier_stable_version_says_what_is(models, tmp_path, version):
    three_releases(models, tmp_path)
    publish(write_tiny_run(tmp_path / "run4"), models)
    with pytest.raises(DeployError, match=f"version {version} is not; there is: 1, 2$"):
        rollback(models, version=version, offline=True)


def test_old_versions_go_and_needed_ones_stay_with_their_numbers(models, tmp_path):
    run = write_tiny_run(tmp_path / "run")
    for _ in range(N_KEPT + 4):
        publish(run, models)
    quarantine(models, 9, "wrong answers")
    assert prune(models, needed={1, 2}) == [3]
    assert sorted(int(path.name) for path in (models / "pickup_eta").iterdir()) == [1, 2, 4, 5, 6, 7, 8]
    check_version(models / "pickup_eta/1")
    assert publish(run, models) == 10
    assert not (models / ".trash").exists()


def test_number_of_a_deleted_version_is_not_given_again(models, tmp_path):
    changed(models, "deploy", 7, Rollout(7))
    assert publish(write_tiny_run(tmp_path / "run"), models) == 8


def test_releases_say_how_every_version_stands(models, tmp_path):
    three_releases(models, tmp_path)
    publish(write_tiny_run(tmp_path / "run4"), models)
    changed(models, "canary", 4, Rollout(3, canary=4, canary_percent=5))
    write_down(models, new_change("refuse", 5, Rollout(3, canary=4, canary_percent=5), "", {"run": "bad"}, "too slow"))
    write_down(models, new_change("refuse", None, Rollout(3), "", {"run": "torn"}, "no whole ONNX file"))
    publish(write_tiny_run(tmp_path / "run6"), models)
    stands = [(s.version, s.state, s.run, s.is_kept) for s in standings(models)]
    assert stands == [
        (6, "published", "run6", True),
        (5, "refused", "bad", False),
        (4, "canary 5 %", "run4", True),
        (3, "stable", "run3", True),
        (2, "previous", "run2", True),
        (1, "retired", "run1", True),
        (None, "refused", "torn", False),
    ]


def test_version_that_was_gone_back_from_says_so(models, tmp_path):
    three_releases(models, tmp_path)
    rollback(models, offline=True)
    assert [(s.version, s.state) for s in standings(models)] == [(3, "rolled back"), (2, "stable"), (1, "previous")]


def test_since_is_when_a_version_took_its_part(models, tmp_path):
    three_releases(models, tmp_path)
    lines = (models / "pickup_eta/releases.jsonl").read_text().splitlines()
    dated = [json.dumps(json.loads(line) | {"at": f"2026-01-0{day}"}) for day, line in enumerate(lines, 1)]
    (models / "pickup_eta/releases.jsonl").write_text("\n".join(dated) + "\n")
    # stable 3 since the third, and so version 2 is not stable any more since the same day
    assert [(s.version, s.since) for s in standings(models)] == [
        (3, "2026-01-03"),
        (2, "2026-01-03"),
        (1, "2026-01-02"),
    ]


@pytest.mark.slow
def test_script_shows_releases_as_a_table_and_as_json(models, tmp_path):
    three_releases(models, tmp_path)
    command = [sys.executable, SCRIPTS / "releases.py", "--repository", models]
    table = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "stable" in table
    assert "63.0" in table  # 60 + version
    told = json.loads(subprocess.run([*command, "--json"], capture_output=True, text=True, check=True).stdout)
    assert [(row["version"], row["state"]) for row in told] == [(3, "stable"), (2, "previous"), (1, "retired")]


def test_script_names_a_repository_that_is_not_there(tmp_path):
    command = [sys.executable, SCRIPTS / "releases.py", "--repository", tmp_path / "none"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert "none is none: name one by --repository" in done.stderr


def test_rule_of_the_config_is_that_of_the_stable_version(models, tmp_path):
    for version, rule in ((1, '{"zone": 1}'), (2, '{"zone": 2}')):
        run, model = write_tiny_run(tmp_path / f"run{version}"), tiny_model()
        model.metadata_props.add(key="hailtime.rule", value=rule)
        store_model(run, model.SerializeToString())
        publish(run, models)
        changed(models, "deploy", version, Rollout(version))
    rollback(models, offline=True)
    config = text_format.Parse(read_served(models).text, model_config_pb2.ModelConfig())
    assert config.parameters["rule"].string_value == '{"zone": 1}'
