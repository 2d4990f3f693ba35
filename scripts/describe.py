"""Describes an unknown table: python scripts/describe.py PATH [--name NAME] [--out YAML] [--page HTML] [--force]

PATH is a Parquet or CSV file, a folder of them or a glob. Leaves a first yaml for it in configs/source/ and a page to
look at in data/described/, and shows what each column seems to be. Weather and the like become a piece of a yaml.
"""

import argparse
import re
from datetime import UTC, datetime
from pathlib import Path

from rich.markup import escape
from rich.table import Table

from hailtime.config import CONFIGS
from hailtime.describing.description import Description, describe
from hailtime.describing.draft import draft
from hailtime.describing.names import our_name
from hailtime.describing.page import page
from hailtime.describing.summary import paragraph, share_text, suspicions_of
from hailtime.errors import ConfigError
from hailtime.report import console, run_script

_PAGES = Path("data/described")
_SHOWN = 12  # suspicions on the terminal; the page has all


def main() -> None:
    arguments = read_arguments()
    name = arguments.name or name_of(arguments.path)
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        raise ConfigError(f"--name must match [a-z][a-z0-9_]*, got {name!r}")
    out: Path = arguments.out or CONFIGS / "source" / f"{name}.yaml"
    check_free(out, arguments.force)  # before minutes of reading
    description = describe(arguments.path, name, now=datetime.now(UTC))
    if description.roles.conditions and arguments.out is None:
        out = _PAGES / f"{name}.conditions.yaml"  # a piece is no source to choose
        check_free(out, arguments.force)
    text, next_step = draft(description), next_step_of(description, out)
    page_path: Path = arguments.page or _PAGES / f"{name}.html"
    for path, content in ((out, text), (page_path, page(description, text, next_step))):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    show(description)
    print(f"yaml: {_short(out)}\npage: {_short(page_path)}\nnext: {next_step}")


def read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Look at an unknown table and write a first yaml for it.")
    parser.add_argument(
        "path", type=Path, help="a Parquet or CSV file (.gz too), a folder of them, or a glob in quotes"
    )
    parser.add_argument("--name", help="of the source; made from the path if not given")
    parser.add_argument("--out", type=Path, help="the yaml, configs/source/NAME.yaml if not given")
    parser.add_argument("--page", type=Path, help="the page, data/described/NAME.html if not given")
    parser.add_argument("--force", action="store_true", help="replace a yaml that is there")
    return parser.parse_args()


def name_of(path: Path) -> str:
    """`trips/2026-*.csv.gz` → trips, `My Trips.csv` → my_trips."""
    plain = [part for part in path.resolve().parts if not any(mark in part for mark in "*?[")]
    return our_name(re.sub(r"(\.csv)?\.\w+$", "", plain[-1]) if plain else "table")


def check_free(out: Path, is_forced: bool) -> None:
    """ConfigError when a file is in the way that nobody allowed to replace."""
    if out.exists() and not is_forced:
        raise ConfigError(f"{_short(out)} is there already: give --out or --name, or --force to replace it")


def next_step_of(description: Description, out: Path) -> str:
    """What to do with the yaml."""
    if description.roles.conditions:
        return f"put the pieces of {_short(out)} into your source's yaml"
    copy = (
        ""
        if out.resolve().parent == (CONFIGS / "source").resolve()
        else f"cp {_short(out)} configs/source/{description.name}.yaml && "
    )
    first = f"fill in ??? in {_short(out)}, then " if description.to_fill else ""
    return f"{first}{copy}python scripts/prepare.py source={description.name}"


def show(description: Description) -> None:
    """What the table seems to be, a line a column, and what looks wrong."""
    screen = console()
    screen.print(escape(paragraph(description)), highlight=False)
    table = Table()
    for heading, side in (
        ("column", "left"),
        ("seems to be", "left"),
        ("unit", "left"),
        ("missing", "right"),
        ("distinct", "right"),
    ):
        table.add_column(heading, justify=side, overflow="fold")  # type: ignore[arg-type]
    table.add_column("why", overflow="fold")
    guesses = description.guesses
    for column in sorted(description.columns.values(), key=lambda c: guesses[c.name].role == "left out"):
        guess = guesses[column.name]
        role = f"{guess.role}, zone" if column.name == description.roles.zone else guess.role
        figures = (column.unit or "", f"{column.missing:.1%}", f"{column.distinct:,}")
        style = "dim" if guess.role == "left out" else ""
        table.add_row(escape(column.name), role, *figures, escape(f"{guess.sure}: {guess.why}"), style=style)
    screen.print(table)
    found = suspicions_of(description)
    for name, text, share in found[:_SHOWN]:
        screen.print(escape(f"suspicious: {name}: {text} {share_text(share)}".rstrip()), highlight=False)
    if len(found) > _SHOWN:
        screen.print(f"suspicious: {len(found) - _SHOWN} more on the page", highlight=False)
    for gap in description.to_fill:
        screen.print(escape(f"fill in: {gap}"), style="bold", highlight=False)


def _short(path: Path) -> str:
    """Relative to where the script runs, if it is below."""
    return str(path.resolve().relative_to(Path.cwd())) if path.resolve().is_relative_to(Path.cwd()) else str(path)


if __name__ == "__main__":
    run_script(main)
