"""Tunes a network: python scripts/tune.py network=tabm [source=nyc_ems] [--trials 40]

What is tried is in configs/search.yaml. The study is runs/tune/tuning.db: the same command goes on where it was
stopped, and further with more --trials. Leaves configs/experiment/<name>.yaml, which opens with its own command.
"""

import argparse
import logging
from pathlib import Path

from hailtime.config import CONFIGS, check_command_line, train_config
from hailtime.report import run_script
from hailtime.tuning import experiment_yaml, network_name, tune_network


def main() -> None:
    parser = argparse.ArgumentParser(description="Tune a network.")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="as for train.py")
    parser.add_argument("--trials", type=int, default=40, help="ended trials in the study, those of before included")
    parser.add_argument("--name", help="of study and experiment; tuned_<source>_<network> by itself")
    parser.add_argument(
        "--database", type=Path, default=Path("runs/tune/tuning.db"), help="the SQLite file of the study"
    )
    arguments = parser.parse_intermixed_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s  %(message)s", datefmt="%H:%M:%S")
    check_command_line("train", arguments.overrides)
    config = train_config(arguments.overrides)
    name = arguments.name or f"tuned_{config.source.schema.source}_{network_name(config)}"
    study = tune_network(arguments.overrides, database=arguments.database, name=name, n_trials=arguments.trials)
    path = CONFIGS / "experiment" / f"{name}.yaml"
    path.write_text(experiment_yaml(name, arguments.overrides, study))
    print(f"{path}: validation MAE {study.best_value:.2f} s, the best of {len(study.trials)} trials")


if __name__ == "__main__":
    run_script(main)
