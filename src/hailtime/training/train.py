"""Training: a prepared folder and a configuration in, a run folder out.

`runs/<name>/` then holds what run_folder.py lists, and plots/. `load_run` rebuilds the whole model from it alone.
"""

import json
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytorch_lightning as lightning
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.callbacks import Callback
from torch import nn

from hailtime import plots
from hailtime.durable import store_file
from hailtime.errors import ConfigError, DataError
from hailtime.preparation.from_config import prepared_data
from hailtime.preparation.prepared import Prepared, load_prepared
from hailtime.schema import Schema
from hailtime.training import ranks
from hailtime.training.batches import Rows
from hailtime.training.calibration import Calibration, fit_calibration, slicings_of
from hailtime.training.checkpoints import MONITOR, Checkpoints
from hailtime.training.data import PreparedData
from hailtime.training.features import FeatureSpec
from hailtime.training.fit_features import fit_features
from hailtime.training.launch import placement
from hailtime.training.model import PickupTimeModel, TargetScale
from hailtime.training.module import PickupTimeModule
from hailtime.training.run_folder import (
    CONFIG,
    DATA,
    FINISHED,
    HISTORY,
    MODEL,
    RESUME,
    begin,
    check_data,
    finish,
    freeze,
)
from hailtime.training.streaming import sample
from hailtime.training.warm_start import grown, start_from

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Run:
    """What a run folder holds: the settings, the schema, the fitted features and the model, ready to answer."""

    folder: Path
    config: DictConfig
    schema: Schema
    spec: FeatureSpec
    model: PickupTimeModel

    @property
    def prepared(self) -> Prepared:
        """The data the run was trained on. DataError when its folder holds other data by now."""
        prepared = load_prepared(Path(self.config.prepared))
        check_data(prepared, self.folder)
        return prepared


def train(config: DictConfig, folder: Path, callbacks: Sequence[Callback] = ()) -> Run:
    """Trains what the configuration says and leaves the run folder. Prepares the data first when it is not there.

    In a folder that a killed training left, goes on where that one was; a finished one is not trained again unless
    `config.again`. `callbacks`: beside those of the configuration, who watch this training.
    """
    _check_accelerator(config.trainer.accelerator)
    _check_precision(str(config.trainer.precision))
    lightning.seed_everything(config.seed, workers=True, verbose=False)
    checkpoints = Checkpoints(folder, config.seed, config.save_every_min)
    watching = [*instantiate(config.callbacks).values(), *callbacks, checkpoints]
    with _quiet():
        trainer = _partial(config.trainer)(callbacks=watching, logger=False, **placement())
        ranks.join(trainer)
    ranks.first(lambda: _freeze(config, folder))
    if (folder / FINISHED).exists():
        log.info("%s is finished and not trained again: again=true to do so", folder)
        return load_run(folder)

    prepared = load_prepared(Path(config.prepared))
    spec = FeatureSpec.load(folder / "features.json")
    data = PreparedData(prepared, spec, seed=config.seed, n_ranks=trainer.world_size, **config.data)
    ranks.first(lambda: data.choose(folder / DATA, trainer.strategy.root_device))
    data.chosen = json.loads((folder / DATA).read_text())["resident"]
    network = build_network(config, spec)
    if config.warm_start is not None:
        start_from(network, Path(config.warm_start), spec)
    compile_network(network, config.compile)
    module = PickupTimeModule(
        network,
        TargetScale(prepared.schema, spec),
        instantiate(config.loss, _convert_="all"),
        instantiate(config.optimizer),
        instantiate(config.scheduler),
        batch_size=data.share,
        n_steps=data.steps_an_epoch * config.trainer.max_epochs,
        **config.module,
    )
    resume = folder / RESUME if (folder / RESUME).exists() else None
    n_weights = sum(weight.numel() for weight in network.parameters())
    log.info("%s %s, %s weights", "go on training" if resume else "train", type(network).__name__, f"{n_weights:,}")
    with _quiet():
        trainer.fit(module, data, ckpt_path=resume, weights_only=True)
    ranks.first(lambda: _finish(config, folder, data, network, checkpoints))
    return load_run(folder)


def load_run(folder: Path) -> Run:
    """The model of a run folder. DataError when it is not one, or its files belong to different schemas."""
    if not (folder / "config.yaml").exists():
        raise DataError(f"a run folder holds config.yaml, {folder} does not: train with python train.py")
    config = OmegaConf.load(folder / "config.yaml")
    assert isinstance(config, DictConfig)
    schema = Schema.from_json((folder / "schema.json").read_text())
    spec = FeatureSpec.load(folder / "features.json")
    if spec.schema_fingerprint != schema.fingerprint:
        raise DataError(
            f"features.json and schema.json of a run must belong together, got fingerprints {spec.schema_fingerprint} "
            f"and {schema.fingerprint} in {folder}: train again"
        )
    network = build_network(config, spec)
    _restore(network, folder / MODEL)
    calibration = Calibration(**json.loads((folder / "calibration.json").read_text()))
    return Run(folder, config, schema, spec, PickupTimeModel(schema, spec, network, calibration).eval())


def build_network(config: DictConfig, spec: FeatureSpec) -> nn.Module:
    """The network a configuration names, for these features, with fresh weights."""
    network: nn.Module = _partial(config.network)(features=spec)
    return network


def compile_network(network: nn.Module, how: bool | str | None) -> None:
    """Has torch.compile take the network's steps, in its mode `how`. Weights keep their names."""
    if not how:
        return
    modes = ("default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs")
    if how is not True and how not in modes:
        raise ConfigError(f"compile must be null, true or a mode of torch.compile ({', '.join(modes)}), got {how!r}")
    network.compile(mode="default" if how is True else how, dynamic=False)


def _partial(config: DictConfig) -> Any:
    """The class or function of a configuration with its settings; called, it takes what only Python can give."""
    return instantiate(config, _partial_=True, _convert_="all")


def _check_accelerator(accelerator: str) -> None:
    """ConfigError when a GPU is asked for and the CPU would be used."""
    if accelerator in ("cuda", "gpu") and not torch.cuda.is_available():
        raise ConfigError(
            f"trainer.accelerator={accelerator} needs a CUDA GPU, torch {torch.__version__} sees none here: "
            "trainer=cpu, or install a CUDA build of torch and NVIDIA's driver"
        )


def _freeze(config: DictConfig, folder: Path) -> None:
    """The first rank's part before training: data prepared, features fitted, the folder says what this run is."""
    if not begin(config, folder):
        return
    prepared = prepared_data(config)
    if (folder / CONFIG).exists():
        check_data(prepared, folder)
        return
    rows = sample(prepared, "train")
    log.info("fit features on %d rows", len(rows))
    spec = fit_features(prepared.schema, rows, **config.features)
    if config.warm_start is not None:
        spec = grown(FeatureSpec.load(Path(config.warm_start) / "features.json"), spec)
    freeze(config, prepared, spec, folder)


def _finish(config: DictConfig, folder: Path, data: PreparedData, network: nn.Module, checkpoints: Checkpoints) -> None:
    """The first rank's part after training: the best epoch calibrated, the pictures, the mark that all is done."""
    _restore(network, folder / MODEL)
    calibrate(folder, config, data.prepared, data.spec, network.cpu(), data.calibration())
    plots.learning_curve(folder / HISTORY, folder / "plots" / "learning_curve.png")
    finish(folder, {"epochs": len(checkpoints.history), MONITOR: checkpoints.best, "n_ranks": data.n_ranks})


def _check_precision(precision: str) -> None:
    """ConfigError for float16, whose gradients must be scaled: our steps do not, and bfloat16 needs none."""
    if precision.startswith("16"):
        raise ConfigError(f"trainer.precision must be 32-true or bf16-mixed, got {precision}")


def _restore(network: nn.Module, checkpoint: Path) -> None:
    """The network's weights from a checkpoint, read as data only: no pickled code runs."""
    try:
        state = torch.load(checkpoint, map_location="cpu", weights_only=True)["state_dict"]
    except FileNotFoundError as error:
        raise DataError(
            f"a run folder holds model.ckpt, {checkpoint.parent} does not: is the training done?"
        ) from error
    except Exception as error:  # torch raises a dozen kinds for a damaged file
        raise DataError(f"{checkpoint} cannot be read as a checkpoint ({error}): train again") from error
    weights = {name.removeprefix("network."): value for name, value in state.items() if name.startswith("network.")}
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        raise DataError(
            f"{checkpoint} was trained on another schema or network than {checkpoint.parent}/config.yaml and "
            f"features.json describe: {str(error).splitlines()[1].strip()}"
        ) from error
    network.eval()


def calibrate(
    folder: Path, config: DictConfig, prepared: Prepared, spec: FeatureSpec, network: nn.Module, rows: Rows
) -> Run:
    """The run with its intervals fitted on the calibration part's rows; leaves calibration.json."""
    model = PickupTimeModel(prepared.schema, spec, network, Calibration()).eval()
    with torch.no_grad():
        target_s = model.scale.to_seconds(rows.target[:, None], rows.x_num)[:, 0]
        quantiles_s = model.from_features(rows.x_num, rows.x_cat)
    slicings = slicings_of(prepared.schema, spec, config.source.get("slices", []), sample(prepared, "train"))
    model.calibration = fit_calibration(quantiles_s, target_s, rows.x_num, rows.x_cat, slicings)
    store_file(folder / "calibration.json", json.dumps(model.calibration.settings(), indent=1))
    return Run(folder, config, prepared.schema, spec, model)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without Lightning's tips and warnings that do not hold here (our loaders are not slow)."""
    logging.getLogger("pytorch_lightning.utilities.rank_zero").setLevel(logging.WARNING)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r".*does not have many workers.*")
        warnings.filterwarnings("ignore", message=r"The `srun` command is available.*")
        warnings.filterwarnings("ignore", message=r".*sync_dist=True.*")  # the module sums over ranks itself
        warnings.filterwarnings("ignore", message=r".*The number of training batches.*")
        warnings.filterwarnings("ignore", message=r".*exists and is not empty.*")
        warnings.filterwarnings("ignore", message=r".*`isinstance\(treespec, LeafSpec\)` is deprecated.*")
        yield
