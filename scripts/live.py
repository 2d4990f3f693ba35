"""The story, live: python scripts/live.py [--keep-open]

A simulated city plays, sixty times as fast as real time, against a real Triton, a backend and the monitor; its highway
closes, and what then happens, happens by itself. Takes under ten minutes on two cores. Leaves runs/live/ with
summary.json, story.png, the prediction log, the model repository and the retrainings. docs/retraining.md tells it.
"""

import argparse
import logging
import shutil
import signal
import time
from contextlib import suppress
from pathlib import Path
from types import FrameType

from hailtime.config import train_config
from hailtime.errors import ConfigError
from hailtime.evaluate import evaluate
from hailtime.export import export
from hailtime.report import run_script
from hailtime.serving.deploy import deploy
from hailtime.training.train import train

DAY_S = 86_400.0
FIRST = ("source.load.n_requests=150000", "prepared=data/prepared/live", "run_name=live_first")  # half of the demo's


def main() -> None:
    arguments = read_arguments()
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        from hailtime.example.ending import story_table, sum_up
        from hailtime.example.story import Chapters, Story
        from hailtime.example.world import Playing, World, running
    except ImportError as error:
        raise ConfigError("the story needs more packages: pip install 'hailtime[train,example]'") from error
    began, folder = time.monotonic(), arguments.folder
    run = first_model(arguments.run)
    if folder.exists():
        shutil.rmtree(folder)
    bad = folder / "bad"
    bad.mkdir(parents=True)
    playing = Playing(arguments.speed, arguments.requests_a_day)
    with (
        World(folder, run, playing) as world,
        running(("-m", "hailtime.example.bad_model", bad), folder / "bad.log", is_training=True),
    ):
        world.set_clock(before_s=DAY_S)  # it went live the day before
        deploy(run, world.repository, world.triton.url, why="trained on the winter")
        world.begin()
        for name, url in world.pages.items():
            print(f"{name:<10}{url}", flush=True)
        story = Story(world, bad, Chapters(), lambda line: print(line, flush=True))
        story.tell()
        story_table(sum_up(story))
        print(f"took {(time.monotonic() - began) / 60:.1f} minutes; {folder}/summary.json, {folder}/story.png")
        if arguments.keep_open:
            print("the pages stay open: Ctrl-C ends them", flush=True)
            signal.pause()


def first_model(run: Path) -> Path:
    """The given run, or a smaller one trained now on the city's past."""
    if (run / "model.onnx").exists():
        return run
    print(f"there is no {run} (make demo makes it): training a smaller model first, a minute or two", flush=True)
    config = train_config(FIRST)
    folder = Path("runs", str(config.run_name))
    if not (folder / "model.onnx").exists():
        train(config, folder)
        evaluate(folder, against=("rule",))
        export(folder)
    return folder


def read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Show how the model keeps itself right, in a city that plays.")
    parser.add_argument("--run", type=Path, default=Path("runs/demo"), help="the first model; trained where it is not")
    parser.add_argument("--folder", type=Path, default=Path("runs/live"), help="made anew")
    parser.add_argument("--speed", type=float, default=60.0, help="so many times as fast as real time")
    parser.add_argument(
        "--requests-a-day", type=int, default=400_000, help="four or five a real second at 1, at 60 some 300"
    )
    parser.add_argument("--keep-open", action="store_true", help="leave the pages on at the end")
    return parser.parse_args()


def _interrupt(signal_number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        run_script(main)
