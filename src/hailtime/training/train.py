"""Training: a prepared folder and a configuration in, a run folder out.

`runs/<name>/` then holds config.yaml (resolved), schema.json, features.json, model.ckpt, calibration.json, history.csv
and plots/. `load_run` rebuilds the whole model from that folder alone.
"""

import json
import logging
import shutil
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
from pytorch_lightning.callbacks import Callback, ModelCheckpoint
from pytorch_lightning.loggers import CSVLogger
from torch import nn

from hailtime import plots
from hailtime.errors import ConfigError, DataError
from hailtime.preparation.from_config import prepared_data
from hailtime.preparation.prepared import Prepared, load_prepared
from hailtime.schema import Schema
from hailtime.training.batches import PreparedData, Rows
from hailtime.training.calibration import Calibration, fit_calibration, slicings_of
from hailtime.training.features import FeatureSpec
from hailtime.training.fit_features import fit_features
from hailtime.training.model import PickupTimeModel, TargetScale
from hailtime.training.module import PickupTimeModule

log = logging.getLogger(__name__)

CHECKPOINT = "model.ckpt"


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
        trained_on = json.loads((self.folder / "data.json").read_text())["fingerprint"]
        if prepared.fingerprint != trained_on:
            raise DataError(
                f"{self.folder} was trained on data {trained_on}, and {prepared.folder} holds {prepared.fingerprint} "
                f"by now: prepare it again with the settings of {self.folder / 'config.yaml'}, or train again"
            )
        return prepared


def train(config: DictConfig, folder: Path, callbacks: Sequence[Callback] = ()) -> Run:
    """Trains what the configuration says and leaves the run folder. Prepares the data first when it is not there.

    `callbacks`: beside those of the configuration, who watch this training.
    """
    _check_accelerator(config.trainer.accelerator)
    lightning.seed_everything(config.seed, workers=True, verbose=False)
    prepared = prepared_data(config)
    log.info("fit features on %d rows", len(prepared.part("train")))
    spec = fit_features(prepared.schema, prepared.part("train"), **config.features)
    freeze(config, prepared, spec, folder)

    data = PreparedData(prepared, spec, seed=config.seed, **config.data)
    network = build_network(config, spec)
    module = PickupTimeModule(
        network,
        TargetScale(prepared.schema, spec),
        instantiate(config.loss, _convert_="all"),
        instantiate(config.optimizer),
        instantiate(config.scheduler),
        batch_size=config.data.batch_size,
        **config.module,
    )
    checkpoint = ModelCheckpoint(folder, "model", monitor="val/mae_s", enable_version_counter=False)
    watching = [*instantiate(config.callbacks).values(), checkpoint, *callbacks]
    n_weights = sum(weight.numel() for weight in network.parameters())
    log.info("train %s, %s weights", type(network).__name__, f"{n_weights:,}")
    with _quiet():
        trainer = _partial(config.trainer)(callbacks=watching, logger=CSVLogger(folder / "history"))
        trainer.fit(module, data)

    _restore(network, folder / CHECKPOINT)
    rows = data.part("calibration").to(torch.device("cpu"))
    run = calibrate(folder, config, prepared, spec, network.cpu(), rows)
    plots.learning_curve(_history(folder), folder / "plots" / "learning_curve.png")
    return run


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
    _restore(network, folder / CHECKPOINT)
    calibration = Calibration(**json.loads((folder / "calibration.json").read_text()))
    return Run(folder, config, schema, spec, PickupTimeModel(schema, spec, network, calibration).eval())


def build_network(config: DictConfig, spec: FeatureSpec) -> nn.Module:
    """The network a configuration names, for these features, with fresh weights."""
    network: nn.Module = _partial(config.network)(features=spec)
    return network


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


def freeze(config: DictConfig, prepared: Prepared, spec: FeatureSpec, folder: Path) -> None:
    """All that says what this run is, written before the first step."""
    folder.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(folder / "history", ignore_errors=True)  # of a training that was interrupted
    OmegaConf.save(config, folder / "config.yaml", resolve=True)
    (folder / "schema.json").write_text(prepared.schema.to_json())
    (folder / "data.json").write_text(json.dumps({"folder": str(prepared.folder), "fingerprint": prepared.fingerprint}))
    spec.save(folder / "features.json")


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
    slicings = slicings_of(prepared.schema, spec, config.source.get("slices", []), prepared.part("train"))
    model.calibration = fit_calibration(quantiles_s, target_s, rows.x_num, rows.x_cat, slicings)
    (folder / "calibration.json").write_text(json.dumps(model.calibration.settings(), indent=1))
    return Run(folder, config, prepared.schema, spec, model)


def _history(folder: Path) -> Path:
    """Moves Lightning's metrics.csv to history.csv."""
    (written,) = (folder / "history").rglob("metrics.csv")
    history = folder / "history.csv"
    shutil.move(written, history)
    shutil.rmtree(folder / "history")
    return history


@contextmanager
def _quiet() -> Iterator[None]:
    """Without Lightning's tips and warnings that do not hold here (our loaders are not slow)."""
    logging.getLogger("pytorch_lightning.utilities.rank_zero").setLevel(logging.WARNING)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r".*does not have many workers.*")
        warnings.filterwarnings("ignore", message=r".*The number of training batches.*")
        warnings.filterwarnings("ignore", message=r".*exists and is not empty.*")
        warnings.filterwarnings("ignore", message=r".*`isinstance\(treespec, LeafSpec\)` is deprecated.*")
        yield
