"""The candidate in a Triton of its own, asked real rows, before it touches the live one."""

import shutil
from pathlib import Path

import numpy as np
import polars as pl

from hailtime.errors import DeployError, ServerError
from hailtime.retraining.champion import INPUTS, answers
from hailtime.schema import Schema
from hailtime.serving.control import TritonControl
from hailtime.serving.deploy import deploy
from hailtime.serving.gates import LIMITS, GateResult
from hailtime.serving.triton import TritonServer, end_left_behind
from hailtime.training.features import raw_inputs

N_ROWS = 512


def serves(run: Path, schema: Schema, rows: pl.DataFrame, scratch: Path) -> GateResult:
    """Whether a server loads the run's model and answers some rows as its file does here. Leaves nothing."""
    clear(scratch)
    models = scratch / "models"
    some = rows.gather_every(max(1, len(rows) // N_ROWS)).head(N_ROWS)
    try:
        models.mkdir(parents=True)
        server = TritonServer(models, grpc_port=0, metrics_port=0).start()
        try:
            version = deploy(run, models, server.url).version
            with TritonControl(server.url, models) as control:
                said_s = control.ask(version, dict(zip(INPUTS, raw_inputs(schema, some), strict=True)))
        finally:
            server.kill()
    except (DeployError, ServerError) as error:
        return GateResult("scratch server", False, None, None, f"a server of its own did not serve it: {error}")
    finally:
        clear(scratch)
    off_s = float(np.abs(said_s - answers(run / "model.onnx", schema, some)).max())
    text = f"a server of its own answers {len(some)} rows at most {off_s:.4f} s off, allowed are {LIMITS.parity_s} s"
    return GateResult("scratch server", off_s <= LIMITS.parity_s, off_s, LIMITS.parity_s, text)


def clear(scratch: Path) -> None:
    """Ends the server and deletes the folder that somebody left who was killed here."""
    end_left_behind(scratch / "models")
    shutil.rmtree(scratch, ignore_errors=True)
