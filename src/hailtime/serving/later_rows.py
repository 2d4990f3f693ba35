"""Trips after a run's training, with what became of them: what its model and the live one are both asked."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from omegaconf import OmegaConf

from hailtime.errors import DataError
from hailtime.preparation.prepared import load_prepared
from hailtime.schema import Schema
from hailtime.training.features import raw_inputs

MAX_ROWS = 20_000  # five calls of the largest batch for each of two versions


def later_rows(run: Path, schema: Schema) -> tuple[dict[str, NDArray[Any]], NDArray[np.float64]]:
    """Rows of the run's test part by input name, evenly drawn, and their pickup times, (n,) seconds.

    DataError when the run's data is not there, or is not what it was trained on.
    """
    prepared = load_prepared(Path(str(OmegaConf.load(run / "config.yaml").prepared)))
    trained_on = json.loads((run / "data.json").read_text())["fingerprint"]
    if (prepared.fingerprint, prepared.schema.fingerprint) != (trained_on, schema.fingerprint):
        raise DataError(
            f"{prepared.folder} must hold the data of {run} ({trained_on}), it holds {prepared.fingerprint}"
        )
    test = prepared.part("test")
    rows = test.gather_every(-(-len(test) // MAX_ROWS))
    names = ("numeric", "categorical", "requested_at")
    return dict(zip(names, raw_inputs(schema, rows), strict=True)), rows[schema.target].to_numpy()
