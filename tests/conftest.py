"""What many tests share: the engines of preparation, a small simulated city prepared once, and a run trained on it."""

from pathlib import Path

import pytest

from hailtime.config import train_config
from hailtime.evaluate import evaluate
from hailtime.export import export
from hailtime.training.train import train

ENGINES = {
    "polars": lambda frame: frame,
    "polars-lazy": lambda frame: frame.lazy(),
    "pandas": lambda frame: frame.to_pandas(),
}


def pytest_collection_modifyitems(items):
    """Those with servers first: their files take minutes, and of two workers none should begin one last."""
    items.sort(key=lambda item: item.path.parent == Path(__file__).parent)


@pytest.fixture(params=ENGINES)
def engine(request):
    return ENGINES[request.param]


def small_config(folder: Path, *overrides: str):
    return train_config(["experiment=smoke", f"prepared={folder}", "run_name=small", *overrides])


@pytest.fixture(scope="session")
def small_run(tmp_path_factory):
    """A run folder trained on 8,000 simulated trips in seconds (experiment=smoke), judged and exported."""
    folder = tmp_path_factory.mktemp("runs") / "small"
    run = train(small_config(tmp_path_factory.mktemp("prepared") / "city"), folder)
    evaluate(folder, against=("rule",))
    export(folder)
    return run


@pytest.fixture(scope="session")
def prepared(small_run):
    return small_run.prepared
