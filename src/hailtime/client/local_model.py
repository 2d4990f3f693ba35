"""The same ONNX file on this machine's CPU, for when no server answers: pip install 'hailtime[fallback]'."""

import hashlib
import json
import logging
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hailtime.client.plan import read_rule
from hailtime.client.prediction import check_answer
from hailtime.client.request import PackedRows, RowPacker
from hailtime.errors import ConfigError, HailtimeError, PredictionError
from hailtime.schema import Schema

log = logging.getLogger(__name__)

MEASURED_ROWS = (1, 64)


class LocalModel:
    """A model file, loaded beforehand and run on `n_threads` threads of the calling process.

    `path` is the file, or a run folder or a version's folder that holds model.onnx. ConfigError when it cannot be used.
    """

    def __init__(self, path: Path, n_threads: int = 1) -> None:
        self.path = path / "model.onnx" if path.is_dir() else path
        self._session = _load(self.path, n_threads)
        metadata = self._session.get_modelmeta().custom_metadata_map
        try:
            self.packer = RowPacker(Schema.from_json(metadata.get("hailtime.schema", "")))
        except HailtimeError as error:
            raise ConfigError(f"{self.path} must carry its schema, export its run again: {error}") from error
        self.rule = read_rule(metadata.get("hailtime.rule", ""))
        folder = self.path.resolve().parent.name  # model_repository/pickup_eta/3 or runs/demo
        self.version = folder if folder.isdecimal() else metadata.get("hailtime.run") or folder
        self._cost_s = [self._measured_s(n) for n in MEASURED_ROWS]

    @property
    def fingerprint(self) -> str:
        return self.packer.schema.fingerprint

    def cost_s(self, n_rows: int) -> float:
        """What so many rows take, twice over: a busy machine must not break a promise made on a quiet one."""
        few, many = MEASURED_ROWS
        a_row_s = max(self._cost_s[1] - self._cost_s[0], 0.0) / (many - few)
        return 2 * (self._cost_s[0] + a_row_s * (n_rows - few))

    def quantiles_s(self, packed: PackedRows) -> NDArray[np.float32]:
        """(n, 3) seconds; PredictionError for what no rider should see."""
        inputs = {"numeric": packed.numeric, "categorical": packed.categorical, "requested_at": packed.requested_at}
        try:
            answer: NDArray[np.float32] = self._session.run(None, inputs)[0]
        except Exception as error:  # onnxruntime has one exception class a status, without a common base of its own
            raise PredictionError(f"{self.path} did not answer: {error}") from error
        check_answer(answer, len(packed), self.version)
        return answer

    def _measured_s(self, n_rows: int) -> float:
        one = self.packer.nothing_known(int(time.time()))
        numeric, categorical = np.repeat(one.numeric, n_rows, axis=0), np.repeat(one.categorical, n_rows, axis=0)
        rows = PackedRows(numeric, categorical, np.repeat(one.requested_at, n_rows, axis=0))
        spent_s = []
        for _ in range(5):
            started = time.perf_counter()
            self.quantiles_s(rows)
            spent_s.append(time.perf_counter() - started)
        return sorted(spent_s)[len(spent_s) // 2]


def _load(path: Path, n_threads: int) -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise ConfigError("answering from a local model needs onnxruntime: pip install 'hailtime[fallback]'") from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = n_threads, 1
    try:
        content = path.read_bytes()
        _check_whole(path, content)
        return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except OSError as error:
        raise ConfigError(f"fallback_model must be a model file, or a folder with model.onnx: {error}") from error
    except ConfigError:
        raise
    except Exception as error:  # as above
        raise ConfigError(f"onnxruntime must load the fallback model, {path} it does not: {error}") from error


def _check_whole(path: Path, content: bytes) -> None:
    """Against the SHA-256 in export.json beside it: of 3,000 spoilt files onnxruntime took 24 and answered wrongly."""
    try:
        told = json.loads((path.parent / "export.json").read_text())["sha256"]
    except (OSError, ValueError, KeyError, TypeError):
        return
    if told != hashlib.sha256(content).hexdigest():
        raise ConfigError(f"{path} must be the file that was exported, export.json beside it tells another SHA-256")
