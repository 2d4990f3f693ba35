"""Retrains when it is due: python scripts/retrain.py [--because "text"] [--dry-run] [key=value ...]

    python scripts/retrain.py                                   # from cron: decides, and mostly has nothing to do
    python scripts/retrain.py --because "the bridge is open" rollout=direct train.trainer.max_epochs=3

The settings are in configs/retrain.yaml. Exit status: 0 a new version is live, or nothing needed doing; 10 the
challenger was refused; 11 it was live and was rolled back; 75 another retraining is running; 2 wrong settings; 1
something failed, and the same command goes on from where it stopped. docs/retraining.md
"""

import argparse
import logging
import sys
from pathlib import Path

from hailtime.errors import ConfigError, HailtimeError
from hailtime.retraining.retrain import BUSY, Busy, retrain
from hailtime.retraining.settings import RetrainSettings

SETTINGS = Path(__file__).parents[1] / "configs" / "retrain.yaml"


def main() -> int:
    arguments = read_arguments()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    try:
        settings = RetrainSettings.read(arguments.config, arguments.changes)
        outcome = retrain(settings, arguments.because, arguments.dry_run)
    except Busy as error:
        return told(error, BUSY)
    except ConfigError as error:
        return told(error, 2)
    except HailtimeError as error:
        return told(error, 1)
    print(f"{outcome.kind.replace('_', ' ')}: {outcome.why}")
    if outcome.folder is not None:
        print(f"report: {outcome.folder / 'report.html'}")
    return outcome.exit_code


def told(error: HailtimeError, status: int) -> int:
    sys.stderr.write(f"{type(error).__name__}: {error}\n")
    return status


def read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Retrain when it is due, and roll out what is better.")
    parser.add_argument("--config", type=Path, default=SETTINGS, help="the yaml with the settings")
    parser.add_argument("--because", help="retrain now, for this reason")
    parser.add_argument("--dry-run", action="store_true", help="only say what would be done and why")
    parser.add_argument("changes", nargs="*", metavar="key=value", help="settings over those of the yaml, dotted")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
