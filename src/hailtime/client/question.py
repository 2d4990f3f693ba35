"""One `predict`: its rows, the id they are drawn and logged by, and the answer on its way back."""

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, overload

import numpy as np
from numpy.typing import NDArray

from hailtime.client.prediction import AnswerPath, Prediction, Predictions
from hailtime.client.request import Frame, PackedRows, RowPacker, is_frame
from hailtime.schema import Schema

Rows = Sequence[Mapping[str, Any]] | Frame


class Answer(NamedTuple):
    """Seconds (n, 3), who said so, and the rows and the schema it was said to."""

    quantiles_s: NDArray[np.float32]
    version: str
    path: AnswerPath
    packed: PackedRows
    schema: Schema


class MadeIds(Sequence[str]):
    """`call/0`, `call/1`, ...: made when somebody looks, which takes 0.1 ms for 1,024."""

    def __init__(self, call_id: str, places: range) -> None:
        self._call_id, self._places = call_id, places

    def __len__(self) -> int:
        return len(self._places)

    @overload
    def __getitem__(self, place: int) -> str: ...
    @overload
    def __getitem__(self, place: slice) -> "MadeIds": ...
    def __getitem__(self, place: int | slice) -> "str | MadeIds":
        if isinstance(place, slice):
            return MadeIds(self._call_id, self._places[place])
        return f"{self._call_id}/{self._places[place]}"

    def __iter__(self) -> Iterator[str]:
        return (f"{self._call_id}/{place}" for place in self._places)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(other)


class Question:
    """The rows as the caller gave them, packed by the schema of whoever is asked."""

    def __init__(self, rows: Mapping[str, Any] | Rows, request_id: str | None) -> None:
        self.rows = rows
        self.is_one = type(rows) is dict or isinstance(rows, Mapping)  # the first is asked in a tenth of the time
        self.n_rows = len(rows) if not self.is_one and hasattr(rows, "__len__") else 1
        self.n_tries = 0
        self.is_packed = False
        self._packed_by = ""
        self._packed: PackedRows | None = None
        self._row_ids: Sequence[str] = ()
        self.request_id = request_id or ""

    def packed_by(self, packer: RowPacker) -> PackedRows:
        """RequestError when the rows do not fit its schema."""
        if self._packed is None or self._packed_by != packer.fingerprint:
            self._packed, self._packed_by = packer.pack(self.rows), packer.fingerprint
            self._row_ids = packer.ids(self.rows)
            first_id = self._row_ids[0] if self._row_ids else ""
            self.request_id = self.request_id or first_id or os.urandom(16).hex()
            self.is_packed = True
        return self._packed

    def request_ids(self) -> Sequence[str]:
        """One a row: its own, else this call's with the row's place."""
        if self.is_one:
            return (self.request_id,)
        made = MadeIds(self.request_id, range(self.n_rows))
        return [own or other for own, other in zip(self._row_ids, made, strict=True)] if self._row_ids else made

    def predictions(self, answer: Answer) -> Prediction | Predictions:
        """What the caller gets: one `Prediction` for one dict."""
        if self.is_one:
            p10_s, p50_s, p90_s = answer.quantiles_s[0].tolist()
            return Prediction(p10_s, p50_s, p90_s, answer.version, answer.path, self.request_id)
        return Predictions(answer.quantiles_s, answer.version, answer.path, self.request_ids())

    @property
    def is_empty(self) -> bool:
        return self.n_rows == 0 and (isinstance(self.rows, list | tuple) or is_frame(self.rows))


# Of all clients of this process, because its threads take turns whichever client they ask
UNDER_WAY: set[Question] = set()
if hasattr(os, "register_at_fork"):  # Windows has no fork
    os.register_at_fork(after_in_child=UNDER_WAY.clear)
