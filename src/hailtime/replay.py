"""A run trained again from what its folder says, and whether it came out the same: python train.py from_run=runs/demo

The settings are the run's own; only where and how often may be given anew (run_folder.FREE), and where the data lies.
"""

import csv
import json
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf, open_dict

from hailtime.errors import ConfigError, DataError
from hailtime.evaluate import evaluate
from hailtime.preparation.from_config import prepared_data
from hailtime.training.origin import code_version, machine, packages, read_origin
from hailtime.training.run_folder import CONFIG, FINISHED, FREE, FREE_GROUPS, HISTORY, check_data
from hailtime.training.train import train

log = logging.getLogger(__name__)

OURS = ("from_run", "prepared", *FREE)


def replay(config: DictConfig, given: Sequence[str], folder: Path) -> bool:
    """Trains the run `config.from_run` again into `folder`; True when every figure is the same to the last digit.

    `given`: the overrides of the command line. ConfigError when they would make it another run, DataError when its data
    is not here; other packages, code or processor are a warning.
    """
    run = Path(config.from_run)
    settings = settings_of(run, config, given)
    check_data(prepared_data(settings), run)
    for what, there, here in differences(run):
        log.warning("%s was %s then and is %s now: the last digits may differ", what, there, here)
    train(settings, folder)
    if (run / "metrics.json").exists():
        evaluate(folder, against=())
    return _is_same(run, folder)


def settings_of(run: Path, config: DictConfig, given: Sequence[str]) -> DictConfig:
    """The run's settings, with those of `given` that may change. Settings that came later have today's default."""
    if not (run / FINISHED).exists():
        raise DataError(f"a replay needs a run that was trained to its end, {run} has no {FINISHED}")
    names = [name for text in given if (name := text.partition("=")[0].lstrip("+~"))]
    others = [name for name in names if name not in OURS and not name.startswith(FREE_GROUPS)]
    if others:
        raise ConfigError(
            f"a replay takes its settings from the run, got {', '.join(others)} as well: leave it out, or train "
            "without from_run"
        )
    settings = OmegaConf.merge({key: config[key] for key in config}, OmegaConf.load(run / CONFIG))
    assert isinstance(settings, DictConfig)
    with open_dict(settings):
        for name in {"from_run", "run_name", "again", *names}:
            OmegaConf.update(settings, name, OmegaConf.select(config, name))
    return settings


def differences(run: Path) -> Iterator[tuple[str, Any, Any]]:
    """What was otherwise when the run was trained and may change its last digits: name, then, now."""
    then = read_origin(run)
    if then is None:
        log.warning("%s does not say with which packages it was trained: it has no origin.json", run)
        return
    here, kept = machine(), then["machine"]
    now = {"code": code_version(), **packages(), **{name: here[name] for name in ("cpu_capability", "threads", "gpu")}}
    before = {"code": then["code"], **then["packages"], **{name: kept.get(name) for name in now.keys() & kept.keys()}}
    for name in [*before, *(name for name in now if name not in before)]:
        if before.get(name) != now.get(name):
            yield name, before.get(name), now.get(name)


def _is_same(run: Path, folder: Path) -> bool:
    """Compares every figure of two runs, and says what came of it."""
    there, here = dict(_figures(run)), dict(_figures(folder))
    differing = [name for name in {**there, **here} if there.get(name) != here.get(name)]
    if not differing:
        log.info("the replay is the same as %s: all %d figures, to the last digit", run, len(there))
        return True
    first = differing[0]
    log.error(
        "the replay is not the same as %s: %d of %d figures differ, the first is %s: %s there, %s here",
        *(run, len(differing), len(there), first, there.get(first), here.get(first)),
    )
    return False


def _figures(run: Path) -> Iterator[tuple[str, Any]]:
    with (run / HISTORY).open() as file:
        for row in csv.DictReader(file):
            yield from ((f"epoch {row['epoch']} {name}", value) for name, value in row.items())
    yield "calibration.json", json.loads((run / "calibration.json").read_text())
    if (run / "metrics.json").exists():
        metrics = json.loads((run / "metrics.json").read_text())
        yield from ((f"test {name}", value) for name, value in metrics["network"].items())
