"""The story of `make live`, shortened and without anybody looking: a real Triton, real processes, a real retraining.

The city plays 480 times as fast as real time, so its hours take seconds; the first model is small.
"""

import json
import subprocess

import pytest
from hydra import compose, initialize_config_dir

from hailtime.config import CONFIGS
from hailtime.evaluate import evaluate
from hailtime.example.ending import sum_up
from hailtime.example.story import RETRAIN, Chapters, Story
from hailtime.example.world import Playing, World, running
from hailtime.export import export
from hailtime.serving.deploy import deploy
from hailtime.training.train import train

pytestmark = pytest.mark.triton

DAY_S = 86_400
SHORT = Chapters(
    quiet=40,
    learn=80,
    live=4000,
    retrain=RETRAIN | {"rollout.poll_s": 480, "rollout.rows": 300, "train.data.batch_size": 128},
)


@pytest.fixture(scope="module")
def first_run(tmp_path_factory):
    """Good enough that a closed highway stands out."""
    folder = tmp_path_factory.mktemp("first")
    overrides = ["experiment=smoke", f"prepared={folder / 'data'}", "run_name=first", "source.load.n_requests=20000"]
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        config = compose("train", overrides=[*overrides, "trainer.max_epochs=5"])
    train(config, folder / "run")
    evaluate(folder / "run", against=("rule",))
    export(folder / "run")
    return folder / "run"


@pytest.fixture(scope="module")
def told(first_run, installation, tmp_path_factory):
    """The story, its summary, and the lines it said."""
    folder, lines = tmp_path_factory.mktemp("live"), []
    bad = folder / "bad"
    bad.mkdir()
    playing = Playing(speed=480, requests_a_day=50_000)
    making = running(("-m", "hailtime.example.bad_model", bad), folder / "bad.log", is_training=True)
    with World(folder, first_run, playing) as world, making:
        world.set_clock(before_s=DAY_S)
        deploy(first_run, world.repository, world.triton.url)
        world.begin()
        story = Story(world, bad, SHORT, lines.append)
        story.tell()
        return story, sum_up(story), lines, world.folder


def test_nobody_was_left_without_the_models_answer(told):
    _, summary, _, _ = told
    assert summary["failed"] == 0
    assert summary["answered_by"] == {"triton": summary["requests"]}
    assert summary["requests"] > 5000


def test_the_error_rose_with_the_closed_highway_and_fell_with_the_new_model(told):
    _, summary, _, _ = told
    before, closed, after = (
        summary[f"mae_{name}_s"] / summary[f"best_possible_{name}_s"] for name in ("before", "closed", "after")
    )
    assert closed > 1.15 * before
    assert after < 1 + 0.7 * (closed - 1)


def test_both_bad_models_were_stopped(told):
    story, summary, _, _ = told
    assert "gate parity" in summary["bad_model_stopped_by"]
    assert "scripts/rollback.py" in summary["bad_model_stopped_by"]
    assert story.stable() == story.stable(story.marks["live"] + 1)


def test_it_tells_what_happened_in_its_order(told):
    _, summary, lines, folder = told
    text = "\n".join(lines)
    places = [text.index(words) for words in ("HIGHWAY CLOSES", "ALERT the world changed", "retrain.py", "rollback.py")]
    assert places == sorted(places)
    assert json.loads((folder / "summary.json").read_text()) == summary
    assert (folder / "story.png").read_bytes().startswith(b"\x89PNG")


def test_nothing_runs_on_when_it_is_over(told):
    *_, folder = told
    shown = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    assert [line for line in shown.splitlines() if str(folder) in line] == []
