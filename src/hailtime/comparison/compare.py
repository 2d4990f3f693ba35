"""All learners on the same rows: each finished entry is a file of its own, so a comparison goes on after a kill.

`runs/compare/<name>/` holds entries/<learner>-<seed>.json, the studies in tuning.db and the networks' run folders;
what people read goes to `<out>/compare_<name>.json`, `.md` and `.png`. Where that folder is gone, a comparison goes on
from the entries of the JSON.
"""

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hailtime.comparison.entries import LEARNERS, WITHOUT_CHANCE, Comparison, learner_entry, network_entry
from hailtime.config import CONFIGS, train_config
from hailtime.durable import store_file
from hailtime.errors import ConfigError, did_you_mean
from hailtime.locking import locked
from hailtime.metrics import summary
from hailtime.preparation.from_config import prepared_data

log = logging.getLogger(__name__)

AVERAGED = (
    "mae_s", "rmse_s", "median_abs_error_s", "bias_s", "pinball_s", "coverage_p10_p90", "width_p10_p90_s",
    "slice_coverage_least", "slice_coverage_most", "train_s", "bytes", "latency_us",
)  # fmt: skip


def networks() -> list[str]:
    """Every network there is a yaml for."""
    return sorted(path.stem for path in (CONFIGS / "network").glob("*.yaml"))


def compare(
    folder: Path,
    overrides: list[str],
    *,
    seeds: Sequence[int],
    n_trials: int,
    only: Sequence[str] = (),
    published: Path | None = None,
) -> dict[str, Any]:
    """Makes the entries that are missing and returns the whole: settings, entries, means and deviations by learner.

    Entries that an earlier result, the JSON file `published`, has of the same data and settings are not made again.
    ConfigError when the folder holds a comparison of other data or settings, or another process is making entries.
    """
    names = [*LEARNERS, *networks()]
    for name in only:
        if name not in names:
            raise ConfigError(f"there is no learner {name!r}{did_you_mean(name, names)}")
    config = train_config(overrides)
    prepared = prepared_data(config)
    settings = {"data_fingerprint": prepared.fingerprint, "n_trials": n_trials, "overrides": _of_training(overrides)}
    (folder / "entries").mkdir(parents=True, exist_ok=True)
    with locked(folder / ".lock", ConfigError, timeout_s=1.0):  # two would train into the same folders
        _check_same(folder, settings)
        if published and published.exists():
            _take_entries(folder, json.loads(published.read_text()), settings)
        of = Comparison.of(folder, config, overrides, prepared, n_trials)
        for name in only or names:
            for seed in seeds[:1] if name in WITHOUT_CHANCE else seeds:
                _make_entry(of, name, seed)
    rows = {name: len(part.target_s) for name, part in of.parts.items()}
    result = {"source": prepared.schema.source, "rows": rows, "threads": torch.get_num_threads(), **settings}
    result["learners"] = learners_in(folder, names)
    if prepared.schema.truth:
        frame = prepared.part("test")
        truth, target = prepared.schema.truth, prepared.schema.target
        result["best_possible"] = summary(frame[truth].to_numpy(), frame[target].to_numpy())
    return result


def _make_entry(of: Comparison, name: str, seed: int) -> None:
    path = of.folder / "entries" / f"{name}-{seed}.json"
    if not path.exists():
        log.info("── %s, seed %d", name, seed)
        make = learner_entry if name in LEARNERS else network_entry
        store_file(path, json.dumps(make(of, name, seed), indent=1))


def _take_entries(folder: Path, published: dict[str, Any], settings: dict[str, Any]) -> None:
    if any(published.get(key) != value for key, value in settings.items()):
        return
    for name, learner in published["learners"].items():
        for seed, entry in learner["seeds"].items():
            path = folder / "entries" / f"{name}-{seed}.json"
            if not path.exists():
                store_file(path, json.dumps(entry, indent=1))


def learners_in(folder: Path, names: Sequence[str]) -> dict[str, Any]:
    """By learner, the best first: its entries by seed, the mean of each figure and its deviation over seeds."""
    found = {}
    for name in names:
        by_seed = {
            path.stem.rpartition("-")[2]: json.loads(path.read_text())
            for path in sorted((folder / "entries").glob(f"{name}-*.json"))
        }
        if by_seed:
            values = {key: [e[key] for e in by_seed.values() if key in e] for key in AVERAGED}
            found[name] = {
                "mean": {key: float(np.mean(v)) for key, v in values.items() if v},
                "deviation": {key: float(np.std(v, ddof=1)) for key, v in values.items() if len(v) > 1},
                "seeds": by_seed,
            }
    return dict(sorted(found.items(), key=lambda item: item[1]["mean"]["mae_s"]))


def _of_training(overrides: Sequence[str]) -> list[str]:
    """Overrides that decide what is learned; a path is another on every machine."""
    return sorted(o for o in overrides if not o.startswith(("prepared=", "source.load.folder=")))


def _check_same(folder: Path, settings: dict[str, Any]) -> None:
    path = folder / "settings.json"
    if not path.exists():
        store_file(path, json.dumps(settings, indent=1))
        return
    before = json.loads(path.read_text())
    if before != settings:
        differing = ", ".join(f"{key} {before.get(key)} and now {settings[key]}" for key in settings
                              if before.get(key) != settings[key])  # fmt: skip
        raise ConfigError(
            f"entries of one comparison must share data and settings, {folder} was begun with {differing}: "
            "name another by --name, or delete the folder"
        )
