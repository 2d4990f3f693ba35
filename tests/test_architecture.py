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
    ["errors", "schema", "locking", "whole_folder", "report"],
    ["sources"],
    ["conform", "rules", "clean"],
    ["join"],
    ["split", "dataset"],
    ["config", "prepare"],
    ["features", "losses", "networks", "model", "batches", "module", "callbacks", "plots", "train"],
    ["metrics", "baselines", "evaluate"],
    ["histograms", "export"],
    ["triton_backend", "triton_install", "triton", "model_file", "rollout", "repository", "deploy"],
    ["request_values", "request", "prediction", "transport", "client"],
]
THIN = {"errors", "schema", "rollout", "request_values", "request", "prediction", "transport", "client"}


def modules():
    return sorted(PACKAGE.rglob("*.py"))


def place(name):
    return next((i for i, names in enumerate(LINE) if name in names), None)


def stage_of(path):
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def imports(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module == "hailtime":
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("hailtime."):
            yield node.module.split(".")[1]


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_stage_imports_only_stages_before_it(path):
    stage = stage_of(path)
    if stage == "__init__":
        return
    assert place(stage) is not None, f"{path.name} has no place on the line: add it to LINE"
    later = [name for name in imports(path) if name != "__version__" and place(name) > place(stage)]
    assert later == []


@pytest.mark.parametrize("name", sorted(THIN))
def test_the_client_imports_only_thin_files(name):
    path = PACKAGE / f"{name}.py"
    assert set(imports(path)) <= THIN | {"__version__"}


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
    known = {stage_of(path) for path in modules()}
    assert [name for names in LINE for name in names if name not in known] == []
