"""A model behind FastAPI, as a team without a model server writes it: `uvicorn benchmarks.peer_app:app`.

PEER_FOLDER holds peer.json (columns, vocabulary, time zone) and model.onnx or model.txt, as PEER_MODEL says: onnx or
lightgbm. Rows come as JSON and are not checked, which is in its favour. Nothing of hailtime is imported.
"""

import json
import math
import os
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
from fastapi import FastAPI, Request, Response

FOLDER = Path(os.environ["PEER_FOLDER"])
TOLD = json.loads((FOLDER / "peer.json").read_text())
NUMERIC, CATEGORICAL, ASKED = TOLD["numeric"], TOLD["categorical"], TOLD["requested_at"]


class OnnxModel:
    """The exported file, which takes raw columns; one thread, as Triton's instance has."""

    def __init__(self) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        file = str(FOLDER / "model.onnx")
        self._session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])

    def answer(self, rows: Sequence[Mapping[str, Any]]) -> Any:
        feed = {
            "numeric": numbers(rows).astype(np.float32),
            "categorical": np.array([[row[name] or "" for name in CATEGORICAL] for row in rows], object),
            "requested_at": np.array([[row[ASKED]] for row in rows], np.int64),
        }
        return self._session.run(None, feed)[0].tolist()


class LightGbmModel:
    """Trees over the numbers, the categories' codes and the local hour; they say the median alone."""

    def __init__(self) -> None:
        import lightgbm

        self._booster = lightgbm.Booster(model_file=str(FOLDER / "model.txt"))
        self._codes = [{text: code for code, text in enumerate(TOLD["vocabulary"][c], 1)} for c in CATEGORICAL]

    def answer(self, rows: Sequence[Mapping[str, Any]]) -> Any:
        return np.asarray(self._booster.predict(self.matrix(rows), num_threads=1)).reshape(-1, 1).tolist()

    def matrix(self, rows: Sequence[Mapping[str, Any]]) -> Any:
        named = list(zip(CATEGORICAL, self._codes, strict=True))
        codes = np.array([[known.get(row[name], 0) for name, known in named] for row in rows], np.float64)
        return np.column_stack([numbers(rows), codes, [hour_of(row[ASKED]) for row in rows]])


def numbers(rows: Sequence[Mapping[str, Any]]) -> Any:
    return np.array([[math.nan if row[name] is None else row[name] for name in NUMERIC] for row in rows], np.float64)


def hour_of(second: int) -> float:
    local = datetime.fromtimestamp(second, ZoneInfo(TOLD["timezone"]))
    return local.weekday() * 24 + local.hour + local.minute / 60


MODEL = OnnxModel() if os.environ["PEER_MODEL"] == "onnx" else LightGbmModel()


async def predict(request: Request) -> Response:
    """In the event loop: a thread would cost more than a row takes."""
    return Response(json.dumps(MODEL.answer(json.loads(await request.body()))), media_type="application/json")


app = FastAPI()
app.add_api_route("/predict", predict, methods=["POST"])
