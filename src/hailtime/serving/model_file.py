"""What a run must bring before it may be published: every file whole, and a model that can do what its schema says."""

import hashlib
import io
import json
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto

from hailtime.errors import DeployError, SchemaError
from hailtime.schema import QUANTILES, Schema
from hailtime.serving.gates import LIMITS, Limits, require, size_gate

RUN_FILES = ("model.onnx", "schema.json", "export.json", "probe.npz")
# Others need a library of custom operators, which is code that runs inside the server.
DOMAINS = ("", "ai.onnx", "ai.onnx.ml")
MAX_PROBE_BYTES = 10_000_000  # 64 rows take 10 kB; a compressed file can hold much more than its size


@dataclass(frozen=True)
class Probe:
    """Rows with the answers PyTorch gave for them: who serves the model must answer the same."""

    inputs: Mapping[str, NDArray[Any]]
    pickup_time_s: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.pickup_time_s)


def read_run(run: Path, limits: Limits = LIMITS) -> dict[str, bytes]:
    """The files of a run that can be published, by name; DeployError says what is missing, too large or wrong."""
    for name in RUN_FILES:
        if not (run / name).is_file():
            raise DeployError(f"a run to deploy needs {name}, {run} has none: python scripts/export.py {run}")
    require(size_gate((run / "model.onnx").stat().st_size, limits))
    files = {name: (run / name).read_bytes() for name in RUN_FILES}
    schema = read_schema(files["schema.json"], run)
    check_model(files["model.onnx"], schema)
    _check_export(files, schema)
    read_probe(files["probe.npz"], schema)
    return files


def read_schema(content: bytes, where: Path) -> Schema:
    try:
        return Schema.from_json(content.decode())
    except (SchemaError, UnicodeDecodeError) as error:
        raise DeployError(f"schema.json of {where} cannot be read: {error}") from error


def read_rule(content: bytes) -> str:
    """The rule that clients fall back to, as JSON out of a model file; "" in a file that has none."""
    model = onnx.load_model_from_string(content)
    return next((entry.value for entry in model.metadata_props if entry.key == "hailtime.rule"), "")


def read_probe(content: bytes, schema: Schema) -> Probe:
    """The probe rows, of the types and widths that go over the wire."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            n_bytes = sum(entry.file_size for entry in archive.infolist())
        if n_bytes > MAX_PROBE_BYTES:
            raise DeployError(
                f"probe.npz may hold {MAX_PROBE_BYTES:,} bytes, it holds {n_bytes:,}; export the run again"
            )
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            found = {name: arrays[name] for name in arrays.files}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise DeployError(f"probe.npz cannot be read: {error}; export the run again") from error
    told = {name: (kind, width) for name, (_, kind, width) in _wire(schema).items()}
    said = {name: (a.dtype.type.__name__, a.shape[1] if a.ndim == 2 else None) for name, a in found.items()}
    n_rows = {len(array) for array in found.values() if array.ndim}
    if said != told or len(n_rows) != 1 or 0 in n_rows:
        raise DeployError(f"probe.npz must hold rows of {told}, got {said} with {n_rows} rows; export the run again")
    return Probe(found, found.pop("pickup_time_s"))


def check_model(content: bytes, schema: Schema) -> None:
    """DeployError unless this is a whole, self-contained ONNX model with the inputs and the output of this schema."""
    import onnxruntime  # who only reads a repository, as the monitor does, needs none

    try:
        model = onnx.load_model_from_string(content)
    except Exception as error:  # whatever the protobuf library of the day raises
        raise DeployError(f"model.onnx is not a whole ONNX file: {error}") from error
    outside = [tensor.name for tensor in _tensors(model) if tensor.data_location == TensorProto.EXTERNAL]
    if outside:
        raise DeployError(f"model.onnx must hold its weights itself, it keeps {outside[0]!r} in another file")
    foreign = sorted({node.domain for node in _nodes(model) if node.domain not in DOMAINS})
    if foreign:
        raise DeployError(f"model.onnx may use the standard operators only, it uses some of {', '.join(foreign)}")
    try:
        onnx.checker.check_model(model, full_check=True)
        onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    except Exception as error:  # both raise classes of their own without a common base
        raise DeployError(f"model.onnx cannot be used: {error}") from error
    _check_signature(model, schema)


def _check_signature(model: onnx.ModelProto, schema: Schema) -> None:
    values = (*model.graph.input, *model.graph.output)
    types = {value.name: value.type.tensor_type for value in values}
    said = {
        name: (t.elem_type, [d.dim_value if d.HasField("dim_value") else None for d in t.shape.dim])
        for name, t in types.items()
    }
    told = {name: (kind, [None, width]) for name, (kind, _, width) in _wire(schema).items()}
    if said != told:
        raise DeployError(f"model.onnx must take and give {_signature(told)}, it has {_signature(said)}")
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    inside = metadata.get("hailtime.schema")
    if inside is not None and Schema.from_json(inside).fingerprint != schema.fingerprint:
        raise DeployError("model.onnx was made for another schema than schema.json beside it: export the run again")


def _check_export(files: Mapping[str, bytes], schema: Schema) -> None:
    try:
        report = json.loads(files["export.json"])
        told = (report["sha256"], report["schema_fingerprint"])
    except (ValueError, KeyError, TypeError) as error:
        raise DeployError(f"export.json must tell sha256 and schema_fingerprint ({error!r}): export again") from error
    found = (hashlib.sha256(files["model.onnx"]).hexdigest(), schema.fingerprint)
    if told != found:
        raise DeployError(f"model.onnx and schema.json must be those exported ({told}), got {found}: export again")


def _wire(schema: Schema) -> dict[str, tuple[int, str, int]]:
    """Every tensor of a model of ours: its ONNX type, its numpy type and its width."""
    return {
        "numeric": (TensorProto.FLOAT, "float32", len(schema.numeric)),
        "categorical": (TensorProto.STRING, "str_", len(schema.categorical)),
        "requested_at": (TensorProto.INT64, "int64", 1),
        "pickup_time_s": (TensorProto.FLOAT, "float32", len(QUANTILES)),
    }


def _signature(tensors: Mapping[str, tuple[int, list[int | None]]]) -> str:
    return ", ".join(
        f"{name} {TensorProto.DataType.Name(kind)} [{', '.join('N' if d is None else str(d) for d in shape)}]"
        for name, (kind, shape) in tensors.items()
    )


def _nodes(model: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    """Every node, also those inside branches, loops and functions."""
    bodies: list[Iterable[onnx.NodeProto]] = [model.graph.node, *(function.node for function in model.functions)]
    while bodies:
        for node in bodies.pop():
            yield node
            for attribute in node.attribute:
                bodies += [graph.node for graph in (attribute.g, *attribute.graphs)]


def _tensors(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Every constant: weights, sparse weights, and those in attributes, of the graph and of all graphs inside."""
    graphs = [model.graph]
    for node in _nodes(model):
        for attribute in node.attribute:
            graphs += [attribute.g, *attribute.graphs]
            sparse = (attribute.sparse_tensor, *attribute.sparse_tensors)
            yield from (attribute.t, *attribute.tensors, *(s.values for s in sparse), *(s.indices for s in sparse))
    for graph in graphs:
        yield from graph.initializer
        for weights in graph.sparse_initializer:
            yield from (weights.values, weights.indices)
