"""Rules that fire, and end: one message when something begins, one when it is over, and none in between.

    book = AlertBook(read_rules(settings))
    for message in book.look(situation): tell(message)

A message names the likely cause and the command to run next. What is true at the same time is one message, because at
night nobody sorts seven.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from hailtime.errors import ConfigError, did_you_mean
from hailtime.monitoring.causes import Cause, cause_of
from hailtime.monitoring.situation import Measure, Situation

MEASURES = (
    "late_share",
    "error_ratio",
    "missing_points",
    "new_share",
    "moved_share",
    "fallback_share",
    "unknown_share",
)
CALM_MIN = 60.0  # without trouble before something is over
_SETTINGS = ("measure", "above", "window_min", "least", "for_min")


@dataclass(frozen=True)
class Rule:
    """Fires when a measure of the last `window_min` minutes, on `least` rows or more, is `above` for `for_min` minutes.

    The measure counts as above when its 95 % band reaches no further down than half way back to normal, so that few
    rows need a larger step and chance alone seldom suffices. It is over when the measure was below half way for an
    hour, because what swings about its limit would be told every half hour.
    """

    name: str
    measure: str
    above: float
    window_min: float
    least: int
    for_min: float

    def is_true(self, measure: Measure, is_firing: bool) -> bool:
        """Whether it should fire by this measure, or go on firing."""
        if is_firing:
            return measure.value >= self.sure
        return measure.value >= self.above and measure.low >= self.sure

    @property
    def sure(self) -> float:
        """What the lower end of the band must reach."""
        normal = {"late_share": 0.10, "error_ratio": 1.0}.get(self.measure, 0.0)
        return (self.above + normal) / 2


@dataclass(frozen=True)
class Message:
    """Something began or is over. `alerts` are the rules' names; `values` what they saw."""

    kind: Literal["firing", "resolved"]
    at_s: float
    alerts: tuple[str, ...]
    values: Mapping[str, float]
    cause: Cause

    @property
    def text(self) -> str:
        """One paragraph for a log, a chat or a pager."""
        if self.kind == "resolved":
            return f"over: {', '.join(self.alerts)}"
        seen = ", ".join(f"{name} {self.values[name]:.3g}" for name in self.alerts if name in self.values)
        return f"{self.cause.sentence} ({seen}). Next: {self.cause.next_command}"


@dataclass(frozen=True)
class _State:
    """Of one rule: since when its measure is what it is not yet reported to be."""

    is_firing: bool = False
    changed_at_s: float | None = None


class AlertBook:
    """What is firing, kept from look to look; `to_dict` and `states` carry it over a restart."""

    def __init__(self, rules: Sequence[Rule], states: Mapping[str, Mapping[str, Any]] | None = None) -> None:
        self.rules = tuple(rules)
        self._states = {rule.name: _State(**(states or {}).get(rule.name, {})) for rule in rules}

    @property
    def firing(self) -> tuple[str, ...]:
        return tuple(name for name, state in self._states.items() if state.is_firing)

    def to_dict(self) -> dict[str, dict[str, Any]]:
        return {name: asdict(state) for name, state in self._states.items()}

    def look(self, situation: Situation, released_s: float | None = None) -> list[Message]:
        """What began and what is over by now.

        - released_s: when the live version last changed; an error that began soon after it has a likely cause
        """
        began, ended = list[Rule](), list[Rule]()
        for rule in self.rules:
            measure, state = situation.measures.get(rule.measure), self._states[rule.name]
            # a measure that cannot be told says neither that it began nor that it is over
            is_told = measure is not None and measure.n >= rule.least
            is_true = rule.is_true(measure, state.is_firing) if measure and is_told else state.is_firing
            lasts_s = 60 * (max(rule.for_min, CALM_MIN) if state.is_firing else rule.for_min)
            self._states[rule.name] = after = _next(state, is_true, situation.at_s, lasts_s)
            if after.is_firing != state.is_firing:
                (began if after.is_firing else ended).append(rule)
        cause = cause_of([rule.measure for rule in self.rules if rule.name in self.firing], situation, released_s)
        told = (("firing", began), ("resolved", ended))
        return [_message(kind, rules, situation, cause) for kind, rules in told if rules]


def _next(state: _State, is_true: bool, at_s: float, for_s: float) -> _State:
    if is_true == state.is_firing:
        return _State(state.is_firing)
    since_s = at_s if state.changed_at_s is None else state.changed_at_s
    return _State(is_true) if at_s - since_s >= for_s else _State(state.is_firing, since_s)


def _message(kind: Any, rules: Sequence[Rule], situation: Situation, cause: Cause) -> Message:
    measures = {rule.name: situation.measures.get(rule.measure) for rule in rules}
    values = {name: measure.value for name, measure in measures.items() if measure is not None}
    return Message(kind, situation.at_s, tuple(rule.name for rule in rules), values, cause)


def read_rules(settings: Mapping[str, Mapping[str, Any]]) -> list[Rule]:
    """The rules of a yaml. ConfigError names the one that cannot work."""
    return [_read_rule(name, dict(entry)) for name, entry in settings.items()]


def _read_rule(name: str, entry: Mapping[str, Any]) -> Rule:
    for key in entry:
        if key not in _SETTINGS:
            raise ConfigError(f"alert {name}: no setting {key!r}{did_you_mean(str(key), _SETTINGS)}")
    for key in _SETTINGS:
        if key not in entry:
            raise ConfigError(f"alert {name} needs the setting {key!r}")
    if entry["measure"] not in MEASURES:
        hint = did_you_mean(str(entry["measure"]), MEASURES)
        raise ConfigError(f"alert {name}: measure is one of {', '.join(MEASURES)}, got {entry['measure']!r}{hint}")
    for key in _SETTINGS[1:]:
        value = entry[key]
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not is_number or value < 0 or (value == 0 and key != "for_min"):
            raise ConfigError(f"alert {name}: {key} must be a number above 0, got {value!r}")
    return Rule(name, **entry)
