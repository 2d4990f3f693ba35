"""Writes docs/configs.md from the comments of the yamls: python scripts/settings_page.py [--check]

Every line of `configs/` that sets something becomes a row; what its comment says is what it is for. `--check` writes
nothing and ends with status 1 when the page is out of date.
"""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs/configs.md"
GROUPS = {
    "Preparing": ["prepare.yaml"],
    "Training": ["train.yaml", "network", "loss", "optimizer", "scheduler", "trainer", "callbacks", "experiment"],
    "Tuning and comparing": ["search.yaml"],
    "Watching": ["monitor.yaml", "alerts.yaml"],
    "Retraining": ["retrain.yaml"],
    "Sources": ["source"],
}
HEAD = """# All settings

Written from `configs/` by `python scripts/settings_page.py`. Those of training and preparing go on the command line as
`name=value`, a file of a folder is chosen as `folder=file` (`network=tabm`), and a setting within it is
`folder.name=value`. Monitoring and retraining read their yaml.
"""


class Setting(NamedTuple):
    name: str
    value: str
    said: str


def main() -> None:
    parser = argparse.ArgumentParser(description="Write the page of all settings.")
    parser.add_argument("--check", action="store_true", help="only say whether the page is up to date")
    is_check, text = parser.parse_args().check, page()
    if is_check and PAGE.read_text() != text:
        sys.exit(f"{PAGE.relative_to(ROOT)} is out of date: python scripts/settings_page.py")
    if not is_check:
        PAGE.write_text(text)


def page() -> str:
    """The whole page as Markdown."""
    parts = [HEAD]
    for title, names in GROUPS.items():
        files = [file for name in names for file in files_of(ROOT / "configs" / name)]
        if files:
            parts.append(f"## {title}\n")
            parts += [section(file) for file in files]
    return "\n".join(parts)


def files_of(path: Path) -> list[Path]:
    if path.is_dir():
        return sorted(path.glob("*.yaml"))
    return [path] if path.exists() else []


def section(file: Path) -> str:
    """What a file is for, and a row a setting; of a source what is chosen, not every column."""
    lines = file.read_text().splitlines()
    about = " ".join(line.lstrip("# ") for line in lines[: first_setting(lines)] if line != "# @package _global_")
    rows = [one for one in settings_of(lines) if not one.name.startswith(("schema.", "defaults", "hydra", "_target_"))]
    if file.parent.name == "source":
        rows = [one for one in rows if one.name.startswith("load.") and one.said]
    table = [f"| `{one.name}` | {f'`{one.value}`' if one.value else ''} | {one.said} |" for one in rows]
    head = ["| setting | value | what it is |", "|---|---|---|"] if table else []
    return "\n".join(
        [f"### {file.relative_to(ROOT / 'configs')}\n", *([about, ""] if about else []), *head, *table, ""]
    )


def first_setting(lines: list[str]) -> int:
    return next((place for place, line in enumerate(lines) if not line.startswith("#")), len(lines))


def settings_of(lines: list[str]) -> Iterator[Setting]:
    """The settings of a yaml with their whole names, and their comments."""
    above: list[tuple[int, str]] = []
    for line in lines:
        text, _, said = line.partition(" #")
        name, colon, value = text.strip().partition(":")
        if not colon or name.startswith(("#", "-", "'", '"', "{")):
            continue
        depth = len(line) - len(line.lstrip())
        above = [(at, outer) for at, outer in above if at < depth]
        whole = ".".join([*(outer for _, outer in above), name])
        above.append((depth, name))
        if value.strip() or said:
            yield Setting(whole, value.strip().replace("|", "\\|"), said.strip().replace("|", "\\|"))


if __name__ == "__main__":
    main()
