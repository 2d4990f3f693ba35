"""A description in words: what the table seems to be, what looks wrong, and what to do next."""

from datetime import UTC, datetime

from hailtime.describing.columns import Column
from hailtime.describing.description import Description
from hailtime.schema import MICROSECONDS_PER_SECOND

_INPUTS = ("number", "category", "pickup_lat", "pickup_lon", "driver_lat", "driver_lon", "dropoff_lat", "dropoff_lon")


def paragraph(description: Description) -> str:
    """What the table seems to be, in a few sentences."""
    table, roles = description.table, description.roles
    kind = "CSV" if table.is_csv else "Parquet"
    files = f"{len(table.files)} {kind} file{'s' if len(table.files) != 1 else ''}"
    said = [f"{table.n_rows:,} rows and {len(roles.columns)} columns in {files}; figures are from {table.basis}."]
    if roles.conditions:
        return " ".join(
            [f"It looks like {roles.conditions}, not like trips: a time, values, and nobody who waits.", *said]
        )
    said.insert(0, "It looks like trips: requests and when a driver was there." if description.has_target
                else "It looks like a table without a pickup time.")  # fmt: skip
    if description.requested is not None:
        said.append(f"A row begins with {description.requested.name}, {span_of(description.requested)}.")
    said.append(_about_target(description))
    n_left_out = len(roles.of("left out"))
    said.append(f"{len(roles.of(*_INPUTS))} columns can be inputs, {n_left_out} left out.")
    return " ".join(said)


def span_of(column: Column) -> str:
    """`2013-01-01 00:01 to 2016-06-30 23:59`, less one in a thousand at each end."""
    return f"{moment_text(column.low)} to {moment_text(column.high)}"


def moment_text(time_us: float | None) -> str:
    if time_us is None:
        return "never"
    return f"{datetime.fromtimestamp(time_us / MICROSECONDS_PER_SECOND, UTC):%Y-%m-%d %H:%M}"


def waits_text(seconds: float) -> str:
    """`5.4 min`, as a rider would say it."""
    return f"{seconds / 60:.1f} min" if seconds >= 60 else f"{seconds:.0f} s"


def suspicions_of(description: Description) -> list[tuple[str, str, float]]:
    """Column, what looks wrong, share of the rows; the most frequent first, and what is left out last."""
    found = [
        (name, suspicion.text, suspicion.share)
        for name, column in description.columns.items()
        for suspicion in column.suspicions
    ]
    return sorted(found, key=lambda one: (description.guesses[one[0]].role == "left out", -one[2]))


def share_text(share: float) -> str:
    """`0.12%`; nothing for what is not about rows."""
    if share == 0:
        return ""
    return "below 0.01%" if share < 0.0001 else f"{share:.2%}" if share < 0.1 else f"{share:.0%}"


def _about_target(description: Description) -> str:
    moments = description.roles.moments
    if not description.has_target:
        return "The pickup time is not in it: see what is to be filled in."
    source = moments.target.name if moments.target is not None else f"{moments.arrived.name} − {moments.requested.name}"  # type: ignore[union-attr]
    waits = None if moments.target_s is None else moments.target_s.drop_nulls()
    if waits is None or len(waits) == 0:
        return f"The pickup time is {source}."
    middle, ninth, last = (float(waits.quantile(q) or 0.0) for q in (0.5, 0.9, 0.999))
    said = f"{waits_text(middle)} in the median, P90 {waits_text(ninth)}, P99.9 {waits_text(last)}"
    return f"The pickup time is {source}: {said}."
