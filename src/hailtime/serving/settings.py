"""How the model is served on a machine: `serving.yaml` in the model repository, which every deployment reads.

`scripts/tune_serving.py` finds instances, threads and batching and writes them there; the rest is for people to set:

    device: gpu            # cpu; gpu needs NVIDIA's image and a CUDA GPU, and never falls back to the CPU in silence
    tf32: false            # on a GPU, products with 10 bits of mantissa: faster, and up to 0.3 s off at 300 s
    tensorrt_fp16: false   # on a GPU, TensorRT in half precision
    warm_up: [1, 64]       # batch sizes that are run with a real row before a version answers

Without the file a first deployment takes the defaults, and later ones leave what config.pbtxt says.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import yaml
from numpy.typing import NDArray
from tritonclient.grpc import model_config_pb2

from hailtime.durable import store_file
from hailtime.errors import DeployError, did_you_mean

SETTINGS = "serving.yaml"
WARM_UP = "warmup"  # Triton's name for the folder, beside the versions
MAX_BATCH_SIZE = 4096


@dataclass(frozen=True)
class Settings:
    """One instance answers one batch at a time with `threads` threads. One thread is fastest at batch 1."""

    device: Literal["cpu", "gpu"] = "cpu"
    instances: int = 1
    threads: int = 1
    max_queue_delay_us: int = 0  # how long a request may wait for others; 0: a batch is what waits while all are busy
    preferred_batch_sizes: tuple[int, ...] = ()
    warm_up: tuple[int, ...] = (1, 64)
    tf32: bool = False
    tensorrt_fp16: bool = False

    def __post_init__(self) -> None:
        _check("device", self.device, self.device in ("cpu", "gpu"), "cpu or gpu")
        _check("instances", self.instances, _is_whole(self.instances, 1, 64), "a whole number from 1 to 64")
        _check("threads", self.threads, _is_whole(self.threads, 1, 256), "a whole number from 1 to 256")
        delay_us = self.max_queue_delay_us
        _check("max_queue_delay_us", delay_us, _is_whole(delay_us, 0, 1_000_000), "microseconds from 0 to 1,000,000")
        for name in ("preferred_batch_sizes", "warm_up"):
            sizes = getattr(self, name)
            is_right = isinstance(sizes, tuple) and all(_is_whole(size, 1, MAX_BATCH_SIZE) for size in sizes)
            _check(name, sizes, is_right, f"a list of batch sizes from 1 to {MAX_BATCH_SIZE}")
        for name in ("tf32", "tensorrt_fp16"):
            value = getattr(self, name)
            _check(name, value, isinstance(value, bool) and (self.device == "gpu" or not value), "true on a gpu only")

    @property
    def cores(self) -> int:
        """CPU cores that it can keep busy."""
        return self.instances * self.threads

    def __str__(self) -> str:
        told = [f"{self.instances} × {self.threads} thread{'s' if self.threads > 1 else ''}"]
        if self.device == "gpu":
            told = [f"{self.instances} on the GPU"]
        if self.max_queue_delay_us:
            told.append(f"waits {self.max_queue_delay_us / 1000:g} ms")
        if self.preferred_batch_sizes:
            told.append(f"for {' or '.join(map(str, self.preferred_batch_sizes))}")
        return ", ".join(told)

    def to_yaml(self) -> str:
        entries = {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}
        text: str = yaml.safe_dump(entries, sort_keys=False, default_flow_style=None)
        return text

    @classmethod
    def from_yaml(cls, text: str, where: str) -> "Settings":
        """DeployError naming the entry that is unknown or cannot be."""
        try:
            entries = yaml.safe_load(text) or {}
        except yaml.YAMLError as error:
            raise DeployError(f"{where} must be yaml: {error}") from error
        if not isinstance(entries, dict):
            raise DeployError(f"{where} must hold entries like `instances: 2`, got {text[:60]!r}")
        for name in entries:
            if name not in cls.__dataclass_fields__:
                raise DeployError(f"{where} has no entry {name!r}{did_you_mean(str(name), cls.__dataclass_fields__)}")
        lists = {name: tuple(value) for name, value in entries.items() if isinstance(value, list)}
        try:
            return replace(cls(), **{**entries, **lists})
        except DeployError as error:
            raise DeployError(f"{where}: {error}") from error

    def put_into(self, config: model_config_pb2.ModelConfig) -> None:
        """Set these in Triton's config; everything else in it stays."""
        group = model_config_pb2.ModelInstanceGroup
        del config.instance_group[:]
        kind = group.KIND_GPU if self.device == "gpu" else group.KIND_CPU
        config.instance_group.add(count=self.instances, kind=kind)
        config.parameters["intra_op_thread_count"].string_value = str(self.threads)
        config.dynamic_batching.SetInParent()
        config.dynamic_batching.max_queue_delay_microseconds = self.max_queue_delay_us
        config.dynamic_batching.preferred_batch_size[:] = self.preferred_batch_sizes
        if config.HasField("optimization"):
            config.optimization.execution_accelerators.ClearField("gpu_execution_accelerator")
        if self.device == "gpu":
            self._accelerate(config.optimization.execution_accelerators.gpu_execution_accelerator)
        del config.model_warmup[:]
        # TensorRT builds anew for a size outside those it saw, which takes seconds: let it see the smallest and largest
        ends = (1, MAX_BATCH_SIZE) if self.tensorrt_fp16 else ()
        for size in sorted({*self.warm_up, *ends}):
            _warm_up(config, size)

    def _accelerate(self, accelerators: Any) -> None:
        """In the order of their precedence; what none of them can run, as the lookup of words, runs on the CPU."""
        if self.tensorrt_fp16:
            accelerators.add(name="tensorrt", parameters={"precision_mode": "FP16"})
        accelerators.add(name="cuda", parameters={"use_tf32": "1" if self.tf32 else "0"})


def read_settings(repository: Path) -> Settings | None:
    """What serving.yaml says; None when there is none."""
    file = repository / SETTINGS
    try:
        return Settings.from_yaml(file.read_text(), str(file))
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise DeployError(f"{file} cannot be read: {error}") from error


def store_settings(repository: Path, settings: Settings, why: str) -> Path:
    """Write serving.yaml with `why` as its first line."""
    file = repository / SETTINGS
    try:
        repository.mkdir(parents=True, exist_ok=True)
        store_file(file, f"# {why}\n# Read at every deployment; may be changed by hand.\n{settings.to_yaml()}")
    except OSError as error:
        raise DeployError(f"{file} cannot be written: {error}") from error
    return file


def warm_up_files(inputs: Mapping[str, NDArray[Any]]) -> dict[str, bytes]:
    """What Triton reads for one request, by file name, from the first of these rows."""
    row = {name: array[:1] for name, array in inputs.items()}
    texts = [str(text).encode() for text in row["categorical"].ravel().tolist()]
    return {
        "numeric": row["numeric"].astype(np.float32).tobytes(),
        "categorical": b"".join(len(text).to_bytes(4, "little") + text for text in texts),
        "requested_at": row["requested_at"].astype(np.int64).tobytes(),
    }


def _warm_up(config: model_config_pb2.ModelConfig, size: int) -> None:
    """Triton makes `size` requests of the row in the files and runs them as one batch, for each instance."""
    sample = config.model_warmup.add(name=f"{size} rows", batch_size=size)
    for entry in config.input:
        told = sample.inputs[entry.name]
        told.data_type = entry.data_type
        told.dims[:] = entry.dims
        told.input_data_file = entry.name


def _is_whole(value: object, least: int, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def _check(name: str, value: object, is_right: bool, rule: str) -> None:
    if not is_right:
        raise DeployError(f"{name} must be {rule}, got {value!r}")
