"""One ONNX file that holds the whole model, kept only when it says the same as PyTorch.

Inputs: numeric FP32 (N, F), categorical STRING (N, C), requested_at INT64 (N, 1) UTC epoch seconds.
Output: pickup_time_s FP32 (N, 3): P10, P50, P90. A number not given is NaN, a category not given is "".

PyTorch has no strings, so the exported graph starts at word places, and a LabelEncoder is merged in front of it.
"""

import hashlib
import json
import logging
import os
import warnings
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import onnx
import onnxruntime
import polars as pl
import torch
from numpy.typing import NDArray
from onnx import TensorProto, compose, helper

from hailtime.baselines import portable_rule
from hailtime.errors import ExportError
from hailtime.histograms import reference_histograms
from hailtime.preparation.prepared import Prepared
from hailtime.schema import Schema
from hailtime.training.features import FeatureSpec, clock_changes, raw_inputs
from hailtime.training.origin import code_version, read_origin
from hailtime.training.run_folder import DATA
from hailtime.training.train import Run, load_run

log = logging.getLogger(__name__)

OPSET, OPSET_ML, IR_VERSION = 18, 3, 10  # ONNX Runtime 1.18 and later load these
MAX_DIFFERENCE_S = 0.05  # a twentieth of a second: no rider and no test tells it apart
N_PROBE_ROWS = 64

Inputs = tuple[NDArray[np.float32], NDArray[np.object_], NDArray[np.int64]]


def export(folder: Path) -> dict[str, Any]:
    """Writes model.onnx, export.json and probe.npz into a run folder; returns what export.json holds.

    ExportError, and no model.onnx, when any answer on any row differs from PyTorch's by more than 0.05 s.
    """
    run = load_run(folder)
    prepared = run.prepared
    model = to_onnx(run)
    report = {
        "schema_fingerprint": run.schema.fingerprint,
        "data_fingerprint": prepared.fingerprint,
        "code": code_version(),
        "exported_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "opset": OPSET,
        "onnxruntime": onnxruntime.__version__,
        "torch": torch.__version__,
        "trained": read_origin(folder),  # with the data it travels into the repository, where no run folder may be
        "data": json.loads((folder / DATA).read_text()),
    }
    _add_metadata(model, run, prepared, report)
    content = model.SerializeToString()
    report["parity"] = parity(run, content, prepared)
    report["bytes"] = len(content)
    report["sha256"] = hashlib.sha256(content).hexdigest()
    _write(folder / "model.onnx", content)
    _write_probe(folder / "probe.npz", run, prepared)
    (folder / "export.json").write_text(json.dumps(report, indent=1))
    return report


def to_onnx(run: Run) -> onnx.ModelProto:
    """The run's model as one graph, from strings and numbers to seconds."""
    columns = (len(run.schema.numeric), len(run.schema.categorical))
    example = (torch.zeros(2, columns[0]), torch.zeros(2, columns[1], dtype=torch.int64), torch.zeros(2, 1).long())
    rows = torch.export.Dim("rows", min=1, max=2**20)
    for chatty in ("torch.onnx._internal.exporter", "onnxscript", "onnx_ir"):
        logging.getLogger(chatty).setLevel(logging.ERROR)  # a line for every node they fold
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter warns of its own future
        program = torch.onnx.export(
            run.model.eval(),
            example,
            input_names=["numeric", "words", "requested_at"],
            output_names=["pickup_time_s"],
            dynamic_shapes=({0: rows}, {0: rows}, {0: rows}),
            opset_version=OPSET,
            dynamo=True,
            custom_translation_table=_as_one_node(),
            verbose=False,
        )
    assert program is not None
    network = program.model_proto
    merged = _put_words_in_front(network, run.spec, columns[1])
    onnx.checker.check_model(merged, full_check=True)
    return merged


def _as_one_node() -> dict[Any, Any]:
    """PyTorch's exporter has no lookup by take, and writes softplus with a threshold that ONNX's own does not need."""
    from onnxscript import opset18 as op  # OPSET's; half a second that only an export needs

    return {
        torch.ops.aten.take.default: lambda table, places: op.Gather(table, places),
        torch.ops.aten.softplus.default: lambda x: op.Softplus(x),
    }


def _put_words_in_front(network: onnx.ModelProto, spec: FeatureSpec, n_columns: int) -> onnx.ModelProto:
    strings = helper.make_tensor_value_info("categorical", TensorProto.STRING, ["rows", n_columns])
    places = helper.make_tensor_value_info("word_places", TensorProto.INT64, ["rows", n_columns])
    encoder = helper.make_node(
        "LabelEncoder",
        ["categorical"],
        ["word_places"],
        domain="ai.onnx.ml",
        keys_strings=spec.words or [""],
        values_int64s=list(range(1, len(spec.words) + 1)) or [0],
        default_int64=0,
    )
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid("ai.onnx.ml", OPSET_ML)]
    network.ir_version = IR_VERSION
    network.opset_import.extend([opsets[1]])
    front = helper.make_model(
        helper.make_graph([encoder], "words", [strings], [places]), opset_imports=opsets, ir_version=IR_VERSION
    )
    network = compose.add_prefix(network, "model/", rename_inputs=False, rename_outputs=False)
    merged = compose.merge_models(front, network, io_map=[("word_places", "words")])
    merged.graph.name = "pickup_eta"
    _order_inputs(merged, ("numeric", "categorical", "requested_at"))
    return merged


def _order_inputs(model: onnx.ModelProto, names: tuple[str, ...]) -> None:
    by_name = {value.name: value for value in model.graph.input}
    del model.graph.input[:]
    model.graph.input.extend(by_name[name] for name in names)


def _add_metadata(model: onnx.ModelProto, run: Run, prepared: Prepared, report: dict[str, Any]) -> None:
    metrics = run.folder / "metrics.json"
    content = {
        "hailtime.schema": run.schema.to_json(),
        "hailtime.rule": portable_rule(prepared, run.spec).to_json(),
        "hailtime.run": run.folder.name,
        "hailtime.export": json.dumps(report),
        "hailtime.metrics": metrics.read_text() if metrics.exists() else "{}",
        "hailtime.histograms": json.dumps(reference_histograms(prepared.schema, prepared.part("train"))),
    }
    model.doc_string = "Pickup time of a ride-hailing request, seconds: P10, P50, P90"
    model.producer_name = "hailtime"
    helper.set_model_props(model, content)


def session(model: bytes | Path, n_threads: int = 1) -> onnxruntime.InferenceSession:
    """An onnxruntime session on the CPU. ExportError when the file cannot be loaded."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = n_threads
    try:
        return onnxruntime.InferenceSession(
            model if isinstance(model, bytes) else str(model), options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # onnxruntime has one exception class a status, without a common base of its own
        name = "the model" if isinstance(model, bytes) else str(model)
        raise ExportError(f"onnxruntime must load the file, {name} it does not: {error}") from error


def parity(run: Run, model: bytes, prepared: Prepared) -> dict[str, float]:
    """Largest difference in seconds between PyTorch and onnxruntime by set of rows; ExportError above 0.05 s."""
    runtime = session(model)
    differences: dict[str, float] = {}
    for name, inputs in hard_rows(run.schema, prepared.part("test")):
        ours = torch_answers(run, inputs)
        theirs = runtime.run(None, dict(zip(("numeric", "categorical", "requested_at"), inputs, strict=True)))[0]
        if not np.isfinite(ours).all() or not np.isfinite(theirs).all():
            raise ExportError(f"an answer must be a finite number, on the rows {name!r} it is not")
        differences[name] = max(float(np.abs(ours - theirs).max()), differences.get(name, 0.0))
    worst = max(differences, key=lambda name: differences[name])
    if differences[worst] > MAX_DIFFERENCE_S:
        raise ExportError(
            f"PyTorch and onnxruntime may differ by {MAX_DIFFERENCE_S} s, they differ by {differences[worst]:.3f} s on "
            f"the rows {worst!r}: no model.onnx was written"
        )
    return {"max_abs_s": differences[worst], **differences}


def torch_answers(run: Run, inputs: Inputs) -> NDArray[np.float32]:
    """What PyTorch says for wire inputs, (n, 3) seconds."""
    numeric, categorical, requested_at = inputs
    place = {word: i + 1 for i, word in enumerate(run.spec.words)}
    words = np.vectorize(lambda word: place.get(word, 0), otypes=[np.int64])(categorical) if categorical.size else (
        np.zeros(categorical.shape, np.int64))  # fmt: skip
    with torch.no_grad():
        answers: NDArray[np.float32] = run.model(*map(torch.from_numpy, (numeric, words, requested_at))).numpy()
    return answers


def hard_rows(schema: Schema, test: pl.DataFrame) -> Iterator[tuple[str, Inputs]]:
    """Real rows, and rows made to break: every set is (name, inputs), and the answers must agree on each."""
    numeric, categorical, requested_at = raw_inputs(schema, test)
    yield "test", (numeric, categorical, requested_at)
    for size in (1, 2, 7, 1000):
        yield f"batch {size}", (numeric[:size], categorical[:size], requested_at[:size])
    rows = (numeric[:256], categorical[:256], requested_at[:256])
    yield "all missing", (np.full_like(rows[0], np.nan), np.full_like(rows[1], ""), rows[2])
    yield "unknown categories", (rows[0], np.full_like(rows[1], "never seen ☃"), rows[2])
    for value in (np.inf, -np.inf, 3.4e38, -3.4e38, 1e30, 0.0, -1.0):
        yield f"every number {value:g}", (np.full_like(rows[0], value), rows[1], rows[2])
    for column, name in enumerate(schema.numeric_names):
        one_missing = rows[0].copy()
        one_missing[:, column] = np.nan
        yield f"{name} missing", (one_missing, rows[1], rows[2])
    clocks = _clock_edges(schema.timezone)
    again = np.arange(len(clocks)) % len(rows[0])
    yield "clock changes", (rows[0][again], rows[1][again], clocks[:, None])
    ends = np.array([-(2**63), -(2**62), 0, 2**31, 2**62, 2**63 - 1], np.int64)[:, None]
    again = np.arange(len(ends)) % len(rows[0])
    yield "ends of time", (rows[0][again], rows[1][again], ends)


def _clock_edges(timezone: str) -> NDArray[np.int64]:
    """Seconds around every clock change of the model's years, and local midnights of one week."""
    changes, _ = clock_changes(timezone)
    edges = [change + step for change in changes for step in (-3600, -1, 0, 1, 3599, 3600)]
    monday = datetime(2026, 3, 2, tzinfo=ZoneInfo(timezone))
    midnights = [int((monday + timedelta(days=day)).timestamp()) + step for day in range(8) for step in (-1, 0, 1)]
    return np.array(edges + midnights, np.int64)


def _write_probe(path: Path, run: Run, prepared: Prepared) -> None:
    """Rows with PyTorch's answers: who serves the model asks them and must hear the same."""
    frame = prepared.part("test")
    some = frame.gather_every(max(1, len(frame) // N_PROBE_ROWS)).head(N_PROBE_ROWS)
    numeric, categorical, requested_at = raw_inputs(run.schema, some)
    numeric[-2:] = np.nan  # the last two rows know nothing
    categorical[-2:] = ""
    answers = torch_answers(run, (numeric, categorical, requested_at))
    np.savez(
        path, numeric=numeric, categorical=categorical.astype(str), requested_at=requested_at, pickup_time_s=answers
    )


def _write(path: Path, content: bytes) -> None:
    """Complete or not at all."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    beside.write_bytes(content)
    beside.replace(path)
