"""One version on its way to the plan: loaded beside those that answer, held against the gates, live or put away."""

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from hailtime.durable import store_file
from hailtime.errors import DataError, DeployError
from hailtime.rollout import Rollout, check_percent
from hailtime.schema import Schema
from hailtime.serving.config_file import Served, trial_config, write_config
from hailtime.serving.control import TritonControl
from hailtime.serving.gates import (
    GateResult,
    Limits,
    error_gate,
    latency_gate,
    parity_gate,
    require,
    schema_gate,
    size_gate,
)
from hailtime.serving.history import new_change, write_down
from hailtime.serving.model_file import read_schema
from hailtime.serving.places import model_folder, version_folder
from hailtime.serving.repository import check_version, quarantine, read_origin, store_warm_up
from hailtime.serving.settings import Settings
from hailtime.serving.switch import (
    loadable,
    planned,
    read_version_probe,
    restore,
    stable_rule,
    still_asked,
    switch,
    tidy,
)

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Aim:
    """What a version is to be: `deploy` answers everybody, `canary` its `percent`, `shadow` nobody who hears it."""

    action: Literal["deploy", "canary", "shadow"] = "deploy"
    percent: float = 0.0

    def check(self, before: Served | None) -> None:
        """DeployError when no version can be that now."""
        if self.action != "deploy" and before is None:
            raise DeployError(
                f"a {self.action} needs a stable version beside it, nothing is live: deploy without it first"
            )
        if self.action == "canary":
            check_percent(self.percent)

    def plan(self, before: Rollout | None, version: int) -> Rollout:
        if self.action == "deploy" or before is None:
            return Rollout(version)
        return before.with_canary(version, self.percent) if self.action == "canary" else before.with_shadow(version)


FOR_ALL = Aim()


@dataclass(frozen=True)
class Release:
    """One version that passed its gates, as release.json in its folder tells it.

    - `previous`: the stable version that was live before
    - `parity_max_abs_s`: the largest difference in seconds between PyTorch's answers and the served ones
    """

    version: int
    previous: int | None
    schema_fingerprint: str
    sha256: str
    n_probe_rows: int
    parity_max_abs_s: float
    released_at: str
    action: str
    gates: tuple[GateResult, ...]


@dataclass
class Trial:
    """One version on its way to the plan; `gates` are those it passed so far."""

    repository: Path
    control: TritonControl
    before: Served | None
    version: int
    run: Path | None
    aim: Aim
    why: str
    allow_worse: bool
    limits: Limits
    settings: Settings | None = None

    def release(self) -> Release:
        """Live by the plan, or refused and out of the way."""
        gates: list[GateResult] = []
        try:
            for gate in self._judge():
                gates.append(gate)
                require(gate)
            return self._go_live(tuple(gates))
        except BaseException as error:
            reason = f"version {self.version} was refused: {error}"
            still = restore(self.repository, self.control, self.before)
            still += self._put_away(reason, gates)
            if not isinstance(error, Exception):
                raise
            raise DeployError(f"{reason}; {still}") from error

    def _judge(self) -> Iterator[GateResult]:
        repository, before, version, control = self.repository, self.before, self.version, self.control
        folder = version_folder(repository, version)
        check_version(folder)
        yield size_gate((folder / "model.onnx").stat().st_size, self.limits)
        schema = read_schema((folder / "schema.json").read_bytes(), folder)
        yield schema_gate(schema, before.schema if before else None)
        self.aim.plan(before.rollout if before else None, version)
        versions = loadable(repository, before.rollout, (*before.versions, version)) if before else (version,)
        probe = read_version_probe(repository, version)
        store_warm_up(repository, probe)
        control.try_out(trial_config(schema, before, versions, self.settings))
        yield parity_gate(control.ask(version, probe.inputs), probe.pickup_time_s, self.limits)
        one_row = {name: array[:1] for name, array in probe.inputs.items()}
        live = control.asker(before.rollout.stable, one_row) if before else None
        yield latency_gate(control.asker(version, one_row), live, self.limits)
        yield self._judge_error(schema)

    def _judge_error(self, schema: Schema) -> GateResult:
        """Worse than the live version on the same later trips? Not knowing is refused as well."""
        if self.before is None:
            return GateResult("error", True, None, None, "not judged: nothing was live to compare with")
        if self.run is None or not (self.run / "config.yaml").exists():
            text = "not judged: it came without the settings of its training, so its later trips are not at hand"
            return GateResult("error", True, None, None, text)
        result = self._compare(self.run, schema, self.before.rollout.stable)
        if not result.passed and self.allow_worse:
            return replace(result, passed=True, text=f"{result.text}; let through by --allow-worse")
        return result if result.passed else replace(result, text=f"{result.text}; --allow-worse lets it through")

    def _compare(self, run: Path, schema: Schema, live: int) -> GateResult:
        from hailtime.serving.later_rows import later_rows  # brings torch, 2 s: only who compares pays for it

        try:
            rows, actual_s = later_rows(run, schema)
        except DataError as error:
            text = f"the later trips must be at hand to compare it with version {live}: {error}"
            return GateResult("error", False, None, None, text)
        return error_gate(self.control.ask(self.version, rows), self.control.ask(live, rows), actual_s, self.limits)

    def _go_live(self, gates: tuple[GateResult, ...]) -> Release:
        repository, before, version = self.repository, self.before, self.version
        folder = version_folder(repository, version)
        manifest = check_version(folder)
        schema = read_schema((folder / "schema.json").read_bytes(), folder)
        plan = self.aim.plan(before.rollout if before else None, version)
        if before is None:
            served = Served.from_text(write_config(schema, (version,), plan, self.settings))
            config = served.with_rule(stable_rule(repository, plan))
        else:
            wanted = before.with_settings(self.settings)
            config = planned(repository, wanted, plan, still_asked(repository, before, plan))
        release = self._describe(schema, manifest, gates)
        store_file(folder / "release.json", json.dumps(asdict(release), indent=1))
        change = new_change(self.aim.action, version, plan, config.revision, manifest, self.why, gates)
        switch(repository, self.control, before, config, change)
        tidy(repository, config)
        log.info("version %d is live by %s, at most %.5f s off its probe", version, plan, release.parity_max_abs_s)
        return release

    def _describe(self, schema: Schema, manifest: dict[str, Any], gates: tuple[GateResult, ...]) -> Release:
        stable = self.before.rollout.stable if self.before else None
        return Release(
            self.version,
            stable if stable != self.version else None,
            schema.fingerprint,
            manifest["sha256"]["model.onnx"],
            len(read_version_probe(self.repository, self.version)),
            next(gate.value for gate in gates if gate.name == "parity") or 0.0,
            datetime.now(UTC).isoformat(timespec="seconds"),
            self.aim.action,
            gates,
        )

    def _put_away(self, reason: str, gates: list[GateResult]) -> str:
        """Write the refusal down and move the version out of sight, unless it is one that is being served."""
        origin = read_origin(version_folder(self.repository, self.version))
        write_refusal(self.repository, self.version, self.before, origin, reason, gates)
        if self.before is not None and self.version in self.before.versions:
            return ""
        try:
            return f", the refused one lies in {quarantine(self.repository, self.version, reason)}"
        except OSError as error:  # a full disk: no plan names the version, so it harms nobody where it lies
            return f", the refused one could not be moved away ({error})"


def write_refusal(
    repository: Path,
    version: int | None,
    before: Served | None,
    origin: Mapping[str, Any],
    reason: str,
    gates: Sequence[GateResult],
) -> None:
    """Into the history; the plan stays as it was. `version`: None for a run that did not become one."""
    plan, revision = (before.rollout, before.revision) if before else (None, "")
    try:
        model_folder(repository).mkdir(exist_ok=True)
        write_down(repository, new_change("refuse", version, plan, revision, origin, reason, gates))
    except OSError as error:  # a full disk: the reason for the refusal matters more
        log.warning("the refusal could not be written into the history: %s", error)
