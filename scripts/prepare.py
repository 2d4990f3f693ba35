"""Prepares a source: python scripts/prepare.py [source=nyc_ems source.load.folder=PATH] [prepared=FOLDER]

Leaves the prepared folder that train.py reads, and shows what cleaning found. Settings: configs/prepare.yaml.
"""

import logging
import time
from pathlib import Path
from typing import Any

import hydra
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.table import Table

from hailtime.config import checked_main
from hailtime.dataset import Prepared, check_settings, prepare
from hailtime.errors import ConfigError
from hailtime.report import run_script

log = logging.getLogger("prepare")


@hydra.main(config_path="../configs", config_name="prepare", version_base="1.3")
def main(config: DictConfig) -> None:
    run_script(lambda: show(prepare_source(config)))


def prepare_source(config: DictConfig) -> Prepared:
    missing = sorted(str(key) for key in OmegaConf.missing_keys(config))
    if missing:
        raise ConfigError(f"a setting without a default must be given: {' '.join(f'{key}=...' for key in missing)}")
    settings: Any = OmegaConf.to_container(config.source, resolve=True)
    log.info("load %s", check_settings(settings).source)
    start = time.perf_counter()
    # called outside of Hydra, which would hide the source's own error in one of its own
    raw = instantiate(config.source.load, _partial_=True)()
    log.info("load: %.1f s, %s raw trips", time.perf_counter() - start, f"{raw.trips.height:,}")
    return prepare(raw, settings, Path(config.prepared), config.engine)


def show(prepared: Prepared) -> None:
    """What cleaning found, what the joins met, and the parts."""
    report, console = prepared.report, Console()
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


def _explain(finding: dict[str, Any]) -> str:
    values = ", ".join(f"{name} {value}" for name, value in (finding["example"] or {}).items())
    return f"{finding['meaning']}: {values}"


if __name__ == "__main__":
    checked_main("prepare", main)
