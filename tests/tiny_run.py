"""A run folder as training, evaluating and exporting leave it, made in milliseconds: for tests of what comes after.

The model is a formula over 3 numeric and 2 categorical columns that one can work out by hand (`tiny_answers`).
"""

import hashlib
import json
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from hailtime.schema import Schema

TINY_SCHEMA = Schema.from_dict(
    {
        "source": "tiny_town",
        "timezone": "Europe/Berlin",
        "zone": "pickup_zone",
        "columns": {
            "request_id": {"role": "id"},
            "requested_at": {"role": "requested_at"},
            "distance_m": {"role": "numeric", "unit": "m", "range": [0, 50000]},
            "idle_drivers": {"role": "numeric", "unit": "1", "range": [0, 500]},
            "rain_mm_h": {"role": "numeric", "unit": "mm/h", "range": [0, 100]},
            "pickup_zone": {"role": "categorical"},
            "product": {"role": "categorical"},
            "pickup_time_s": {"role": "target", "unit": "s", "range": [20, 7200], "out_of_range": "reject"},
        },
    }
)
SECONDS_OF_CATEGORY = {"north": 60, "south": 120, "standard": 10, "xl": 30}  # unknown or missing: 0
DAY_S = 86_400


def tiny_answers(
    numeric: np.ndarray, categorical: np.ndarray, requested_at: np.ndarray, base_s: float = 100.0
) -> np.ndarray:
    """What the tiny model says: base + sum of known numbers + category seconds + share of the UTC day, x 0.5, 1, 2."""
    known = np.where(np.isnan(numeric), 0, numeric).sum(axis=1, dtype=np.float64)
    categories = np.vectorize(lambda text: SECONDS_OF_CATEGORY.get(text, 0))(categorical).sum(axis=1)
    median = base_s + known + categories + requested_at[:, 0] % DAY_S / DAY_S
    return (median[:, None] * [0.5, 1.0, 2.0]).astype(np.float32)


def tiny_rows(n: int = 64, seed: int = 7) -> dict[str, np.ndarray]:
    """Request rows by input name, a few numbers and categories missing or unknown."""
    rng = np.random.default_rng(seed)
    numeric = rng.uniform(0, 50, (n, 3)).astype(np.float32)
    numeric[rng.random((n, 3)) < 0.1] = np.nan
    zone = rng.choice(["north", "south", "", "elsewhere"], n)
    product = rng.choice(["standard", "xl", ""], n)
    requested_at = rng.integers(1_760_000_000, 1_770_000_000, (n, 1))
    return {"numeric": numeric, "categorical": np.stack([zone, product], axis=1), "requested_at": requested_at}


def tiny_model(base_s: float = 100.0) -> onnx.ModelProto:
    """The formula as an ONNX graph with exactly the inputs and the output of every model of ours."""
    node = helper.make_node
    nodes = [
        node("IsNaN", ["numeric"], ["is_missing"]),
        node("Where", ["is_missing", "zero", "numeric"], ["known"]),
        node("ReduceSum", ["known", "columns"], ["known_s"], keepdims=1),
        node(
            "LabelEncoder",
            ["categorical"],
            ["category_s"],
            domain="ai.onnx.ml",
            keys_strings=list(SECONDS_OF_CATEGORY),
            values_floats=[float(seconds) for seconds in SECONDS_OF_CATEGORY.values()],
            default_float=0.0,
        ),
        node("ReduceSum", ["category_s", "columns"], ["categories_s"], keepdims=1),
        node("Mod", ["requested_at", "day_s"], ["second_of_day"]),
        node("Cast", ["second_of_day"], ["second_of_day_float"], to=TensorProto.FLOAT),
        node("Div", ["second_of_day_float", "day_s_float"], ["day_share"]),
        node("Sum", ["known_s", "categories_s", "day_share", "base_s"], ["median_s"]),
        node("Mul", ["median_s", "spread"], ["pickup_time_s"]),
    ]
    constants = {
        "zero": np.float32(0),
        "columns": np.array([1]),
        "day_s": np.array(DAY_S),
        "day_s_float": np.float32(DAY_S),
        "base_s": np.float32(base_s),
        "spread": np.array([[0.5, 1, 2]], dtype=np.float32),
    }
    inputs = [
        helper.make_tensor_value_info("numeric", TensorProto.FLOAT, ["N", 3]),
        helper.make_tensor_value_info("categorical", TensorProto.STRING, ["N", 2]),
        helper.make_tensor_value_info("requested_at", TensorProto.INT64, ["N", 1]),
    ]
    output = helper.make_tensor_value_info("pickup_time_s", TensorProto.FLOAT, ["N", 3])
    initializers = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "tiny", inputs, [output], initializers)
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=9)


def write_tiny_run(
    folder: Path, *, base_s: float = 100.0, model: onnx.ModelProto | None = None, schema: Schema = TINY_SCHEMA
) -> Path:
    """A complete run folder. `base_s` tells one run's answers from another's; `model` may be one with other answers."""
    folder.mkdir(parents=True)
    rows = tiny_rows()
    answers = tiny_answers(rows["numeric"], rows["categorical"], rows["requested_at"], base_s)
    np.savez(folder / "probe.npz", **rows, pickup_time_s=answers)
    (folder / "schema.json").write_text(schema.to_json())
    store_model(folder, (model or tiny_model(base_s)).SerializeToString(), schema)
    return folder


def store_model(run: Path, content: bytes, schema: Schema = TINY_SCHEMA) -> None:
    """Replace a run's model as an export would, with its SHA-256 told."""
    (run / "model.onnx").write_bytes(content)
    report = {"schema_fingerprint": schema.fingerprint, "sha256": hashlib.sha256(content).hexdigest()}
    (run / "export.json").write_text(json.dumps(report))
