"""Prepares a source: python scripts/prepare.py [source=nyc_ems source.load.folder=PATH] [prepared=FOLDER]

Leaves the prepared folder that train.py reads, and shows what cleaning found. Settings: configs/prepare.yaml.
"""

from typing import Any

import hydra
from omegaconf import DictConfig
from rich.table import Table

from hailtime.config import checked_main
from hailtime.preparation.dataset import PAGE
from hailtime.preparation.from_config import prepare_source
from hailtime.preparation.page import example_text
from hailtime.preparation.prepared import Prepared
from hailtime.report import console as wide_console
from hailtime.report import run_script


@hydra.main(config_path="../configs", config_name="prepare", version_base="1.3")
def main(config: DictConfig) -> None:
    run_script(lambda: show(prepare_source(config)))


def show(prepared: Prepared) -> None:
    """What cleaning found, what the joins met, and the parts."""
    report, console = prepared.report, wide_console()
    clean = report["clean"]
    rules = Table(title=f"{clean['rows_in']:,} raw trips, {clean['rows_out']:,} clean", title_justify="left")
    for heading, side in (("rule", "left"), ("does", "left"), ("rows", "right"), ("share", "right")):
        rules.add_column(heading, justify=side, overflow="fold")  # type: ignore[arg-type]
    rules.add_column("meaning, and one example", overflow="fold")
    for finding in clean["findings"]:
        if finding["rows"]:
            share = f"{finding['share']:.2%}"
            rules.add_row(finding["name"], finding["severity"], f"{finding['rows']:,}", share, _explain(finding))
    console.print(rules)
    quiet = [finding["name"] for finding in clean["findings"] if not finding["rows"]]
    console.print(f"caught nothing: {', '.join(quiet) or 'none'}", highlight=False)

    parts = Table(title=f"{prepared.folder}, data {prepared.fingerprint}", title_justify="left")
    for heading in ("part", "rows", "first request, UTC", "last request, UTC"):
        parts.add_column(heading, justify="right" if heading == "rows" else "left")
    for name, part in report["parts"].items():
        parts.add_row(name, f"{part['rows']:,}", part["first"][:19], part["last"][:19])
    console.print(parts)
    hits = ", ".join(f"{table} {share:.1%}" for table, share in report["conditions"].items())
    console.print(f"known at the request: {hits or 'no conditions'}; {report['dropped_in_gaps']:,} rows in the gaps")
    console.print(f"all of it as a page to look at: {prepared.folder / PAGE}", highlight=False, soft_wrap=True)


def _explain(finding: dict[str, Any]) -> str:
    return f"{finding['meaning']}: {example_text(finding['example'])}"


if __name__ == "__main__":
    checked_main("prepare", main)
