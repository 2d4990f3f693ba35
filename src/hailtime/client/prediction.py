"""What the client answers: one prediction or a table of them, and the check that no rider is told nonsense."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, overload

import numpy as np
from numpy.typing import NDArray

from hailtime.errors import PredictionError
from hailtime.schema import QUANTILES

FEW = 16  # rows for which plain Python is faster: one row takes it 1 µs, numpy's seven steps 5
AnswerPath = Literal["triton", "local", "rule"]  # who said so: the server, the model file at hand, or the rule


@dataclass(frozen=True, slots=True)
class Prediction:
    """Seconds until the driver is there: less than P10 in one case of ten, more than P90 in one of ten.

    - `version`: the model's; of a local file its folder or run; "" for the rule
    - `request_id`: as the row gave it, else made up; what `PredictionLog.report_actual` wants
    """

    p10_s: float
    p50_s: float
    p90_s: float
    version: str
    path: AnswerPath = "triton"
    request_id: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True, eq=False)
class Predictions(Sequence[Prediction]):
    """One `Prediction` a row, in the rows' order. `quantiles_s` is float32 (n, 3): P10, P50, P90."""

    quantiles_s: NDArray[np.float32]
    version: str
    path: AnswerPath
    request_ids: Sequence[str]

    @property
    def p10_s(self) -> NDArray[np.float32]:
        return self.quantiles_s[:, 0]

    @property
    def p50_s(self) -> NDArray[np.float32]:
        return self.quantiles_s[:, 1]

    @property
    def p90_s(self) -> NDArray[np.float32]:
        return self.quantiles_s[:, 2]

    def __len__(self) -> int:
        return len(self.quantiles_s)

    @overload
    def __getitem__(self, place: int) -> Prediction: ...
    @overload
    def __getitem__(self, place: slice) -> "Predictions": ...
    def __getitem__(self, place: int | slice) -> "Prediction | Predictions":
        if isinstance(place, slice):
            return Predictions(self.quantiles_s[place], self.version, self.path, self.request_ids[place])
        return self._prediction(self.quantiles_s[place].tolist(), self.request_ids[place])

    def __iter__(self) -> Iterator[Prediction]:
        return map(self._prediction, self.quantiles_s.tolist(), self.request_ids)

    def to_dict(self) -> dict[str, Any]:
        """Columns, for `pandas.DataFrame(predictions.to_dict())`."""
        said_by = {"version": [self.version] * len(self), "path": [self.path] * len(self)}
        times = {"p10_s": self.p10_s, "p50_s": self.p50_s, "p90_s": self.p90_s}
        return {"request_id": list(self.request_ids), **times, **said_by}

    def _prediction(self, quantiles_s: list[float], request_id: str) -> Prediction:
        p10_s, p50_s, p90_s = quantiles_s
        return Prediction(p10_s, p50_s, p90_s, self.version, self.path, request_id)


def check_answer(quantiles_s: NDArray[np.float32], n_rows: int, version: object) -> None:
    """PredictionError unless every row is finite, not negative and in order."""
    if quantiles_s.shape != (n_rows, len(QUANTILES)):
        raise PredictionError(
            f"version {version} must answer {n_rows} rows of {len(QUANTILES)} numbers, got shape {quantiles_s.shape}"
        )
    if n_rows > FEW and _are_good(quantiles_s):
        return
    for row, (low, median, high) in enumerate(quantiles_s.tolist()):
        if not 0 <= low <= median <= high < math.inf:  # NaN fails every comparison
            raise PredictionError(
                f"an answer must be finite and 0 ≤ P10 ≤ P50 ≤ P90, version {version} gave {[low, median, high]} "
                f"for row {row}"
            )


def _are_good(quantiles_s: NDArray[np.float32]) -> bool:
    low, median, high = quantiles_s.T
    return bool(((low >= 0) & (low <= median) & (median <= high) & (high < math.inf)).all())
