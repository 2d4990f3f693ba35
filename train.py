"""Trains a model: python train.py [source=nyc_ems] [network.width=128] [experiment=smoke] [-m network.width=64,256]

Leaves runs/<run_name>/. All settings are in configs/train.yaml and beside it.
"""

import logging
import sys
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from hailtime.config import checked_main
from hailtime.errors import HailtimeError

log = logging.getLogger("hailtime")


@hydra.main(config_path="configs", config_name="train", version_base="1.3")
def main(config: DictConfig) -> None:
    from hailtime.training.train import train  # here, because torch takes seconds and a misspelt setting is told before

    folder = Path(HydraConfig.get().runtime.output_dir)
    try:
        train(config, folder)
    except HailtimeError as error:
        log.error("%s: %s", type(error).__name__, error)
        sys.exit(2)
    log.info("run folder: %s   next: python scripts/evaluate.py %s", folder, folder)


if __name__ == "__main__":
    checked_main("train", main)
