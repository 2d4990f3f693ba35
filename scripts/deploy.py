"""Makes a run a version that answers: python scripts/deploy.py RUN [--canary 5 | --shadow]

Without RUN it changes the candidate: --promote, --abort, --canary 25, --shadow. A version that fails a gate is refused
with the reason, and the version before still answers. docs/runbook.md says what to do then.
"""

import argparse
import logging
from pathlib import Path

from hailtime.report import run_script
from hailtime.rollout import Rollout
from hailtime.serving.arguments import add_server_arguments, tls_of
from hailtime.serving.deploy import Aim, Release, abort, aim_candidate, deploy, promote
from hailtime.tracking import follow


def main() -> None:
    arguments = read_arguments()
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    where = {"url": arguments.url, "why": arguments.why, "tls": tls_of(arguments)}
    aim = aim_of(arguments)
    if arguments.run is not None:
        allow_worse = arguments.allow_worse
        tell_release(
            deploy(arguments.run, arguments.repository, aim=aim, allow_worse=allow_worse, **where), arguments.url
        )
    elif arguments.promote:
        tell_plan(promote(arguments.repository, **where))
    elif arguments.abort:
        tell_plan(abort(arguments.repository, **where))
    else:
        tell_plan(aim_candidate(arguments.repository, aim, **where))
    follow(repository=arguments.repository)


def read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Deploy a run to a running Triton, or change the version on trial.")
    parser.add_argument("run", type=Path, nargs="?", help="a run folder with model.onnx, such as runs/demo")
    aims = parser.add_mutually_exclusive_group()
    aims.add_argument("--canary", type=float, metavar="PERCENT", help="let it answer this share of the requests")
    aims.add_argument("--shadow", action="store_true", help="have it asked, but not heard")
    aims.add_argument("--promote", action="store_true", help="let the canary or shadow answer everybody")
    aims.add_argument("--abort", action="store_true", help="end the canary or shadow")
    parser.add_argument("--why", default="", help="kept in the history of releases")
    parser.add_argument("--allow-worse", action="store_true", help="deploy it though its error is larger; is kept")
    add_server_arguments(parser)
    arguments = parser.parse_args()
    if arguments.run is None and not (arguments.promote or arguments.abort or arguments.canary or arguments.shadow):
        parser.error("name a RUN to deploy, or change the candidate: --promote, --abort, --canary PERCENT, --shadow")
    if arguments.run is not None and (arguments.promote or arguments.abort):
        parser.error("--promote and --abort are about the version on trial and take no RUN")
    return arguments


def aim_of(arguments: argparse.Namespace) -> Aim:
    if arguments.canary is not None:
        return Aim("canary", arguments.canary)
    return Aim("shadow") if arguments.shadow else Aim()


def tell_release(release: Release, url: str) -> None:
    part = {"deploy": "answers", "canary": "answers its share", "shadow": "is asked in the shadow"}[release.action]
    print(f"version {release.version} {part} at {url}")
    print(f"at most {release.parity_max_abs_s:.5f} s off PyTorch on {release.n_probe_rows} rows")
    for gate in release.gates:
        if gate.name in ("latency", "error"):
            print(f"{gate.name}: {gate.text}")
    if release.previous is not None:
        print(f"version {release.previous} stays loaded")


def tell_plan(plan: Rollout) -> None:
    print(f"version {plan.stable} is stable")
    if plan.canary is not None:
        print(f"version {plan.canary} answers {plan.canary_percent:g} %")
    if plan.shadow is not None:
        print(f"version {plan.shadow} is asked in the shadow")


if __name__ == "__main__":
    run_script(main)
