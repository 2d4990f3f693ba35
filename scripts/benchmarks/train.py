"""The training loop: Hailtime's beside one written by hand, streamed data beside a resident table, and other libraries.

Same network, rows, batches, optimiser, clipping, schedule and averaging, in turns in one process. The time is that of
the training steps; validation and saving are left out on both sides. Ratios are medians of the turns.
"""

import argparse
import logging
import statistics
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import pytorch_lightning as lightning
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig
from rich.table import Table

from benchmarks.hand_loop import HandLoop, seconds_of
from benchmarks.training_peers import peers
from hailtime.config import train_config
from hailtime.preparation.from_config import prepared_data
from hailtime.preparation.prepared import Prepared
from hailtime.report import console
from hailtime.training.checkpoints import Checkpoints
from hailtime.training.data import PreparedData, to_rows
from hailtime.training.features import FeatureSpec
from hailtime.training.fit_features import fit_features
from hailtime.training.model import TargetScale
from hailtime.training.module import PickupTimeModule
from hailtime.training.train import build_network, compile_network

# Large steps are the network of configs/ on 4,096 rows; the small ones take about a millisecond on a CPU core.
STEPS = {
    "large": ["data.batch_size=4096", "network.width=256"],
    "1 ms": ["data.batch_size=64", "network.width=32", "network.depth=2", "network.d_embedding=4"],
}


# perceptrons as other libraries have them: numbers as they are, short embeddings of categories, three layers; a
# wide one spends its steps on multiplications, which are the same for all, a narrow one shows what a library adds
WIDTHS = (256, 64)
PERCEPTRON = [
    "network=mlp", "network.encoding=standard", "network.d_embedding=4", "network.map_sides=[]", "data.batch_size=512",
]  # fmt: skip


class Watch(lightning.Callback):
    """Seconds from the start of each epoch to the end of its last step."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    def on_train_epoch_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        self.start = time.perf_counter()

    def on_train_batch_end(self, trainer: lightning.Trainer, *_: Any) -> None:
        if trainer.is_last_batch:
            if trainer.strategy.root_device.type == "cuda":
                torch.cuda.synchronize()
            self.seconds.append(time.perf_counter() - self.start)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--requests", type=int, default=400_000, help="trips of the simulated city")
    parser.add_argument("--turns", type=int, default=5, help="of each loop")
    parser.add_argument("--small-rows", type=int, default=100_000, help="rows of an epoch of small steps")
    parser.add_argument("--no-peers", action="store_true", help="leave other libraries out, which are installed for it")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="as for train.py: compile=true, trainer=gpu")


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    logging.getLogger("pytorch_lightning.utilities.rank_zero").setLevel(logging.WARNING)
    warnings.simplefilter("ignore")  # Lightning's tips
    lightning.seed_everything(1, verbose=False)
    with tempfile.TemporaryDirectory() as made:
        common = [f"source.load.n_requests={arguments.requests}", f"prepared={made}/city", "run_name=x"]
        configs = {name: train_config([*common, *steps, *arguments.overrides]) for name, steps in STEPS.items()}
        prepared = prepared_data(configs["large"])
        spec = fit_features(prepared.schema, prepared.part("train"))
        loops = {
            "large": turns(configs["large"], prepared, spec, arguments.turns, None, Path(made)),
            "1 ms": turns(configs["1 ms"], prepared, spec, arguments.turns, arguments.small_rows, Path(made)),
        }
        stream = streaming(configs["large"], prepared, spec, arguments.turns, Path(made))
        figures = {"settings": list(arguments.overrides), "loops": loops, "streaming": stream}
        if not arguments.no_peers:
            figures["perceptrons"] = {
                str(width): perceptrons(
                    train_config([*common, *PERCEPTRON, f"network.width={width}", "trainer=cpu"]),
                    prepared,
                    spec,
                    Path(made),
                )
                for width in WIDTHS
            }
    return figures


def turns(
    config: DictConfig, prepared: Prepared, spec: FeatureSpec, n_turns: int, n_rows: int | None, folder: Path
) -> dict[str, float]:
    """Rows a second of both loops in turns; one epoch of each before the first turn is not counted."""
    data = Given(prepared, spec, seed=1, **config.data, limit=n_rows)
    trained, by_hand = [], []
    hand = None
    for _ in range(n_turns):
        watch, batches = fit(config, data, spec, folder)
        trained.append(watch.seconds[-1])
        if hand is None:
            network = build_network(config, spec).to(batches.rows.target.device)
            compile_network(network, config.compile)
            precision = config.trainer.precision
            hand = HandLoop(network, batches.rows, config.data.batch_size, config.module.forget, precision)
            hand.epoch()
        by_hand.append(seconds_of(hand.epoch, hand.device))
    assert hand is not None
    n_used = hand.n_steps * config.data.batch_size
    ratios = [h / t for h, t in zip(by_hand, trained, strict=True)]
    return {
        "rows_per_s": n_used / statistics.median(trained),
        "rows_per_s_by_hand": n_used / statistics.median(by_hand),
        "ms_per_step_by_hand": statistics.median(by_hand) / hand.n_steps * 1e3,
        "ratio": statistics.median(ratios),
        "ratio_least": min(ratios),
        "ratio_most": max(ratios),
    }


class Given(PreparedData):
    """The data with its training batches made once, of the first `limit` rows."""

    def __init__(self, *of_data: Any, limit: int | None = None, **settings: Any) -> None:
        super().__init__(*of_data, **settings)
        self.limit = limit
        self.made: Any = None

    def train_dataloader(self) -> Any:
        if self.made is None:
            self.made = super().train_dataloader()
            if self.limit:
                rows = self.made.rows.take(slice(0, self.limit))
                self.made = type(self.made)(rows, self.batch_size, self.steps_per_call, self.seed)
        return self.made


def fit(
    config: DictConfig, data: PreparedData, spec: FeatureSpec, folder: Path, n_epochs: int = 2
) -> tuple[Watch, Any]:
    """Trains as train.py does, from fresh weights, for two epochs: the first is not counted."""
    network = build_network(config, spec)
    compile_network(network, config.compile)
    module = PickupTimeModule(
        network,
        TargetScale(data.prepared.schema, spec),
        instantiate(config.loss, _convert_="all"),
        instantiate(config.optimizer),
        instantiate(config.scheduler),
        batch_size=data.share,
        n_steps=1000 * data.steps_an_epoch,
        **config.module,
    )
    watch = Watch()
    averaging = instantiate(config.callbacks.averaging)
    callbacks = [averaging, watch, Checkpoints(folder, config.seed, config.save_every_min)]
    trainer = instantiate(
        config.trainer, callbacks=callbacks, logger=False, enable_progress_bar=False, max_epochs=n_epochs
    )
    trainer.fit(module, data)
    return watch, data.train_dataloader()


def streaming(
    config: DictConfig, prepared: Prepared, spec: FeatureSpec, n_turns: int, folder: Path
) -> dict[str, float]:
    """Rows a second of training from files as a share of that from memory, and of reading alone."""
    settings = {**config.data, "buffer_rows": 100_000}
    kinds = {
        name: PreparedData(prepared, spec, seed=1, **{**settings, "resident": name == "resident"})
        for name in ("resident", "streamed")
    }
    spent: dict[str, list[float]] = {name: [] for name in kinds}
    for _ in range(n_turns):
        for name, data in kinds.items():
            spent[name].append(fit(config, data, spec, folder)[0].seconds[-1])
    n_rows = len(to_rows(prepared.schema, spec, prepared.part("train")))
    stream = kinds["streamed"].train_dataloader()
    reading_s = seconds_of(lambda: sum(len(rows) for rows in stream), torch.device("cpu"))
    ratios = [r / s for r, s in zip(spent["resident"], spent["streamed"], strict=True)]
    return {
        **{f"rows_per_s_{name}": n_rows / statistics.median(seconds) for name, seconds in spent.items()},
        "rows_per_s_reading_alone": n_rows / reading_s,
        "ratio": statistics.median(ratios),
        "ratio_least": min(ratios),
        "ratio_most": max(ratios),
    }


def perceptrons(config: DictConfig, prepared: Prepared, spec: FeatureSpec, folder: Path) -> dict[str, Any]:
    """Rows a second of the same perceptron here and in other libraries, all of them on the CPU."""
    data = PreparedData(prepared, spec, seed=1, **config.data)
    watch, batches = fit(config, data, spec, folder, n_epochs=4)
    n_used = len(batches.rows) // config.data.batch_size * config.data.batch_size
    weights = sum(weight.numel() for weight in build_network(config, spec).parameters())
    ours = {"rows_per_s": n_used / statistics.median(watch.seconds[1:]), "weights": weights}
    others = peers(batches.rows, width=config.network.width, batch_size=config.data.batch_size, folder=folder)
    return {"hailtime": ours, **others}


def show(figures: dict[str, Any]) -> None:
    table = Table(title="Training, rows a second", title_justify="left")
    for heading in ("", "Hailtime", "the other", "share", "least", "most"):
        table.add_column(heading, justify="left" if not heading else "right")
    for name, loop in figures["loops"].items():
        label = f"{name} steps ({loop['ms_per_step_by_hand']:.2f} ms), beside a loop by hand"
        table.add_row(label, *_cells(loop["rows_per_s"], loop["rows_per_s_by_hand"], loop))
    stream = figures["streaming"]
    table.add_row(
        "streamed, beside resident", *_cells(stream["rows_per_s_streamed"], stream["rows_per_s_resident"], stream)
    )
    for width, by_library in figures.get("perceptrons", {}).items():
        ours = by_library["hailtime"]["rows_per_s"]
        for name, other in list(by_library.items())[1:]:  # ours is the first
            rows_per_s = other["rows_per_s"]
            cells = (f"{ours:,.0f}", f"{rows_per_s:,.0f}", f"{ours / rows_per_s:.2f}", "", "")
            table.add_row(f"a perceptron {width} wide of {name}", *cells)
    console().print(table)


def _cells(ours: float, other: float, figures: dict[str, float]) -> list[str]:
    return [f"{ours:,.0f}", f"{other:,.0f}", *(f"{figures[key]:.2f}" for key in ("ratio", "ratio_least", "ratio_most"))]
