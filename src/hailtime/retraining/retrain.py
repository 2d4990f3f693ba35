"""One retraining from the decision to its last word: scripts/retrain.py

    outcome = retrain(RetrainSettings.read(Path("configs/retrain.yaml")), because="the bridge is open again")

The steps are data, train, judge, gates and those of the rollout; each is in the folder's state.json when it is done,
and the same call goes on behind the last one after a kill.
"""

import json
import logging
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from hailtime import clock
from hailtime.durable import store_file
from hailtime.errors import DataError, DeployError, ExportError, HailtimeError
from hailtime.locking import locked
from hailtime.monitoring.watch import WatchedModel
from hailtime.retraining.champion import Champion, live_version
from hailtime.retraining.decide import Decision, blamed, decide
from hailtime.retraining.report import write_report
from hailtime.retraining.settings import RetrainSettings
from hailtime.retraining.state import Retraining, prune, retrainings
from hailtime.serving.config_file import read_served
from hailtime.serving.gates import GateResult
from hailtime.serving.history import read_history
from hailtime.serving.places import LOCK
from hailtime.serving.repository import describe_run
from hailtime.serving.rollback import rollback
from hailtime.serving.trial import write_refusal

log = logging.getLogger(__name__)

Kind = Literal["nothing", "due", "live", "refused", "rolled_back"]
EXIT = {"nothing": 0, "due": 0, "live": 0, "refused": 10, "rolled_back": 11}
BUSY = 75  # another one is running: EX_TEMPFAIL, try later
GIVE_UP_H = 24.0  # a retraining that was killed goes on within a day; later its rows are old, and it is given up


class Busy(HailtimeError):
    """Another retraining is running."""


@dataclass(frozen=True)
class Outcome:
    """What came of it. `folder`: of the retraining; None where there was none."""

    kind: Kind
    why: str
    folder: Path | None

    @property
    def exit_code(self) -> int:
        return EXIT[self.kind]


def retrain(settings: RetrainSettings, because: str | None = None, dry_run: bool = False) -> Outcome:
    """Decides and does it, or goes on with one that was killed. `dry_run` only tells. Busy while another one runs."""
    folder = Path(settings.folder)
    if dry_run:
        begun = [one.id for one in retrainings(folder) if one.outcome is None]
        if begun:
            return Outcome("due", f"{begun[-1]} was begun and goes on, or is given up", None)
        if why := None if because else blamed(settings):
            return Outcome("due", f"to roll back: {why}", None)
        decision = decide(settings, clock.now(), because)
        return Outcome("due" if decision.is_due else "nothing", decision.why, None)
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder / ".lock", Busy, timeout_s=0):
        live_version(Path(settings.repository))
        unfinished = _unfinished(settings)
        if unfinished is None and not because and (why := blamed(settings)):
            rollback(Path(settings.repository), settings.url, why=f"retrain: {why}")
            return Outcome("rolled_back", why, None)
        if unfinished is None:
            decision = decide(settings, clock.now(), because)
            if not decision.is_due:
                return Outcome("nothing", decision.why, None)
            unfinished = Retraining.begin(settings, decision.why, decision.to_dict())
        log.info("%s: %s", unfinished.id, unfinished.state["because"])
        outcome = _go_on(unfinished)
        _tidy(settings)
        return outcome


def _unfinished(settings: RetrainSettings) -> Retraining | None:
    """The one to go on with; one that is too old for that is ended, its candidate too."""
    for one in retrainings(Path(settings.folder))[::-1]:
        if one.outcome is not None:
            continue
        if clock.now() - one.state["began_at_s"] < GIVE_UP_H * 3600:
            return one
        _rollout(one).take_back()
        _end(one, "refused", f"given up: it was killed, and began more than {GIVE_UP_H:g} h ago", [])
    return None


def _go_on(one: Retraining) -> Outcome:
    gates: list[GateResult] = []
    try:
        one.step("data", lambda: _prepare(one))
        one.step("train", lambda: _train(one))
        one.step("judge", lambda: _judge(one))
        gates = [GateResult(**gate) for gate in one.step("gates", lambda: _gates(one))["gates"]]
        refused = [gate.text for gate in gates if not gate.passed]
        if refused:
            return _end(one, "refused", "; ".join(refused), gates)
    except (DataError, ExportError) as error:  # what the rows are like: the same again would end the same
        return _end(one, "refused", str(error), gates)
    kind, why = _rollout(one).run()
    return _end(one, kind, why, gates)


def _prepare(one: Retraining) -> dict[str, Any]:
    from hailtime.preparation.from_config import prepared_data

    prepared = prepared_data(_config(one))
    parts = {name: part["rows"] for name, part in prepared.report["parts"].items()}
    return {"rows": parts, "fingerprint": prepared.fingerprint}


def _train(one: Retraining) -> dict[str, Any]:
    from hailtime.evaluate import evaluate
    from hailtime.export import export

    config, champion = _config(one), _champion(one)
    from_where = "fresh"
    if one.settings.start == "warm":
        from hailtime.training.warm_start import reason_against

        against = "the live model's run is not at hand"
        if champion.run is not None:
            against = reason_against(champion.run, champion.schema.fingerprint, config.network) or ""
        if not against:
            config.warm_start = str(champion.run)
            from_where = f"warm, from {champion.run}"
        else:
            from_where = f"fresh: {against}"
    log.info("training %s", from_where)
    chosen = _choose(one, config)
    metrics = evaluate(one.run, against=())
    exported = export(one.run)
    return {
        "start": from_where,
        **chosen,
        "test_mae_s": metrics["network"]["mae_s"],
        "parity": exported["parity"]["max_abs_s"],
    }


def _choose(one: Retraining, config: Any) -> dict[str, Any]:
    """Trains on the window and on its newest rows alone; the one that is better on their common validation part stays
    in `run`. May be repeated at any point.
    """
    from hailtime.preparation.from_config import prepared_data
    from hailtime.retraining.window import recent_config
    from hailtime.training.train import train

    beside, found = one.folder / "recent", dict[str, float]()
    recent = recent_config(config, one.settings, (beside / "data").absolute())
    moved = beside / "chosen"  # written before the folder moves, so that a kill in between is seen
    if not moved.exists():
        train(config, one.run)
        found["window"] = _validation_s(one.run)
        if (
            recent is not None
            and prepared_data(recent).report["parts"]["train"]["rows"] >= one.settings.window.min_rows
        ):
            train(recent, beside / "run")
            found["recent"] = _validation_s(beside / "run")
        if min(found, key=lambda name: found[name]) == "window":
            shutil.rmtree(beside, ignore_errors=True)
            return {"rows": "window", "validation_mae_s": found}
        store_file(moved, json.dumps(found))
    if (beside / "run").exists():
        shutil.rmtree(one.run, ignore_errors=True)
        (beside / "run").rename(one.run)
    return {"rows": "recent", "validation_mae_s": json.loads(moved.read_text())}


def _validation_s(run: Path) -> float:
    from hailtime.training.checkpoints import MONITOR
    from hailtime.training.run_folder import FINISHED

    return float(json.loads((run / FINISHED).read_text())[MONITOR])


def _judge(one: Retraining) -> dict[str, Any]:
    from hailtime.preparation.prepared import load_prepared
    from hailtime.retraining.champion import answers
    from hailtime.retraining.judge import judge

    champion, gates = _champion(one), one.settings.gates
    rows = load_prepared(one.data).part("test")
    challenger_s = answers(one.run / "model.onnx", champion.schema, rows)
    return judge(rows, champion.schema, champion.answers(rows), challenger_s, gates.confidence, gates.slice_rows)


def _gates(one: Retraining) -> dict[str, Any]:
    """All of them, so that a refusal says everything; the scratch server only for one that passed the others."""
    found = list(_offline_gates(one))
    if one.settings.gates.scratch and all(gate.passed for gate in found):
        from hailtime.preparation.prepared import load_prepared
        from hailtime.retraining.scratch import serves

        rows = load_prepared(one.data).part("test")
        found.append(serves(one.run, _champion(one).schema, rows, one.scratch))
    return {"gates": [_plain(gate) for gate in found]}


def _offline_gates(one: Retraining) -> Iterator[GateResult]:
    from hailtime.export import session
    from hailtime.preparation.prepared import load_prepared
    from hailtime.retraining.champion import INPUTS, ask
    from hailtime.retraining.gates import data_gates, error_gates, sanity_gate
    from hailtime.training.features import raw_inputs

    champion, settings, prepared = _champion(one), one.settings.gates, load_prepared(one.data)
    judged = one.done("judge")
    assert judged is not None
    yield from error_gates(judged, settings)
    histograms = WatchedModel.load(champion.folder / "model.onnx").histograms
    yield from data_gates(prepared.report, histograms, settings)
    runtime = session(one.run / "model.onnx")

    def answer(frame: Any) -> Any:
        return ask(runtime, dict(zip(INPUTS, raw_inputs(champion.schema, frame), strict=True)))

    yield sanity_gate(answer, champion.schema, prepared.part("test"), settings)


def _config(one: Retraining) -> Any:
    from hailtime.retraining.window import training_config

    saved = one.folder / "config.yaml"
    from omegaconf import OmegaConf

    if not saved.exists():  # once, so that a run that goes on has the settings it was begun with
        decision = Decision(**one.state["decision"])
        config = training_config(one.settings, decision, _champion(one), one.data.absolute(), one.id)
        beside = saved.with_name(".config.yaml.new")
        OmegaConf.save(config, beside, resolve=True)
        beside.replace(saved)
    return OmegaConf.load(saved)


def _champion(one: Retraining) -> Champion:
    return Champion.of(Path(one.settings.repository), one.state["decision"]["champion"])


def _rollout(one: Retraining) -> Any:
    from hailtime.retraining.rollout import Introduction

    judged = one.done("judge")
    better = f"; {judged['overall']['difference_s']:+.2f} s on the same rows" if judged else ""
    why = f"retrain {one.id}: {one.state['because']}{better}"
    return Introduction(one, one.settings, _champion(one), why)


def _end(one: Retraining, kind: Kind, why: str, gates: list[GateResult]) -> Outcome:
    """The last word, in the folder and in the release history."""
    if kind == "refused" and one.done("promote") is None:
        _tell_history(one, why, gates)
    shutil.rmtree(one.scratch, ignore_errors=True)
    one.state["outcome"] = {"kind": kind, "why": why, "at_s": clock.now()}
    write_report(one.folder, one.state)
    one.save()
    return Outcome(kind, why, one.folder)


def _tell_history(one: Retraining, why: str, gates: list[GateResult]) -> None:
    """A refusal before any deployment; a deployment writes its own."""
    repository, name = Path(one.settings.repository), f"retrain {one.id}"
    with locked(repository / LOCK, DeployError):
        if not any(name in change.why for change in read_history(repository)):
            served = read_served(repository)
            write_refusal(repository, None, served, describe_run(one.run), f"{name}: {why}", gates)


def _tidy(settings: RetrainSettings) -> None:
    """Old folders go; those that kept versions come from stay, because the next one starts from there."""
    from hailtime.serving.places import present_versions, version_folder
    from hailtime.serving.repository import read_origin

    repository = Path(settings.repository)
    told = [read_origin(version_folder(repository, version)).get("folder") for version in present_versions(repository)]
    prune(Path(settings.folder), settings.keep, {Path(str(folder)).parent for folder in told if folder})


def _plain(gate: GateResult) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(json.dumps(asdict(gate), default=float))
    return found | {"passed": bool(gate.passed)}
