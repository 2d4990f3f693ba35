"""Finds how to serve a run on this machine: python scripts/tune_serving.py runs/NAME --p99-ms 5 --rps 500

Tries instances, threads and batching on a Triton of its own, with requests that come when they come. What keeps 99 % of
them within the goal goes into serving.yaml of the repository, which the next deployment reads; all trials into
RUN/tuning.json and RUN/plots/latency_against_load.png. Exit status 1, and nothing changed, when no setting does.
"""

import argparse
import itertools
import logging
import math
import sys
from datetime import UTC, datetime
from pathlib import Path

from hailtime.cores import usable_cores
from hailtime.report import run_script
from hailtime.serving.settings import Settings, read_settings, store_settings
from hailtime.serving.tuning import Measured
from hailtime.serving.tuning_run import Goal, Tuned, tune


def main() -> None:
    arguments = read_arguments()
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    goal = Goal(arguments.p99_ms, arguments.rps)
    base = read_settings(arguments.repository) or Settings()
    number = itertools.count(1)
    print(f"goal: p99 of {goal.p99_ms:g} ms at {goal.rps:g} requests/s, one row each, on {arguments.cores} cores")
    tuned = tune(
        arguments.run,
        goal,
        base,
        n_cores=arguments.cores,
        seconds=arguments.seconds,
        tell=lambda trial: tell(next(number), trial, goal),
    )
    keep(tuned, arguments.run)
    conclude(tuned, arguments.repository)


def tell(number: int, trial: Measured, goal: Goal) -> None:
    verdict = "meets it" if trial.rps >= goal.rps and trial.meets(goal.p99_ms) else ""
    if trial.n_answered < trial.n_due:
        verdict = f"{trial.n_due - trial.n_answered} of {trial.n_due} not answered"
    figures = f"p50 {trial.p50_ms:7.2f}  p95 {trial.p95_ms:7.2f}  p99 {trial.p99_ms:7.2f} ms"
    print(f"{number:3}  {trial.settings!s:36} {trial.rps:7.0f}/s  {figures}  {verdict}", flush=True)


def keep(tuned: Tuned, run: Path) -> None:
    from hailtime.plots import latency_against_load  # brings matplotlib, which no trial should wait for

    (run / "tuning.json").write_text(tuned.to_json())
    curves = {
        name: [(trial.rps, trial.p50_ms, trial.p99_ms) for trial in curve if math.isfinite(trial.p99_ms)]
        for name, curve in tuned.curves.items()
    }
    picture = run / "plots" / "latency_against_load.png"
    latency_against_load(
        {name: points for name, points in curves.items() if points}, tuned.goal.p99_ms, tuned.goal.rps, picture
    )
    print(f"all trials: {run / 'tuning.json'}, {picture}")


def conclude(tuned: Tuned, repository: Path) -> None:
    goal, best = tuned.goal, tuned.best
    found = f"{best.settings}: p99 {best.p99_ms:.2f} ms at {goal.rps:g} requests/s (goal {goal.p99_ms:g} ms)"
    same_ms = [t.p99_ms for t in tuned.trials if (t.settings, t.rps) == (best.settings, goal.rps)]
    if max(same_ms) > 2 * min(same_ms) or best.late_p99_ms > goal.p99_ms / 2:
        print(
            f"note: other things run on this machine: the same setting took {min(same_ms):.1f} to {max(same_ms):.1f} "
            f"ms, requests were sent {best.late_p99_ms:.1f} ms late (p99)"
        )
    if tuned.settings is None:
        print(f"no setting meets the goal on this machine, nothing was changed; the best was {found}")
        sys.exit(1)
    why = f"{found}; scripts/tune_serving.py, {datetime.now(UTC):%Y-%m-%d}"
    print(f"{store_settings(repository, tuned.settings, why)}: {found}")
    print("the next deployment takes it: python scripts/deploy.py RUN")


def read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Find how to serve a run on this machine.")
    parser.add_argument("run", type=Path, help="a run folder with model.onnx, such as runs/demo")
    parser.add_argument("--p99-ms", type=float, default=5.0, help="what 99 %% of the requests are to keep")
    parser.add_argument("--rps", type=float, default=500.0, help="requests/s that arrive, one row each")
    parser.add_argument("--repository", type=Path, default=Path("model_repository"), help="where serving.yaml goes")
    parser.add_argument("--seconds", type=float, default=3.0, help="the length of a trial; there are about forty")
    parser.add_argument("--cores", type=int, default=usable_cores(), help="CPU cores to serve with")
    return parser.parse_args()


if __name__ == "__main__":
    run_script(main)
