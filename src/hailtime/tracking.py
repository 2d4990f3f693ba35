"""Runs and releases in MLflow, for people who compare runs in its page: an extra, `pip install 'hailtime[mlflow]'`.

MLFLOW_TRACKING_URI, MLflow's own variable, switches it on: sqlite:////srv/mlflow.db (the default of MLflow's tools is a
file too) or http://host:5000. Everything is read from run folders and the model repository and brought in after the
fact, so it may be done late or twice: python scripts/track.py. Nothing here may fail a training or a deployment.
"""

import csv
import hashlib
import json
import logging
import os
import tempfile
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from hailtime.errors import ConfigError
from hailtime.locking import locked
from hailtime.schema import MODEL_NAME
from hailtime.serving.config_file import read_served
from hailtime.serving.places import present_versions, version_folder
from hailtime.serving.releases import standings
from hailtime.serving.repository import describe_run, read_origin
from hailtime.training.run_folder import CONFIG, DATA, FINISHED, HISTORY, flat_settings

log = logging.getLogger(__name__)

URI = "MLFLOW_TRACKING_URI"
EXPERIMENT = "hailtime"
FILES = (CONFIG, DATA, "origin.json", "export.json", "metrics.json", "model.onnx")
BATCH = 100  # parameters a call; MLflow takes no more
# A server that is gone is given up after seconds, MLflow itself would try for minutes; and nobody else is told.
DEFAULTS = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}


def follow(runs: Sequence[Path] = (), repository: Path | None = None) -> None:
    """Tracks these runs and this repository where MLflow is set up; what goes wrong is a warning."""
    if not os.environ.get(URI):
        return
    try:
        track(os.environ[URI], [run for run in runs if run.is_dir()], repository)
    except Exception as error:  # MLflow, its database and its server raise dozens of kinds
        what = " ".join([*map(str, runs), *([f"--repository {repository}"] if repository else [])])
        log.warning("not tracked in MLflow: %s; later: python scripts/track.py %s", first_line(error), what)


def track(uri: str, runs: Sequence[Path] = (), repository: Path | None = None) -> None:
    """Brings MLflow up to what the folders say; whatever is there already stays.

    A run becomes an MLflow run: settings, figures of each epoch and of the test part, pictures, model.onnx. A version
    of the repository becomes a version of the registered model, with the aliases `champion` for the stable one and
    `challenger` for the canary or shadow.
    """
    for name, value in DEFAULTS.items():
        os.environ.setdefault(name, value)
    try:
        from mlflow.tracking import MlflowClient
    except ImportError as error:
        raise ConfigError("tracking needs MLflow: pip install 'hailtime[mlflow]'") from error
    logging.getLogger("mlflow").setLevel(logging.WARNING)
    with locked(lock_of(uri), ConfigError):  # two first starts would both make the tables
        tracker = Tracker(MlflowClient(uri, uri), uri)
        for run in runs:
            tracker.run(run)
        if repository is not None:
            tracker.releases(repository)


def lock_of(uri: str) -> Path:
    """One for a database's users on this machine; of a server, for those here who would make the same thing twice."""
    name = hashlib.sha256(uri.encode()).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"hailtime-mlflow-{os.getuid()}-{name}.lock"


class Tracker:
    """One connection to MLflow."""

    def __init__(self, client: Any, uri: str) -> None:
        self.client = client
        found = client.get_experiment_by_name(EXPERIMENT)
        # without a server MLflow would put files wherever the process happens to run
        beside = Path(uri.removeprefix("sqlite:///")).absolute().with_suffix(".files").as_uri()
        where = beside if uri.startswith("sqlite:///") else None
        self.experiment = found.experiment_id if found else client.create_experiment(EXPERIMENT, where)

    def run(self, folder: Path) -> str:
        """The MLflow run of a run folder, as it is now; its id."""
        key, state = _digest(folder, ("origin.json", CONFIG, DATA)), _digest(folder, (*FILES, HISTORY, FINISHED))
        run = self._find("key", key) or self.client.create_run(
            self.experiment, _began_ms(folder), {"hailtime.key": key}, describe_run(folder)["run"]
        )
        run_id: str = run.info.run_id
        if run.data.tags.get("hailtime.state") == state:
            return run_id
        if not run.data.params and (folder / CONFIG).exists():
            self._params(run_id, folder)
        self._metrics(run_id, folder)
        for path in [*(folder / name for name in FILES), *sorted((folder / "plots").glob("*.png"))]:
            if path.exists():
                self.client.log_artifact(run_id, str(path), "plots" if path.parent.name == "plots" else None)
        for name, value in {**_tags(folder), "state": state}.items():  # the state last: it says that all is there
            self.client.set_tag(run_id, f"hailtime.{name}", value)
        self.client.set_terminated(run_id, "FINISHED" if (folder / FINISHED).exists() else "KILLED")
        return run_id

    def releases(self, repository: Path) -> None:
        """Registers the versions of a repository, and points the aliases where the plan does."""
        if self._nobody_registered():
            self.client.create_registered_model(MODEL_NAME)
        known = {(found.tags["hailtime.version"], found.tags["hailtime.sha256"]) for found in self._registered()}
        for version in present_versions(repository):
            sha256 = read_origin(version_folder(repository, version)).get("sha256", {}).get("model.onnx", "")
            if (str(version), sha256) not in known:
                self._register(version_folder(repository, version), version, sha256)
        numbers = {int(found.tags["hailtime.version"]): found.version for found in self._registered()}
        for row in standings(repository):
            if row.version in numbers:
                self.client.set_model_version_tag(MODEL_NAME, numbers[row.version], "hailtime.state", row.state)
        served = read_served(repository)
        plan = served.rollout if served else None
        self._point("champion", numbers.get(plan.stable) if plan else None)
        self._point("challenger", numbers.get(plan.candidate) if plan and plan.candidate else None)

    def _register(self, folder: Path, version: int, sha256: str) -> None:
        """A version, of the run that made it; of what lies in its own folder where that run is nowhere."""
        run = Path(read_origin(folder).get("folder", "nowhere"))
        is_it = (run / "model.onnx").exists() and _sha256(run / "model.onnx") == sha256
        found = self._find("sha256", sha256)
        run_id = found.info.run_id if found else self.run(run if is_it else folder)
        tags = {"hailtime.version": str(version), "hailtime.sha256": sha256}
        self.client.create_model_version(MODEL_NAME, f"runs:/{run_id}/model.onnx", run_id, tags)

    def _point(self, alias: str, version: str | None) -> None:
        if version is not None:
            self.client.set_registered_model_alias(MODEL_NAME, alias, version)
        elif alias in self.client.get_registered_model(MODEL_NAME).aliases:
            self.client.delete_registered_model_alias(MODEL_NAME, alias)

    def _nobody_registered(self) -> bool:
        return not self.client.search_registered_models(f"name = '{MODEL_NAME}'")

    def _registered(self) -> Sequence[Any]:
        """The oldest first, so that of two with one number the newer counts."""
        found: Sequence[Any] = self.client.search_model_versions(f"name = '{MODEL_NAME}'")
        return sorted(found, key=lambda version: int(version.version))

    def _find(self, tag: str, value: str) -> Any:
        found = self.client.search_runs([self.experiment], f"tags.`hailtime.{tag}` = '{value}'", max_results=1)
        return found[0] if found else None

    def _params(self, run_id: str, folder: Path) -> None:
        from mlflow.entities import Param

        settings = [Param(name, str(value)[:500]) for name, value in flat_settings(OmegaConf.load(folder / CONFIG))]
        for first in range(0, len(settings), BATCH):
            self.client.log_batch(run_id, params=settings[first : first + BATCH])

    def _metrics(self, run_id: str, folder: Path) -> None:
        from mlflow.entities import Metric

        at_ms = _began_ms(folder)  # the same each time, so that the same figure twice is one
        self.client.log_batch(run_id, [Metric(name, value, at_ms, step) for name, value, step in _figures(folder)])


def _figures(folder: Path) -> Iterator[tuple[str, float, int]]:
    if (folder / HISTORY).exists():
        with (folder / HISTORY).open() as file:
            for row in csv.DictReader(file):
                epoch = int(row.pop("epoch"))
                yield from ((name, float(value), epoch) for name, value in row.items())
    if (folder / "metrics.json").exists():
        metrics = json.loads((folder / "metrics.json").read_text())
        for who in ("network", "rule", "lightgbm", "best_possible"):
            prefix = "test" if who == "network" else f"test_{who}"
            yield from ((f"{prefix}/{name}", value, 0) for name, value in metrics.get(who, {}).items())


def _tags(folder: Path) -> dict[str, str]:
    """What runs are found by: folder, data, code, and the model file's hash."""
    data, origin = (_json(folder / name) for name in (DATA, "origin.json"))
    tags = {"folder": str(folder.resolve()), "data": data.get("fingerprint"), "code": origin.get("code")}
    if (folder / "model.onnx").exists():
        tags["sha256"] = _sha256(folder / "model.onnx")
    return {name: value for name, value in tags.items() if value}


def _began_ms(folder: Path) -> int:
    began_at = _json(folder / "origin.json").get("began_at")
    first = min(path.stat().st_mtime for path in folder.iterdir())
    return int(1000 * (datetime.fromisoformat(began_at).timestamp() if began_at else first))


def _digest(folder: Path, names: Sequence[str]) -> str:
    """Of what is in these files; of the model file's hash in a version's folder, which has none of a run's."""
    found = [f"{name} {_sha256(folder / name)}" for name in names if (folder / name).exists()]
    return hashlib.sha256("\n".join(found or [_sha256(folder / "model.onnx")]).encode()).hexdigest()[:16]


def _sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _json(file: Path) -> dict[str, Any]:
    return dict(json.loads(file.read_text())) if file.exists() else {}


def first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else ''}"
