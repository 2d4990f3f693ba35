"""The run folder as training makes it: frozen before the first step, gone on with after a kill, and marked at the end.

config.yaml, schema.json, data.json, features.json   what this run is
origin.json                                          by what code, command, packages and machine
resume.ckpt                                          the whole state of the training while it lasts
model.ckpt, history.csv                              the best epoch so far, the figures of all
calibration.json, finished.json                      the training is done
"""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from hailtime.durable import store_file
from hailtime.errors import ConfigError, DataError
from hailtime.preparation.prepared import Prepared
from hailtime.training.features import FeatureSpec
from hailtime.training.origin import ORIGIN, origin

CONFIG, DATA, FINISHED, RESUME = "config.yaml", "data.json", "finished.json", "resume.ckpt"
MODEL, HISTORY = "model.ckpt", "history.csv"
OURS = (FINISHED, RESUME, CONFIG, "schema.json", DATA, "features.json", MODEL, HISTORY, "calibration.json", ORIGIN)
# Where and how often, not what: a run may go on with other values of these.
FREE = ("run_name", "again", "save_every_min", "trainer.accelerator", "trainer.devices", "trainer.num_nodes")
FREE_GROUPS = ("callbacks.progress.",)


def begin(config: DictConfig, folder: Path) -> bool:
    """Whether there is anything to train: False when the run is finished. Clears the folder first when told `again`.

    ConfigError when the folder is of a run with other settings.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if config.again:
        for name in OURS:
            (folder / name).unlink(missing_ok=True)
        shutil.rmtree(folder / "plots", ignore_errors=True)
    if (folder / CONFIG).exists():
        check_same(config, folder)
    return not (folder / FINISHED).exists()


def check_same(config: DictConfig, folder: Path) -> None:
    """ConfigError naming what differs between these settings and those the folder was begun with."""
    there, here = dict(flat_settings(OmegaConf.load(folder / CONFIG))), dict(flat_settings(config))
    names = [name for name in {**there, **here} if name not in FREE and not name.startswith(FREE_GROUPS)]
    different = [name for name in names if there.get(name) != here.get(name)]
    if different:
        listed = "; ".join(f"{name} is {there.get(name)!r} there, {here.get(name)!r} here" for name in different[:5])
        more = f" and {len(different) - 5} more" if len(different) > 5 else ""
        raise ConfigError(
            f"a run goes on with the settings it was begun with, {folder} has others: {listed}{more}: "
            "use those, another run_name=..., or again=true to train it anew"
        )


def freeze(config: DictConfig, prepared: Prepared, spec: FeatureSpec, folder: Path) -> None:
    """All that says what this run is, written before the first step; config.yaml last, so it stands for all."""
    folder.mkdir(parents=True, exist_ok=True)
    store_file(folder / "schema.json", prepared.schema.to_json())
    store_file(folder / DATA, json.dumps(describe_data(prepared), indent=1))
    store_file(folder / ORIGIN, json.dumps(origin(config.seed), indent=1))
    spec.save(folder / "features.json")
    store_file(folder / CONFIG, OmegaConf.to_yaml(config, resolve=True))


def describe_data(prepared: Prepared) -> dict[str, Any]:
    """Which data it is: content, source, span, cleaning. Kept with the run: a prepared folder may be replaced."""
    report = prepared.report
    cleaned = report.get("clean", {})
    found = {finding["name"]: finding["rows"] for finding in cleaned.get("findings", []) if finding["rows"]}
    return {
        "folder": str(prepared.folder),
        "fingerprint": prepared.fingerprint,
        "schema_fingerprint": prepared.schema.fingerprint,
        "source": prepared.schema.source,
        "parts": {
            name: {key: part.get(key) for key in ("rows", "first", "last")} for name, part in report["parts"].items()
        },
        "cleaning": {"rows_in": cleaned.get("rows_in"), "rows_out": cleaned.get("rows_out"), "found": found},
    }


def check_data(prepared: Prepared, folder: Path) -> None:
    """DataError when the data is not what the run was begun on."""
    begun_on = json.loads((folder / DATA).read_text())["fingerprint"]
    if prepared.fingerprint != begun_on:
        raise DataError(
            f"{folder} was trained on data {begun_on}, and {prepared.folder} holds {prepared.fingerprint} by now: "
            f"prepare it again with the settings of {folder / CONFIG}, or train again"
        )


def finish(folder: Path, summary: dict[str, Any]) -> None:
    """Marks the run as finished; the state for resuming has then no use."""
    store_file(folder / FINISHED, json.dumps(summary, indent=1))
    (folder / RESUME).unlink(missing_ok=True)


def flat_settings(config: Any) -> Iterator[tuple[str, Any]]:
    """Every setting by its dotted name."""
    resolved = OmegaConf.to_container(config, resolve=True)
    assert isinstance(resolved, dict)
    yield from _flat("", json.loads(json.dumps(resolved, default=str)))


def _flat(prefix: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, child in value.items():
            yield from _flat(f"{prefix}.{key}" if prefix else key, child)
    else:
        yield prefix, value
