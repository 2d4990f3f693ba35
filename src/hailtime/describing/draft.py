"""The first yaml of a table, with the reason behind every line: short, after it."""

from collections.abc import Iterable
from pathlib import Path

import polars as pl

from hailtime.describing.columns import Column
from hailtime.describing.description import Description
from hailtime.describing.lines import Line, condition_lines, lines_of, quoted
from hailtime.describing.names import says

_MAX_SLICE = 20  # more values make a table nobody reads


def draft(description: Description) -> str:
    """A source's yaml, or for weather and the like the piece to put into one."""
    return _conditions_piece(description) if description.roles.conditions else _source(description)


def start_of(path: Path) -> tuple[str, str]:
    """The folder where a path begins, and the rest: `trips/2026-*.csv` → trips, 2026-*.csv."""
    if path.is_dir():
        return str(path), "."
    parts = path.parts
    first = next((i for i, part in enumerate(parts) if any(mark in part for mark in "*?[")), len(parts) - 1)
    return str(Path(*parts[:first])) if first else ".", str(Path(*parts[first:]))


def _source(description: Description) -> str:
    folder, path = start_of(description.table.path)
    lines, clock = lines_of(description), description.clock
    words = _words(description)
    text = [
        f"# A first yaml of {description.table.path}, by scripts/describe.py from {description.table.basis}.",
        "# Every reason is a guess's: mend what is wrong, take out what is not known when the rider asks.",
        f"# python scripts/prepare.py source={description.name}",
        *(f"# FILL IN {gap}" for gap in description.to_fill),
        "load:",
        "  _target_: hailtime.sources.files.load",
        f"  folder: {quoted(folder)} # where the path begins",
        f"  path: {quoted(path)}",
        _with(f"  timezone: {clock.timezone}", f"check this: {clock.why}; of times written without an offset"),
        *(
            [f"  missing: [{', '.join(_always_quoted(word) for word in words)}] # words for 'not given' in any column"]
            if words
            else []
        ),
        "  columns: # ours: theirs; only these are read",
        *(_with(f"    {quoted(line.ours)}: {line.load}", line.load_why) for line in lines if line.load),
        *_left_out(description, "    "),
        "",
        "schema:",
        f"  source: {description.name}",
        _with(f"  timezone: {clock.timezone}", "check this: of the city, its clock is in the model"),
        *_connections(description, lines),
        "  columns:",
        *(_with(f"    {quoted(line.ours)}: {line.schema}", line.schema_why) for line in lines if line.schema),
        *(
            []
            if _has_inputs(lines)
            else ["    ???: {role: categorical} # fill in: a column that is known at the request"]
        ),
        "",
        "conditions: {} # weather, traffic: describe their tables too, python scripts/describe.py PATH",
        "",
        *_rules(description, lines),
        "",
        f"split: # {description.split.why}",
        *(
            f"  {name}: {at}"
            for name, at in zip(("validation", "calibration", "test"), description.split.boundaries, strict=True)
        ),
        _with(f"  gap_s: {description.split.gap_s}", description.split.gap_why),
        "",
        f"slices: [{', '.join(_slices(description, lines))}] # beside the local hour, what errors are told by",
    ]
    return "\n".join(text) + "\n"


def _conditions_piece(description: Description) -> str:
    what, (folder, path) = description.roles.conditions, start_of(description.table.path)
    lines = condition_lines(description)
    zone = next((line.ours for line in lines if line.schema == "{role: categorical}"), None)
    place = str(Path(folder) / path)
    words = _words(description)
    hint = [f"# and load.missing needs {', '.join(_always_quoted(word) for word in words)}"] if words else []
    key = "null" if zone is None else zone
    why = "one value for the whole city" if zone is None else "check this: the trips need this column too"
    text = [
        f"# {description.table.path} looks like {what}, not like trips: put these pieces into your source's yaml.",
        f"# By scripts/describe.py from {description.table.basis}.",
        *hint,
        "load:",
        "  conditions:",
        f"    {what}:",
        f"      path: {quoted(place)} # beginning at load.folder",
        _with(f"      timezone: {description.clock.timezone}", f"check this: {description.clock.why}"),
        "      columns:",
        *(_with(f"        {quoted(line.ours)}: {line.load}", line.load_why) for line in lines),
        *_left_out(description, "        "),
        "",
        "schema:",
        "  columns:",
        *(
            _with(f"    {quoted(line.ours)}: {line.schema[:-1]}, condition: {what}}}", line.schema_why)
            for line in lines
            if line.schema.startswith("{role: numeric")
        ),
        "",
        "conditions:",
        _with(
            f"  {what}: {{key: {key}, freshness_h: {_freshness_h(description)}}}",
            f"{why}; fresh for three of its steps",
        ),
    ]
    return "\n".join(text) + "\n"


def _connections(description: Description, lines: list[Line]) -> list[str]:
    roles, ours = description.roles, {line.ours for line in lines}
    zone = None if roles.zone is None else _ours_of(roles.columns[roles.zone], lines)
    found = [
        _with(
            f"  zone: {zone or 'null'}",
            "the category that says where the pickup is" if zone else "no category says where",
        )
    ]
    journey = [f"{end}_{side}" for end in ("driver", "pickup") for side in ("lat", "lon")]
    if set(journey) <= ours:
        found.append(f"  journey: [{', '.join(journey)}]")
    for column in roles.of("number"):
        if column.unit == "s" and says(column.name, ("routing", "estimate", "eta", "predicted")):
            why = "if this is a routing engine's, the network learns the rest"
            found.append(f"  # routing_estimate: {_input_of(column, lines)} # {why}")
    return found


def _rules(description: Description, lines: list[Line]) -> list[str]:
    """Duplicates and the order of times; which rows are asked about is for their owner to say."""
    roles, rules = description.roles, []
    if roles.id is not None:
        rules.append("  same_request_twice: {rule: duplicate, by: [request_id]}")
    elif roles.same_request and description.requested is not None:
        by = ["requested_at"] + (["arrived_at"] if description.arrived is not None else [])
        by += [ours for name in roles.same_request if (ours := _ours_of(roles.columns[name], lines))]
        rules.append(
            f"  same_row_twice: {{rule: duplicate, by: [{', '.join(by)}]}} # together they tell nearly all rows apart"
        )
    if any(line.ours == "arrived_at" and line.load for line in lines):
        rules.append("  arrived_before_asked: {rule: order, first: requested_at, then: arrived_at}")
    return ["rules: # beside these, every column's range is a rule", *rules] if rules else ["rules: {}"]


def _slices(description: Description, lines: list[Line]) -> list[str]:
    small = [c for c in description.roles.of("category") if 2 <= c.distinct <= _MAX_SLICE and c.kind != "flag"]
    small.sort(key=lambda column: column.name != description.roles.zone)
    return [quoted(ours) for column in small[:3] if (ours := _ours_of(column, lines))]


def _ours_of(column: Column, lines: Iterable[Line]) -> str | None:
    """Our name of a category, found by what it is read from."""
    entry = f"{{column: {quoted(column.name)}, kind: text}}"
    return next((line.ours for line in lines if line.load == entry and line.schema == "{role: categorical}"), None)


def _input_of(column: Column, lines: Iterable[Line]) -> str:
    """Our name of a number, found by what it is read from."""
    entries = (quoted(column.name), f"{{column: {quoted(column.name)}, ")
    return next(line.ours for line in lines if line.schema and line.load.startswith(entries))


def _left_out(description: Description, indent: str) -> list[str]:
    roles = description.roles
    if roles.conditions:
        kept = {"observed_at", "known_at", "number"}
        gone = [name for name, guess in roles.guesses.items() if guess.role not in kept and name != roles.zone]
    else:
        gone = [name for name in roles.columns if roles.guesses[name].role == "left out"]
    told = [f"{indent}#   {quoted(name)}: {_flat(roles.guesses[name].why)}" for name in gone]
    told += [f"{indent}#   {quoted(name)}: not in every file" for name in description.table.not_everywhere]
    return [f"{indent}# left out:", *told] if told else []


def _words(description: Description) -> list[str]:
    """Words for "not given" in the columns that are loaded; a Parquet file's cannot be made missing."""
    if not description.table.is_csv:
        return []
    roles = description.roles
    loaded = [c for name, c in roles.columns.items() if roles.guesses[name].role != "left out"]
    return list(dict.fromkeys(word for column in loaded for word in column.reading.words))


def _has_inputs(lines: Iterable[Line]) -> bool:
    return any(line.schema.startswith(("{role: numeric", "{role: categorical")) for line in lines)


def _freshness_h(description: Description) -> int:
    """Three of the table's steps, those of one zone where it has zones."""
    roles = description.roles
    rows = pl.DataFrame({"time": roles.of("observed_at")[0].values}).with_columns(zone=pl.lit(0))
    if roles.zone is not None:
        rows = rows.with_columns(roles.columns[roles.zone].values.alias("zone"))
    step = pl.col("time").sort().diff().over("zone")
    step_us = rows.unique().drop_nulls().select(step.median()).item()
    return 1 if step_us is None else max(1, round(3 * step_us / 3.6e9))


def _always_quoted(word: str) -> str:
    return "'" + word.replace("'", "''") + "'"


def _with(line: str, why: str) -> str:
    return f"{line} # {_flat(why)}" if why else line


def _flat(text: str) -> str:
    return " ".join(text.split())
