"""The story of `make live`, shortened and without anybody looking: a real Triton, real processes, a real retraining.

The city plays 480 times as fast as real time, so its hours take seconds; the first model is small.
"""

import subprocess

import pytest

from hailtime.config import train_config
from hailtime.evaluate import evaluate
from hailtime.example.figures import Window, answers, errors
from hailtime.example.story import RETRAIN, Chapters, Story
from hailtime.example.world import Playing, World
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
    config = train_config([*overrides, "trainer.max_epochs=5"])
    train(config, folder / "run")
    evaluate(folder / "run", against=("rule",))
    export(folder / "run")
    return folder / "run"


@pytest.fixture(scope="module")
def told(first_run, installation, tmp_path_factory):
    """The story without its last chapter, which needs hours for the alerts to be over; and the lines it said."""
    folder, lines = tmp_path_factory.mktemp("live"), []
    bad = folder / "bad"
    bad.mkdir()
    with World(folder, first_run, Playing(speed=480, requests_a_day=50_000)) as world:
        world.set_clock(before_s=DAY_S)
        deploy(first_run, world.repository, world.triton.url)
        world.begin()
        story = Story(world, bad, SHORT, lines.append)
        story.keep_right()
        story.wait(90)
        story.ship_scaled()
        return story, world.player, lines


def found(told, begins, ends, version):
    """Error over the best possible of the rides asked for between two marks."""
    story, player, _ = told
    window = Window(story.marks[begins], story.marks[ends], version)
    one = errors(answers(story.world.log, player.truth(), window))
    return one["mae_s"] / one["best_possible_s"]


def test_nobody_was_left_without_the_models_answer(told):
    _, player, _ = told
    assert player.n_failed == 0
    assert player.counts["triton"] > 5000


def test_the_error_rose_with_the_closed_highway_and_fell_with_the_new_model(told):
    before, closed = found(told, "begun", "closed", "1"), found(told, "closed", "live", "1")
    after = found(told, "live", "scaled", "2")
    assert closed > 1.1 * before
    assert after < closed


def test_a_file_with_scaled_answers_was_refused_by_the_parity_gate(told):
    story, _, _ = told
    assert story.stopped_by == ["scaled answers: gate parity, nobody was answered by it"]
    assert story.stable() == 2


def test_it_tells_what_happened_in_its_order(told):
    text = "\n".join(told[2])
    places = [text.index(words) for words in ("HIGHWAY CLOSES", "ALERT the world changed", "retrain.py", "SHIPS")]
    assert places == sorted(places)


def test_nothing_runs_on_when_it_is_over(told):
    shown = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    assert [line for line in shown.splitlines() if str(told[0].world.folder) in line] == []
