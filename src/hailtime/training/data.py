"""A prepared folder as batches for the trainer: kept on its device where the table fits, streamed where not."""

import json
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl
import pytorch_lightning as lightning
import torch

from hailtime.durable import store_file
from hailtime.errors import ConfigError, DataError
from hailtime.preparation.prepared import Prepared, types_of
from hailtime.schema import Schema
from hailtime.training.batches import Batches, ResidentBatches, Rows
from hailtime.training.features import FeatureSpec, categorical_feature_names, numeric_feature_names, row_features
from hailtime.training.model import TargetScale
from hailtime.training.streaming import StreamedBatches, pieces_of, sample

VALIDATION_BATCH = 16_384
# A table is in memory as it was read, as features, and shuffled once more: measured 3.0 times the features at the peak.
COPIES = 4
CGROUP = Path("/sys/fs/cgroup")
FILES = ("active_file", "inactive_file")  # of memory.stat: what was read from files, not what lies in /dev/shm


class PreparedData(lightning.LightningDataModule):
    """Train, validation and other parts of a prepared folder.

    - `batch_size`: of all ranks together. ConfigError when they cannot share it equally
    - `resident`: True keeps the table in memory, False streams it, "auto" streams what would not fit
    """

    def __init__(
        self,
        prepared: Prepared,
        spec: FeatureSpec,
        *,
        batch_size: int,
        steps_per_call: int,
        seed: int,
        n_ranks: int = 1,
        resident: bool | str = "auto",
        buffer_rows: int = 1_000_000,
    ) -> None:
        super().__init__()
        if batch_size % n_ranks:
            raise ConfigError(
                f"data.batch_size is shared by {n_ranks} ranks and must be a multiple of it, got {batch_size}: "
                f"data.batch_size={-(-batch_size // n_ranks) * n_ranks}"
            )
        if resident not in (True, False, "auto"):
            raise ConfigError(f"data.resident must be auto, true or false, got {resident!r}")
        self.prepared, self.spec, self.n_ranks = prepared, spec, n_ranks
        self.batch_size, self.steps_per_call, self.seed = batch_size, steps_per_call, seed
        self.resident, self.buffer_rows = resident, buffer_rows
        self.chosen = dict[str, bool]()

    @property
    def steps_an_epoch(self) -> int:
        n_rows = self.n_rows("train")
        return n_rows // (min(self.batch_size, n_rows) // self.n_ranks * self.n_ranks)

    @property
    def share(self) -> int:
        """Rows of a batch that are one rank's."""
        return self.batch_size // self.n_ranks

    def n_rows(self, part: str) -> int:
        return int(self.prepared.report["parts"][part]["rows"])

    def train_dataloader(self) -> Batches:
        return self.batches("train", self.batch_size, steps_per_call=self.steps_per_call, seed=self.seed)

    def val_dataloader(self) -> Batches:
        return self.batches("validation", VALIDATION_BATCH)

    def batches(self, part: str, batch_size: int, **settings: Any) -> Batches:
        """A part's batches on the trainer's device (the CPU without a trainer)."""
        device = self.trainer.strategy.root_device if self.trainer else torch.device("cpu")
        settings |= {"rank": int(self.trainer.global_rank) if self.trainer else 0, "n_ranks": self.n_ranks}
        encode = partial(to_rows, self.prepared.schema, self.spec)
        if self.keeps(part, device):
            return ResidentBatches(encode(self.prepared.part(part)).to(device), batch_size, **settings)
        pieces, columns = pieces_of(self.prepared.files(part)), [*types_of(self.prepared.schema)]
        buffer_rows = self.buffer_rows if part == "train" else VALIDATION_BATCH
        return StreamedBatches(pieces, columns, encode, device, batch_size, buffer_rows=buffer_rows, **settings)

    def choose(self, file: Path, device: torch.device) -> None:
        """Settles once for a run what stays in memory, in the file: a stream has another order than a resident table,
        and the memory that is free differs from rank to rank and from one start to the next.
        """
        known = json.loads(file.read_text())
        if "resident" not in known:
            chosen = {part: self.keeps(part, device) for part in ("train", "validation")}
            store_file(file, json.dumps({**known, "resident": chosen}))

    def keeps(self, part: str, device: torch.device) -> bool:
        """True when the part stays in memory."""
        if part in self.chosen:
            return self.chosen[part]
        if self.resident != "auto":
            return bool(self.resident)
        schema = self.prepared.schema
        row_bytes = 4 * len(numeric_feature_names(schema)) + 8 * len(categorical_feature_names(schema)) + 4
        return COPIES * row_bytes * self.n_rows(part) < free_bytes(device)

    def calibration(self) -> Rows:
        """Rows of the calibration part in the order of time: all, or a sample of a large one."""
        return to_rows(self.prepared.schema, self.spec, sample(self.prepared, "calibration"))

    def transfer_batch_to_device(self, batch: Rows, device: torch.device, dataloader_idx: int) -> Rows:
        return batch  # already there


def to_rows(schema: Schema, spec: FeatureSpec, frame: pl.DataFrame) -> Rows:
    """A prepared frame through `RowFeatures`. DataError when the features were fitted to another schema."""
    if spec.schema_fingerprint != schema.fingerprint:
        raise DataError(
            f"features and data must have one schema, got {spec.schema_fingerprint} and {schema.fingerprint}: "
            "train again on this data"
        )
    x_num, x_cat = row_features(schema, spec, frame)
    target_s = torch.from_numpy(frame[schema.target].to_numpy().copy()).float()
    return Rows(x_num, x_cat, TargetScale(schema, spec).from_seconds(target_s, x_num))


def free_bytes(device: torch.device, cgroup: Path = CGROUP) -> int:
    """Memory that is free here, of the GPU as well where the device is one; a container's limit counts."""
    limits = [int(line.split()[1]) * 1024 for line in _lines(Path("/proc/meminfo")) if line.startswith("MemAvailable")]
    allowed, used = _lines(cgroup / "memory.max"), _lines(cgroup / "memory.current")
    if allowed and used and allowed[0] != "max":
        cached = dict(line.split() for line in _lines(cgroup / "memory.stat"))  # given back when needed
        limits.append(int(allowed[0]) - int(used[0]) + sum(int(cached.get(name, 0)) for name in FILES))
    if device.type == "cuda":
        limits.append(torch.cuda.mem_get_info(device)[0])
    return min(limits, default=2**63)


def _lines(file: Path) -> list[str]:
    return file.read_text().splitlines() if file.exists() else []
