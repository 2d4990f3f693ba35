"""All learners on the same rows: python scripts/compare.py [source=nyc_ems] [--trials 20] [--seeds 1 2 3]

The rule, the zone's median, ridge, naive Bayes, tree, SVM, forest, LightGBM, XGBoost, CatBoost and every network, each
tuned with the same number of trials. Leaves benchmarks/compare_<name>.json, .md and .png. After a kill the same command
makes what is missing; its work is in runs/compare/<name>. What the JSON has of the same data and settings is kept.
"""

import argparse
import json
import logging
import warnings
from pathlib import Path

from hailtime.comparison.compare import compare, networks
from hailtime.comparison.page import markdown, picture
from hailtime.config import check_command_line, chosen_source
from hailtime.durable import store_file
from hailtime.report import run_script


def main() -> None:
    parser = argparse.ArgumentParser(description="Compare all learners on the same rows.")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="as for train.py; networks see all of them")
    parser.add_argument("--trials", type=int, default=20, help="tuning trials of each learner; 0 takes first values")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--only", nargs="+", default=[], metavar="LEARNER", help="make these entries alone")
    parser.add_argument("--name", help="of the comparison; the source's by itself")
    parser.add_argument("--out", type=Path, default=Path("benchmarks"), help="folder of the table and the picture")
    arguments = parser.parse_intermixed_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s  %(message)s", datefmt="%H:%M:%S")
    warnings.simplefilter("ignore")  # of libraries, about their own future
    check_command_line("train", arguments.overrides)
    name = arguments.name or chosen_source(arguments.overrides)
    stem = arguments.out / f"compare_{name}"
    result = compare(
        Path("runs/compare") / name,
        arguments.overrides,
        seeds=arguments.seeds,
        n_trials=arguments.trials,
        only=arguments.only,
        published=stem.with_suffix(".json"),
    )
    arguments.out.mkdir(parents=True, exist_ok=True)
    table = markdown(result, networks())
    store_file(stem.with_suffix(".json"), json.dumps(result, indent=1))
    store_file(stem.with_suffix(".md"), table)
    picture(result, networks(), stem.with_suffix(".png"))
    print(table)


if __name__ == "__main__":
    run_script(main)
