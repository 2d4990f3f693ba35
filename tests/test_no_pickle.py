"""Nothing loads a pickle, which is code: not by name, nor by the back doors of torch, numpy, pandas and Lightning."""

import ast
import shutil
from pathlib import Path

import numpy as np
import pytest
from omegaconf import OmegaConf

from hailtime.serving.later_rows import later_rows

ROOT = Path(__file__).parents[1]
FILES = sorted([*ROOT.glob("src/**/*.py"), *ROOT.glob("scripts/**/*.py"), ROOT / "train.py"])
PICKLES = {"pickle", "_pickle", "cPickle", "cloudpickle", "dill", "joblib", "shelve", "marshal"}
MUST_SAY = {"torch.load": ("weights_only", True), "np.load": ("allow_pickle", False)}
NEVER = {"load_from_checkpoint", "read_pickle", "unsafe_load", "full_load"}


def problems(code):
    """What a file does that may run code out of data, as `line: what`."""
    found = []
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
            found += [f"{node.lineno}: imports {name}" for name in names if name.split(".")[0] in PICKLES - {"pickle"}]
            if isinstance(node, ast.ImportFrom) and node.module == "pickle":
                found.append(f"{node.lineno}: from pickle")
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "pickle" and node.attr != "dumps":
            found.append(f"{node.lineno}: pickle.{node.attr}")  # dumps only counts the bytes of what is thrown away
        if isinstance(node, ast.Call):
            called, said = ast.unparse(node.func), {word.arg: ast.unparse(word.value) for word in node.keywords}
            word, value = MUST_SAY.get(called, ("", None))
            if word and said.get(word) != str(value):
                found.append(f"{node.lineno}: {called} without {word}={value}")
            if called.rpartition(".")[2] in NEVER or called == "yaml.load":
                found.append(f"{node.lineno}: {called}")
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_file_loads_no_pickle(path):
    assert problems(path.read_text()) == []


@pytest.mark.parametrize(
    "code",
    [
        "import pickle\npickle.loads(text)",
        "from pickle import loads",
        "from joblib import load",
        "torch.load(file)",
        "torch.load(file, weights_only=False)",
        "np.load(file, allow_pickle=True)",
        "Module.load_from_checkpoint(file)",
        "pd.read_pickle(file)",
        "yaml.load(text, yaml.Loader)",
    ],
)
def test_the_search_finds_them(code):
    assert len(problems(code)) == 1


def test_numpy_as_we_call_it_runs_no_code(tmp_path):
    class Bad:
        def __reduce__(self):
            return (exec, (f"open({str(tmp_path / 'owned')!r}, 'w')",))

    np.savez(tmp_path / "probe.npz", numeric=np.array([Bad()], dtype=object))
    with np.load(tmp_path / "probe.npz", allow_pickle=False) as arrays, pytest.raises(ValueError, match="allow_pickle"):
        arrays["numeric"]
    assert not (tmp_path / "owned").exists()


def test_comparing_a_run_builds_nothing_that_its_config_names(small_run, tmp_path):
    """A deployment asks the live version for the run's later trips; what `_target_` names would run code."""
    shutil.copytree(small_run.folder, tmp_path / "run")
    config = OmegaConf.load(tmp_path / "run/config.yaml")
    for entry in ("network", "optimizer", "source"):
        config[entry] = {"_target_": "os.mkdir", "path": str(tmp_path / "owned")}
    OmegaConf.save(config, tmp_path / "run/config.yaml")
    rows, actual_s = later_rows(tmp_path / "run", small_run.schema)
    assert len(rows["numeric"]) == len(actual_s) > 0
    assert not (tmp_path / "owned").exists()
