"""Where an answer comes from and where data went: data → run → model file → version → predictions → actuals.

    places = Places(Path("model_repository"), "predictions.sqlite", Path("runs"))
    trace(places, "7")  # a version, a request id, a run or a data fingerprint, as a tree of plain values

Only what is written somewhere is said. A link that is not there is named under "missing", with what was looked for.
python scripts/lineage.py VERSION|REQUEST_ID|RUN|FINGERPRINT
"""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from hailtime.errors import DataError
from hailtime.monitoring.log_source import LogSource
from hailtime.serving.history import read_history
from hailtime.serving.places import present_versions, version_folder
from hailtime.serving.releases import Standing, standings
from hailtime.serving.repository import describe_run, is_intact, read_origin
from hailtime.training.run_folder import CONFIG, DATA, FINISHED

Node = dict[str, Any]
KINDS = ("run", "version", "data", "request")
_ERROR = "p.p50_s - a.pickup_time_s"


@dataclass(frozen=True)
class Places:
    """Where to look: a model repository, a prediction log (None: nothing is said of requests), a folder of runs."""

    repository: Path
    log: Path | str | None
    runs: Path

    @cached_property
    def releases(self) -> list[Standing]:
        return [row for row in standings(self.repository) if row.version] if self.repository.is_dir() else []

    @cached_property
    def run_folders(self) -> list[Path]:
        """Every run folder, those of retrainings among them."""
        return sorted(
            config.parent for pattern in ("*", "*/*", "*/*/*") for config in self.runs.glob(f"{pattern}/{DATA}")
        )

    @cached_property
    def answers(self) -> dict[str, Node]:
        """What the log knows of each version."""
        return _answers(LogSource(self.log)) if self.log is not None else {}


def trace(places: Places, what: str, kind: str | None = None) -> Node:
    """The tree of a version, request, run or data. DataError when it is none, or, without `kind`, more than one."""
    found = {name: node for name in ([kind] if kind else KINDS) if (node := FINDERS[name](places, what)) is not None}
    if not found:
        log = "no log was named (--log)" if places.log is None else f"the log {places.log}"
        raise DataError(
            f"{what} is no {' or '.join([kind] if kind else KINDS)}: looked in {places.runs}, "
            f"{places.repository}, {log}"
        )
    if len(found) > 1:
        raise DataError(f"{what} is {' and '.join(found)} at once: say which by --as")
    ((name, node),) = found.items()
    return {"kind": name, **node}


def request(places: Places, request_id: str) -> Node | None:
    """What was asked and said, what came true, and where each saying version comes from."""
    if places.log is None:
        return None
    rows = LogSource(places.log).request(request_id)
    if rows.is_empty():
        return None
    said = [_said(row) for row in rows.iter_rows(named=True)]
    names = dict.fromkeys(row["version"] for row in said if row["version"])  # the rule has none
    return {"request": request_id, "answers": said, "sources": [_source(places, name) for name in names]}


def version(places: Places, name: str) -> Node | None:
    """How a version stands, its file, its run, what it answered and how well."""
    known = {str(row.version): row for row in places.releases}
    if name not in known:
        return None
    row = known[name]
    number = int(name)
    folder = version_folder(places.repository, number)
    manifest, exported = read_origin(folder), _json(folder / "export.json")
    missing = [] if manifest else [f"the files of version {name} are no longer in {places.repository}"]
    sha256 = manifest.get("sha256", {}).get("model.onnx")
    node = {
        "version": number,
        "state": row.state,
        "since": row.since,
        "by": row.by,
        "why": row.why,
        "model": {"sha256": sha256, "published_at": manifest.get("published_at"), **_exported(exported)},
        "gates": [asdict(gate) for gate in row.gates],
        "changes": [
            {"at": c.at, "action": c.action, "why": c.why}
            for c in read_history(places.repository)
            if c.version == number
        ],
        "answers": _or_missing(places, name, missing),
    }
    if manifest and not is_intact(places.repository, number):
        missing.append(f"the files of version {name} are not as they were published")
    node["run"] = _run_of(places, row, manifest, exported, sha256, missing)
    return {**node, "missing": missing}


def run(places: Places, name: str) -> Node | None:
    """How a run was made, from which data, which versions it became and what they answered."""
    folder = _run_folder(places, name)
    if folder is None:
        return None
    node, missing = _run(folder), list[str]()
    sha256 = node["model"]["sha256"] if node["model"] else None
    if sha256 is None:
        missing.append(f"{folder} has no model.onnx: python scripts/export.py {folder}")
    own = [row for row in places.releases if sha256 is not None and _sha256_of(places, row) == sha256]
    deleted = [row for row in places.releases if not row.is_kept and row.run == _name_of(folder)]
    missing += [
        f"version {r.version} was made of a run of this name; its files are deleted, so its sha256 is not known"
        for r in deleted
    ]
    node["versions"] = [_became(places, row, missing) for row in own]
    return {**node, "missing": [*node["missing"], *missing]}


def data(places: Places, fingerprint: str) -> Node | None:
    """The runs that were trained on it, and the versions that say they were."""
    folders = [folder for folder in places.run_folders if _json(folder / DATA).get("fingerprint") == fingerprint]
    versions = [row for row in places.releases if row.data_fingerprint == fingerprint]
    if not folders and not versions:
        return None
    known = _data(folders[0]) if folders else {"fingerprint": fingerprint}
    missing = [] if folders else [f"no run folder under {places.runs} has this data; its versions say it was theirs"]
    runs = [{"run": _name_of(folder), "folder": str(folder), "figures": _figures(folder)} for folder in folders]
    return {
        "data": known,
        "runs": runs,
        "versions": [_became(places, row, missing) for row in versions],
        "missing": missing,
    }


FINDERS: dict[str, Callable[[Places, str], Node | None]] = {
    "run": run,
    "version": version,
    "data": data,
    "request": request,
}


def _run(folder: Path) -> Node:
    """A run from its own folder."""
    origin, exported = _json(folder / "origin.json"), _json(folder / "export.json")
    missing = (
        [] if origin else [f"{folder} has no origin.json: its commit, command, packages and machine are not known"]
    )
    if not (folder / FINISHED).exists():
        missing.append(f"the training of {folder} is not finished")
    model = {"sha256": exported.get("sha256"), **_exported(exported)} if exported else None
    node = {"run": _name_of(folder), "folder": str(folder), "config": str(folder / CONFIG), **origin}
    return {
        **node,
        "figures": _figures(folder),
        "retraining": _retraining(folder),
        "model": model,
        "data": _data(folder),
        "missing": missing,
    }


def _run_of(
    places: Places, row: Standing, manifest: Node, exported: Node, sha256: str | None, missing: list[str]
) -> Node:
    """The run a version was made of: its folder where its model.onnx is this one, else what travelled with the file."""
    named = [Path(manifest["folder"])] if "folder" in manifest else []
    named += [folder for folder in places.run_folders if _name_of(folder) == row.run]
    folders = [
        folder for folder in [*named, *places.run_folders] if _json(folder / "export.json").get("sha256") == sha256
    ]
    if folders and sha256 is not None:
        node = _run(folders[0])
        missing += node.pop("missing")
        return node
    there = next((folder for folder in named if folder.is_dir()), None)
    missing.append(
        f"{there} has another model.onnx than this version: exported again since"
        if there
        else f"the run folder {row.run!r} is not under {places.runs}"
    )
    said = {"run": row.run, "data": exported.get("data") or {"fingerprint": row.data_fingerprint}}
    return {**said, **(exported.get("trained") or {}), "figures": {"mae_s": row.mae_s}}


def _run_folder(places: Places, name: str) -> Path | None:
    if (Path(name) / DATA).is_file():
        return Path(name)
    return next(
        (folder for folder in places.run_folders if name in (_name_of(folder), str(folder.relative_to(places.runs)))),
        None,
    )


def _name_of(folder: Path) -> str:
    """As the releases call it: the run of a retraining by the retraining's id."""
    return str(describe_run(folder)["run"])


def _data(folder: Path) -> Node:
    return _json(folder / DATA)


def _figures(folder: Path) -> Node:
    """Of its validation part, and of its test part where it was evaluated."""
    finished, metrics = _json(folder / FINISHED), _json(folder / "metrics.json")
    judged = {name: metrics["network"].get(name) for name in ("mae_s", "coverage_p10_p90")} if metrics else {}
    return {**finished, **judged}


def _retraining(folder: Path) -> Node | None:
    state = _json(folder.parent / "state.json")
    return {name: state.get(name) for name in ("id", "because", "outcome")} if state else None


def _exported(report: Node) -> Node:
    parity = (report.get("parity") or {}).get("max_abs_s")
    return {"exported_at": report.get("exported_at"), "bytes": report.get("bytes"), "parity_max_abs_s": parity}


def _became(places: Places, row: Standing, missing: list[str]) -> Node:
    answers = _or_missing(places, str(row.version), missing)
    return {"version": row.version, "state": row.state, "since": row.since, "answers": answers}


def _source(places: Places, name: str) -> Node:
    """What the log calls a version: one of the repository, or the run of a model file at the backend's hand."""
    unknown = f"neither {places.repository} nor {places.runs} knows {name!r}"
    return version(places, name) or run(places, name) or {"version": name, "missing": [unknown]}


def _sha256_of(places: Places, row: Standing) -> str | None:
    if row.version not in present_versions(places.repository):
        return None
    manifest = read_origin(version_folder(places.repository, row.version))
    return str(manifest.get("sha256", {}).get("model.onnx"))


def _or_missing(places: Places, name: str, missing: list[str]) -> Node | None:
    if places.log is None:
        missing.append("no log was named (--log), so nothing is said of requests")
        return None
    return places.answers.get(name, {"requests": 0})


def _answers(log: LogSource) -> dict[str, Node]:
    """Requests, when, and how good, of each version; how many of them a local model file answered."""
    rows = log.frame(
        "SELECT p.version, count(*) AS requests, "
        "count(CASE WHEN p.path = 'local' THEN 1 END) AS local, min(p.requested_at_s) AS first_s, "
        "max(p.requested_at_s) AS last_s, "
        f"count(a.pickup_time_s) AS arrived, avg(abs({_ERROR})) AS mae_s, avg({_ERROR}) AS bias_s, "
        "avg(CASE WHEN a.pickup_time_s IS NULL THEN NULL WHEN a.pickup_time_s BETWEEN p.p10_s AND p.p90_s THEN 1.0 "
        "ELSE 0.0 END) AS share_inside FROM predictions p LEFT JOIN actuals a ON a.request_id = p.request_id "
        "WHERE p.version <> '' GROUP BY p.version"
    )
    return {row.pop("version"): row for row in rows.iter_rows(named=True)}


def _said(row: Node) -> Node:
    """An answer of the log; the inputs where they were kept."""
    return {**row, "features": json.loads(row["features"]) if row.get("features") else None}


def _json(file: Path) -> Node:
    """What a file says; nothing where it is not there or is damaged."""
    try:
        found = json.loads(file.read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
