"""The models behind the answers in the log: the live one, and what each kept version saw in training."""

from datetime import datetime
from functools import lru_cache
from pathlib import Path

from hailtime.errors import DataError, DeployError
from hailtime.monitoring.watch import WatchedModel
from hailtime.serving.config_file import read_served
from hailtime.serving.history import read_history
from hailtime.serving.places import present_versions, version_folder


def live_model(repository: Path) -> WatchedModel:
    """That of the stable version. DeployError when nothing is live."""
    served = read_served(repository)
    if served is None:
        raise DeployError(
            f"a model must be live to watch it, nothing is deployed in {repository}: scripts/deploy.py RUN"
        )
    return _load(version_folder(repository, served.rollout.stable) / "model.onnx")


def kept_models(repository: Path) -> list[WatchedModel]:
    """The live one first, then every other version whose file can be read, the newest first."""
    live, others = live_model(repository), []
    for version in present_versions(repository)[::-1]:
        try:
            others.append(_load(version_folder(repository, version) / "model.onnx"))
        except (DataError, DeployError):
            continue
    return [live, *(model for model in others if model is not live)]


def released_s(repository: Path) -> float | None:
    """When another version became stable for the last time, UTC seconds; None when nobody wrote that down."""
    stable, at_s = None, None
    for change in read_history(repository):
        if change.plan is not None and change.plan.stable != stable:
            stable, at_s = change.plan.stable, datetime.fromisoformat(change.at).timestamp()
    return at_s


def _load(path: Path) -> WatchedModel:
    try:
        changed_ns = path.stat().st_mtime_ns
    except OSError as error:
        raise DataError(f"a model to watch must be there, {path} is not: {error.strerror}") from error
    return _load_at(path, changed_ns)


@lru_cache(maxsize=32)  # a version's file never changes; reading one takes 20 ms
def _load_at(path: Path, changed_ns: int) -> WatchedModel:
    return WatchedModel.load(path)
