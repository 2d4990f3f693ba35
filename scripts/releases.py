"""What is live, since when, from which run and data, and what became of the others: python scripts/releases.py [--json]

Reads the repository alone, and so also works when the server is down.
"""

import argparse
import json
from dataclasses import asdict
from pathlib import Path

from rich.table import Table

from hailtime.errors import DeployError
from hailtime.report import console, run_script
from hailtime.serving.gates import GateResult
from hailtime.serving.releases import Standing, is_settled, standings


def main() -> None:
    parser = argparse.ArgumentParser(description="Show every release of a model repository.")
    parser.add_argument("--repository", type=Path, default=Path("model_repository"), help="the folder Triton serves")
    parser.add_argument("--json", action="store_true", help="all of it, with what each gate found")
    arguments = parser.parse_args()
    if not arguments.repository.is_dir():
        raise DeployError(
            f"a model repository must be a folder, {arguments.repository} is none: name one by --repository"
        )
    releases = standings(arguments.repository)
    if arguments.json:
        print(json.dumps([asdict(release) for release in releases], indent=1))
        return
    show(releases)
    if not is_settled(arguments.repository):
        print("A change is being made, or who made it was killed: the next deploy.py or rollback.py puts it right.")


def show(releases: list[Standing]) -> None:
    table = Table(title="Releases, the newest first", title_justify="left")
    for heading in ("version", "state", "since, UTC", "run", "data", "MAE, s", "gates", "by", "why"):
        table.add_column(heading, overflow="fold", no_wrap=heading in ("version", "state"))
    for release in releases:
        table.add_row(*cells(release), style="bold" if release.state == "stable" else "")
    console().print(table)


def cells(release: Standing) -> list[str]:
    is_deleted = not release.is_kept and release.state != "refused"
    state = f"{release.state}, deleted" if is_deleted else release.state
    return [
        "–" if release.version is None else str(release.version),
        state,
        release.since.replace("T", " ").removesuffix("+00:00"),
        release.run,
        release.data_fingerprint,
        "" if release.mae_s is None else f"{release.mae_s:.1f}",
        gates_told(release.gates),
        release.by.partition("@")[0],
        release.why,
    ]


def gates_told(gates: tuple[GateResult, ...]) -> str:
    """`5 passed`, `4 passed, error not judged` or `3 passed, latency ✗`."""
    failed = [f"{gate.name} ✗" for gate in gates if not gate.passed]
    unknown = [f"{gate.name} not judged" for gate in gates if gate.passed and gate.text.startswith("not judged")]
    n_passed = len(gates) - len(failed) - len(unknown)
    return ", ".join([f"{n_passed} passed", *unknown, *failed]) if gates else ""


if __name__ == "__main__":
    run_script(main)
