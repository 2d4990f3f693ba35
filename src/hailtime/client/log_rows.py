"""An answer as rows of the prediction log, with the inputs that were asked to be kept."""

import json
import logging
from collections.abc import Sequence
from typing import Any

from hailtime.client.question import Answer
from hailtime.client.request import PackedRows
from hailtime.clock import now
from hailtime.errors import ConfigError, did_you_mean
from hailtime.schema import Schema

log = logging.getLogger(__name__)

Column = tuple[str, bool, int]  # its name, whether it is a number, its place among its kind


class RowMaker:
    """`features`: "none", "all" or a list of columns, whose values go into one JSON text a row."""

    def __init__(self, features: str | Sequence[str]) -> None:
        if isinstance(features, str) and features not in ("none", "all"):
            raise ConfigError(f"features must be 'none', 'all' or a list of columns, got {features!r}")
        self._features = features
        self._found: tuple[str, list[Column]] = ("", [])

    def rows(self, request_ids: Sequence[str], answer: Answer, latency_s: float) -> list[tuple[Any, ...]]:
        """Values in the order of `log_tables.INSERT`."""
        now_us = int(now() * 1e6)
        asked_at, said = answer.packed.requested_at[:, 0].tolist(), answer.quantiles_s.tolist()
        each = zip(request_ids, asked_at, said, self._texts(answer.packed, answer.schema), strict=True)
        return [
            (request_id, now_us, at, answer.version, answer.path, *quantiles, latency_s, kept)
            for request_id, at, quantiles, kept in each
        ]

    def _texts(self, packed: PackedRows, schema: Schema) -> list[str | None]:
        columns = self._columns(schema)
        if not columns:
            return [None] * len(packed)
        names = [name for name, _, _ in columns]
        arrays = [(packed.numeric if is_number else packed.categorical)[:, place] for _, is_number, place in columns]
        return [
            json.dumps({name: _plain(value) for name, value in zip(names, values, strict=True)})
            for values in zip(*(array.tolist() for array in arrays), strict=True)
        ]

    def _columns(self, schema: Schema) -> list[Column]:
        """Those to keep, found once for a schema; one that it does not have is told, and is no reason to fail."""
        fingerprint, columns = self._found
        if fingerprint == schema.fingerprint:
            return columns
        known: dict[str, Column] = {name: (name, True, place) for place, name in enumerate(schema.numeric_names)}
        known |= {name: (name, False, place) for place, name in enumerate(schema.categorical_names)}
        wanted = {"none": (), "all": tuple(known)}.get(str(self._features), self._features)
        for name in sorted(set(wanted) - set(known)):
            log.warning("the log cannot keep %r, it is no input column%s", name, did_you_mean(name, known))
        columns = [known[name] for name in wanted if name in known]
        self._found = (schema.fingerprint, columns)
        return columns


def _plain(value: Any) -> Any:
    return None if value == "" or value != value else value
