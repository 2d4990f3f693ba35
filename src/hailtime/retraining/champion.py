"""The live model: what a challenger is trained from, held against, and must leave alone until it is better."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from hailtime.errors import ConfigError
from hailtime.schema import Schema
from hailtime.serving.config_file import read_served
from hailtime.serving.places import version_folder
from hailtime.serving.repository import read_origin

INPUTS = ("numeric", "categorical", "requested_at")


@dataclass(frozen=True)
class Champion:
    """A version of the repository, its columns, and the run it comes from where that is still at hand."""

    version: int
    folder: Path
    schema: Schema
    run: Path | None

    @classmethod
    def of(cls, repository: Path, version: int) -> "Champion":
        folder = version_folder(repository, version)
        schema = Schema.from_json((folder / "schema.json").read_text())
        told = read_origin(folder).get("folder")
        run = Path(str(told)) if told else None
        return cls(version, folder, schema, run if run is not None and (run / "config.yaml").exists() else None)

    def answers(self, rows: pl.DataFrame) -> NDArray[np.float32]:
        """What its served file says, (n, 3) seconds."""
        return answers(self.folder / "model.onnx", self.schema, rows)


def live_version(repository: Path) -> int:
    """ConfigError when nothing is live: the first model is deployed by hand."""
    served = read_served(repository)
    if served is None:
        raise ConfigError(
            f"retraining goes on from a live model, nothing is live in {repository}: scripts/deploy.py RUN"
        )
    return served.rollout.stable


def answers(model: Path, schema: Schema, rows: pl.DataFrame) -> NDArray[np.float32]:
    """What an ONNX file of ours says to the rows of a frame, (n, 3) seconds."""
    from hailtime.export import session  # brings torch, 2 s: who only decides does not pay for it
    from hailtime.training.features import raw_inputs

    return ask(session(model), dict(zip(INPUTS, raw_inputs(schema, rows), strict=True)))


def ask(runtime: Any, inputs: dict[str, NDArray[Any]]) -> NDArray[np.float32]:
    """What a session answers to wire inputs."""
    said: NDArray[np.float32] = runtime.run(None, inputs)[0]
    return said
