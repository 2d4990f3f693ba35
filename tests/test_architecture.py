"""The structure: a stage imports only stages before it, and the client stays thin."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import hailtime

PACKAGE = Path(hailtime.__file__).parent
# The line, and what may be used anywhere on it. A file is in the first row whose names it is listed under.
LINE = [
    ["errors", "cores", "clock", "schema", "rollout", "rule", "locking", "durable", "whole_folder", "report", "slices"],
    ["sources"],
    ["preparation.exact", "preparation.clock_changes", "preparation.conform", "preparation.rules"],
    ["preparation.rule_settings", "preparation.rule_kinds", "preparation.time_rule_kinds"],
    ["preparation.declared_rules", "preparation.findings"],
    ["preparation.clean", "preparation.budget"],
    ["preparation.join_settings"],
    ["preparation.known"],
    ["preparation.join_latest", "preparation.join_nearby", "preparation.join_trailing"],
    ["preparation.join", "preparation.lookup", "preparation.recent_trips"],
    ["conditions"],
    ["preparation.split", "preparation.prepared", "preparation.parts", "preparation.stopwatch", "preparation.codes"],
    ["preparation.profile_numbers", "preparation.profile"],
    ["preparation.ahead", "preparation.time_order", "preparation.repeats", "preparation.spark_session"],
    ["preparation.engines", "preparation.spark"],
    ["preparation.leakage_scores", "preparation.leakage"],
    ["preparation.page_style", "preparation.page_html", "preparation.page_pictures", "preparation.page_verdict"],
    ["preparation.page"],
    ["preparation.dataset"],
    ["describing"],
    ["config", "preparation.from_config"],
    ["plots", "training"],
    ["metrics", "baselines", "evaluate"],
    ["histograms", "export"],
    ["tuning"],
    ["comparison"],
    ["serving"],
    ["client"],
    ["monitoring"],
    ["retraining"],
    ["lineage", "replay", "tracking"],
    ["example"],
]
SHARED = {"errors", "clock", "schema", "rollout", "rule"}  # what the client may import beside its own


def modules():
    return sorted(PACKAGE.rglob("*.py"))


def place(name):
    """The row of a module: its own name's, else its folder's."""
    return next((i for i, names in enumerate(LINE) if {name, name.split(".")[0]} & set(names)), None)


def name_of(path):
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module == "hailtime":
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("hailtime."):
            yield node.module.removeprefix("hailtime.")


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_stage_imports_only_stages_before_it(path):
    name = name_of(path)
    if name in ("", "preparation"):
        return
    assert place(name) is not None, f"{path.name} has no place on the line: add it to LINE"
    later = [other for other in imports(path) if other != "__version__" and place(other) > place(name)]
    assert later == []


@pytest.mark.parametrize("path", sorted((PACKAGE / "client").glob("*.py")), ids=lambda path: path.name)
def test_the_client_imports_only_thin_files(path):
    assert {name for name in imports(path) if name.split(".")[0] != "client"} <= SHARED | {"__version__"}


@pytest.mark.parametrize("name", sorted(SHARED))
def test_what_the_client_imports_is_thin(name):
    assert set(imports(PACKAGE / f"{name}.py")) <= SHARED


def test_the_client_loads_neither_torch_nor_pandas():
    code = "import hailtime.client, sys; print(*sorted({m.split('.')[0] for m in sys.modules}))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "numpy" in loaded
    heavy = {
        "torch",
        "pandas",
        "polars",
        "onnx",
        "onnxruntime",
        "hydra",
        "omegaconf",
        "pytorch_lightning",
        "matplotlib",
    }
    assert heavy.isdisjoint(loaded)


def test_there_is_no_utils():
    assert [path for path in modules() if "util" in path.name] == []


def test_a_name_in_architecture_exists():
    known = {part for path in modules() for part in (name_of(path), name_of(path).split(".")[0])}
    assert [name for names in LINE for name in names if name not in known] == []
