"""What a request row holds: the one declaration that every stage reads.

A source's yaml declares its columns once. The prepared folder, the run folder, the ONNX metadata, Triton's config and
the client's checks are written from that declaration, and its fingerprint guards every hand-over between them.

Frames inside the package keep three habits (measured: with them Polars, pandas and Spark agree to 2e-12):
columns named `*_at` are int64 microseconds since 1970 UTC, numeric columns are float64 with null for missing,
categorical columns are strings with null for missing. On the wire `requested_at` is int64 *seconds*, because a model
of minutes needs no more and every language has them at hand.

This file needs the standard library only, so that the client stays thin.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any, Literal, get_args

from hailtime.errors import SchemaError, did_you_mean

Role = Literal["id", "requested_at", "numeric", "categorical", "target", "truth"]
OutOfRange = Literal["missing", "clip", "reject"]

MICROSECONDS_PER_SECOND = 1_000_000
QUANTILES = (0.1, 0.5, 0.9)  # what the model answers: P10, P50, P90
MODEL_NAME = "pickup_eta"  # the folder in the model repository and the name in every call


@dataclass(frozen=True, slots=True)
class Column:
    """One column: what it is for, its unit, the values it may hold and what a value outside means.

    `out_of_range`: `missing` treats the value as not given, `clip` moves it to the nearest limit, `reject` drops the
    trip when data is cleaned and refuses the request when the client is asked.
    `condition` names the table (weather, traffic, ...) that a joined column comes from.
    """

    name: str
    role: Role
    unit: str = ""
    minimum: float | None = None
    maximum: float | None = None
    out_of_range: OutOfRange = "missing"
    condition: str | None = None
    description: str = ""

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z][a-z0-9_]*", self.name):
            raise SchemaError(f"a column name must match [a-z][a-z0-9_]*, got {self.name!r}")
        if self.role not in get_args(Role):
            raise SchemaError(f"column {self.name}: no role {self.role!r}{did_you_mean(self.role, get_args(Role))}")
        if self.out_of_range not in get_args(OutOfRange):
            hint = did_you_mean(self.out_of_range, get_args(OutOfRange))
            raise SchemaError(f"column {self.name}: out_of_range cannot be {self.out_of_range!r}{hint}")
        if self.minimum is not None and self.maximum is not None and self.minimum >= self.maximum:
            raise SchemaError(
                f"column {self.name}: minimum must be below maximum, got {self.minimum} and {self.maximum}"
            )
        if self.role == "numeric" and not self.unit:
            raise SchemaError(f"column {self.name}: a numeric column needs a unit ('1' for a count or a share)")

    @property
    def range_text(self) -> str:
        """`0 to 40 m/s`, for messages."""
        low = "any" if self.minimum is None else f"{self.minimum:g}"
        high = "any" if self.maximum is None else f"{self.maximum:g}"
        return f"{low} to {high} {self.unit}".rstrip()


@dataclass(frozen=True)
class Schema:
    """The columns of one source and what connects them.

    - `timezone`: IANA name of the city's zone, for local clock time inside the model
    - `zone`: the categorical column that says where the pickup is (slices, zone rule, fallback), or None
    - `journey`: the four numeric columns driver latitude, longitude, pickup latitude, longitude, or None
    - `routing_estimate`: a numeric column in seconds that the network predicts the residual to, or None
    """

    source: str
    timezone: str
    columns: tuple[Column, ...]
    zone: str | None = None
    journey: tuple[str, str, str, str] | None = None
    routing_estimate: str | None = None
    version: int = field(default=1)  # of this format

    def __post_init__(self) -> None:
        names = [column.name for column in self.columns]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise SchemaError(f"a column may be declared once, declared twice: {', '.join(twice)}")
        for role in ("id", "requested_at", "target"):
            found = [column.name for column in self.columns if column.role == role]
            if len(found) != 1:
                raise SchemaError(f"a schema needs exactly one {role} column, {self.source} has {found or 'none'}")
        if not self.numeric and not self.categorical:
            raise SchemaError(f"a schema needs at least one numeric or categorical column, {self.source} has none")
        if self.zone is not None and self.zone not in self.categorical_names:
            hint = did_you_mean(self.zone, self.categorical_names)
            raise SchemaError(f"zone must name a categorical column, got {self.zone!r}{hint}")
        for name in (*(self.journey or ()), *([self.routing_estimate] if self.routing_estimate else [])):
            if name not in self.numeric_names:
                hint = did_you_mean(name, self.numeric_names)
                raise SchemaError(f"journey and routing_estimate must name numeric columns, got {name!r}{hint}")
        if self.journey is not None and len(self.journey) != 4:
            raise SchemaError(f"journey needs four columns (from lat, lon, to lat, lon), got {self.journey}")

    @cached_property
    def numeric(self) -> tuple[Column, ...]:
        """Numeric input columns, in the order of the model's `numeric` tensor."""
        return tuple(column for column in self.columns if column.role == "numeric")

    @cached_property
    def categorical(self) -> tuple[Column, ...]:
        """Categorical input columns, in the order of the model's `categorical` tensor."""
        return tuple(column for column in self.columns if column.role == "categorical")

    @cached_property
    def numeric_names(self) -> tuple[str, ...]:
        return tuple(column.name for column in self.numeric)

    @cached_property
    def categorical_names(self) -> tuple[str, ...]:
        return tuple(column.name for column in self.categorical)

    @cached_property
    def input_names(self) -> tuple[str, ...]:
        """Every column a request must bring: the time of the request, the numbers, the categories."""
        return (self.requested_at, *self.numeric_names, *self.categorical_names)

    @cached_property
    def by_name(self) -> dict[str, Column]:
        return {column.name: column for column in self.columns}

    def _only(self, role: Role) -> str:
        return next(column.name for column in self.columns if column.role == role)

    @cached_property
    def id(self) -> str:
        return self._only("id")

    @cached_property
    def requested_at(self) -> str:
        return self._only("requested_at")

    @cached_property
    def target(self) -> str:
        return self._only("target")

    @cached_property
    def truth(self) -> str | None:
        """The noise-free median of a simulated trip, never an input; None for real sources."""
        return next((column.name for column in self.columns if column.role == "truth"), None)

    def column(self, name: str) -> Column:
        """The column of this name; SchemaError naming the nearest one otherwise."""
        if name not in self.by_name:
            raise SchemaError(f"{self.source} has no column {name!r}{did_you_mean(name, self.by_name)}")
        return self.by_name[name]

    @cached_property
    def fingerprint(self) -> str:
        """12 hex digits over everything that changes what a number means; descriptions do not count."""
        content = self.to_dict()
        for column in content["columns"]:
            column.pop("description", None)
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]

    def to_dict(self) -> dict[str, Any]:
        """Plain data with defaults left out: what yaml and JSON hold."""
        defaults = {f.name: f.default for f in Column.__dataclass_fields__.values()}
        columns = [{k: v for k, v in asdict(c).items() if v != defaults.get(k)} for c in self.columns]
        return {
            "version": self.version,
            "source": self.source,
            "timezone": self.timezone,
            "zone": self.zone,
            "journey": list(self.journey) if self.journey else None,
            "routing_estimate": self.routing_estimate,
            "columns": columns,
        }

    def to_json(self) -> str:
        return json.dumps(self.to_dict(), indent=2)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "Schema":
        """From yaml or JSON. `columns` is a list of columns or a mapping from name to the rest of the column.

        A numeric column may give its limits as `range: [minimum, maximum]`. SchemaError names what is wrong.
        """
        known = {"version", "source", "timezone", "zone", "journey", "routing_estimate", "columns"}
        for key in data:
            if key not in known:
                raise SchemaError(f"a schema has no entry {key!r}{did_you_mean(str(key), known)}")
        for key in ("source", "timezone", "columns"):
            if not data.get(key):
                raise SchemaError(f"a schema needs an entry {key!r}")
        entries = data["columns"]
        if isinstance(entries, Mapping):
            entries = [{"name": name, **rest} for name, rest in entries.items()]
        journey = data.get("journey")
        return cls(
            source=str(data["source"]),
            timezone=str(data["timezone"]),
            columns=tuple(_column_from_dict(entry) for entry in entries),
            zone=data.get("zone"),
            journey=tuple(journey) if journey else None,
            routing_estimate=data.get("routing_estimate"),
            version=int(data.get("version", 1)),
        )

    @classmethod
    def from_json(cls, text: str) -> "Schema":
        try:
            data = json.loads(text)
        except json.JSONDecodeError as error:
            raise SchemaError(f"a schema must be JSON, got {text[:60]!r}") from error
        return cls.from_dict(data)


def _column_from_dict(entry: Mapping[str, Any]) -> Column:
    fields = dict(entry)
    if "range" in fields:
        fields["minimum"], fields["maximum"] = fields.pop("range")
    known = set(Column.__dataclass_fields__)
    for key in fields:
        if key not in known:
            raise SchemaError(
                f"column {fields.get('name', '?')} has no entry {key!r}{did_you_mean(key, known | {'range'})}"
            )
    for limit in ("minimum", "maximum"):
        if fields.get(limit) is not None:
            fields[limit] = float(fields[limit])
    return Column(**fields)
