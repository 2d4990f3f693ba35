"""Trains a model: python train.py [source=nyc_ems] [network.width=128] [experiment=smoke] [-m network.width=64,256]

Leaves runs/<run_name>/. All settings are in configs/train.yaml and beside it. Killed at any moment, the same command
with the same run_name goes on. Several GPUs or machines: docs/training.md.

python train.py from_run=runs/NAME trains a run again from what its folder says, and tells whether it came out the same.

Exit status: 0 trained, 1 replayed with other figures, 2 told what is wrong, 75 asked to go by a signal and saved.
"""

import logging
import sys
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from hailtime.config import check_command_line, checked_main
from hailtime.errors import HailtimeError
from hailtime.report import run_script
from hailtime.training.launch import QUIET, is_first_rank, share_run_name
from hailtime.training.preemption import exit_when_preempted, leave

log = logging.getLogger("hailtime")


@hydra.main(config_path="configs", config_name="train", version_base="1.3")
def main(config: DictConfig) -> None:
    # here, because torch takes seconds and a misspelt setting is told before
    from hailtime.replay import replay
    from hailtime.tracking import follow
    from hailtime.training.checkpoints import Preempted
    from hailtime.training.ranks import is_told_elsewhere
    from hailtime.training.train import train

    folder = Path(HydraConfig.get().runtime.output_dir)
    is_same = True
    try:
        if config.from_run is None:
            train(config, folder)
        else:
            is_same = replay(config, HydraConfig.get().overrides.task, folder)
    except Preempted as error:
        log.info("%s", error)
        leave()
    except Exception as error:
        if not is_told_elsewhere(error):
            if not isinstance(error, HailtimeError):
                raise
            log.error("%s: %s", type(error).__name__, error)
        sys.exit(2)
    log.info("run folder: %s   next: python scripts/evaluate.py %s", folder, folder)
    if is_first_rank():
        follow([folder])
    if not is_same:
        sys.exit(1)


def follow() -> None:
    """Another rank than the first: no log file, no news, and silence about settings, which the first one judges."""
    sys.argv += QUIET
    try:
        check_command_line("train", sys.argv[1:])
    except HailtimeError:
        sys.exit(2)
    main()


if __name__ == "__main__":
    exit_when_preempted()
    run_script(lambda: share_run_name(sys.argv))
    if is_first_rank():
        checked_main("train", main)
    else:
        follow()
