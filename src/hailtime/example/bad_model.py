"""Two models that nobody should ship, made as they really come about: python -m hailtime.example.bad_model FOLDER

`mislabelled`: an app release calls a driver "there" as soon as he is around the corner, so pickup times are 40 % too
short, in its test part as well. It trains, judges and exports like any other, and looks good wherever it is looked at
offline. `scaled`: somebody multiplied a good run's answers by a constant, in its file.
"""

import hashlib
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import onnx
import polars as pl
from onnx import helper, numpy_helper

from hailtime.config import train_config
from hailtime.evaluate import evaluate
from hailtime.export import export
from hailtime.preparation.dataset import prepare
from hailtime.preparation.from_config import source_settings
from hailtime.sources import Blocks, RawData
from hailtime.sources.simulated_city import load
from hailtime.training.train import train

TOO_SHORT = 0.6  # of the real pickup time
N_TRIPS = 12_000
OUTPUT = "pickup_time_s"


def mislabelled(folder: Path) -> Path:
    """The run folder within `folder`, trained in some ten seconds."""
    data, run = folder / "data", folder / "mislabelled"
    overrides = ["experiment=smoke", f"prepared={data}", "run_name=mislabelled", f"source.load.n_requests={N_TRIPS}"]
    config = train_config(overrides)
    raw = load(N_TRIPS)
    trips = Blocks(lambda: map(_arrived_too_early, raw.blocks()))
    prepare(RawData(trips, raw.conditions), source_settings(config), data)
    train(config, run)
    evaluate(run, against=("rule",))
    export(run)
    return run


def _arrived_too_early(trips: pl.DataFrame) -> pl.DataFrame:
    waited = pl.col("arrived_at") - pl.col("requested_at")
    return trips.with_columns(arrived_at=pl.col("requested_at") + (waited * TOO_SHORT).cast(pl.Int64))


def scaled(run: Path, folder: Path) -> Path:
    """A copy of a good run whose file says `TOO_SHORT` times the answers, and all else that belongs to it."""
    bad = folder / "scaled"
    shutil.copytree(run, bad, dirs_exist_ok=True, ignore=shutil.ignore_patterns("model_repository"))
    model = onnx.load(bad / "model.onnx")
    for node in model.graph.node:
        node.output[:] = ["unscaled" if name == OUTPUT else name for name in node.output]
    model.graph.initializer.append(numpy_helper.from_array(np.float32(TOO_SHORT).reshape(1), "too_short"))
    model.graph.node.append(helper.make_node("Mul", ["unscaled", "too_short"], [OUTPUT]))
    onnx.save(model, bad / "model.onnx")
    told = json.loads((bad / "export.json").read_text())
    told["sha256"] = hashlib.sha256((bad / "model.onnx").read_bytes()).hexdigest()
    (bad / "export.json").write_text(json.dumps(told))
    return bad


if __name__ == "__main__":
    mislabelled(Path(sys.argv[1]))
