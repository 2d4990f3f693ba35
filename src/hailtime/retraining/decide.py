"""Whether to retrain now, why, and on which requests.

A reason is: told to, the schedule, an alert of the monitor that is firing, enough new rows. Against it stand a
retraining a moment ago and too few rows since the world changed.
"""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hailtime.errors import LogError
from hailtime.monitoring.models import released_s
from hailtime.monitoring.store import MonitorStore
from hailtime.retraining.champion import live_version
from hailtime.retraining.settings import RetrainSettings
from hailtime.retraining.state import retrainings
from hailtime.serving.history import read_history, stable_versions
from hailtime.sources.prediction_log import LogReader

HOUR_S, DAY_S = 3600, 86_400


@dataclass(frozen=True)
class Decision:
    """- from_s, to_s: requests of this span are trained on; since_s: the world changed then (None: not that we know)
    - champion: the live version
    - rows, new_rows: requests with their ends in the span, and of those what came since the change
    """

    is_due: bool
    why: str
    champion: int
    from_s: float
    to_s: float
    since_s: float | None
    rows: int
    new_rows: int

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def decide(settings: RetrainSettings, now_s: float, because: str | None = None) -> Decision:
    """Looks at the log, the monitor's store and the retrainings before."""
    champion = live_version(Path(settings.repository))
    to_s = now_s - settings.label_delay_s
    from_s = to_s - settings.window.days * DAY_S
    firing, changed_s = _alerts(settings, from_s, to_s)
    reader = LogReader(settings.log)
    rows = _count(reader, from_s, to_s)
    new_rows = rows if changed_s is None else _count(reader, changed_s, to_s)
    if because and changed_s is not None and new_rows < settings.window.min_rows:
        changed_s, new_rows = None, rows  # told to go: with all there is
    reason = f"told to: {because}" if because else _reason(settings, now_s, firing, reader, to_s)
    against = _against(settings, now_s, because, rows, new_rows, changed_s)
    why = against or reason or _nothing(settings, firing)
    return Decision(bool(reason) and not against, why, champion, from_s, to_s, changed_s, rows, new_rows)


def blamed(settings: RetrainSettings) -> str | None:
    """What to say when the live version must go: an alert that is firing began with its release. None when none did.

    What comes after a rollback is no release's fault, so nobody goes back twice in a row by this.
    """
    repository = Path(settings.repository)
    changes, released = read_history(repository), released_s(repository)
    stable = stable_versions(changes)
    if not settings.due.undo or released is None or len(stable) < 2:
        return None
    if [change.action for change in changes if change.action != "refuse"][-1] == "rollback":
        return None
    firing, messages = _told(settings)
    for message in messages:
        names = sorted(set(message["alerts"]) & set(firing))
        if message["cause"] == "release" and message["at_s"] >= released and names:
            return f"alert {', '.join(names)}: the error began with version {stable[-1]}, the one before answers again"
    return None


def _reason(settings: RetrainSettings, now_s: float, firing: list[str], reader: LogReader, to_s: float) -> str | None:
    if firing:
        return f"the monitor's alert {', '.join(firing)} is firing"
    last_s = _last_s(settings)
    every_h = settings.due.every_h
    if every_h is not None and (last_s is None or now_s - last_s >= every_h * HOUR_S):
        ago = "never before" if last_s is None else f"the last one {(now_s - last_s) / HOUR_S:.1f} h ago"
        return f"the schedule, every {every_h:g} h, {ago}"
    if settings.due.new_rows is not None:
        since_s = (last_s or 0.0) - settings.label_delay_s
        n = _count(reader, since_s, to_s)
        if n >= settings.due.new_rows:
            return f"{n:,} new rows since the last one, {settings.due.new_rows:,} are enough"
    return None


def _against(
    settings: RetrainSettings, now_s: float, because: str | None, rows: int, new_rows: int, changed_s: float | None
) -> str | None:
    """What speaks against it whatever the reason."""
    least = settings.window.min_rows
    if rows < least:
        return f"{rows:,} requests of the window have their end, {least:,} are needed"
    if new_rows < least:
        return f"{new_rows:,} requests since the world changed have their end, {least:,} are needed: later"
    before = retrainings(Path(settings.folder))
    if before and not because:
        ended_s = float((before[-1].outcome or {}).get("at_s", before[-1].state["began_at_s"]))
        if now_s - ended_s < settings.due.pause_h * HOUR_S:
            return f"the last one ended {(now_s - ended_s) / 60:.0f} min ago, {settings.due.pause_h:g} h are between"
    return None


def _nothing(settings: RetrainSettings, firing: list[str]) -> str:
    due = settings.due
    looked = [f"every {due.every_h:g} h"] if due.every_h is not None else []
    looked += [f"alerts {', '.join(due.alerts)}"] if due.alerts else []
    looked += [f"{due.new_rows:,} new rows"] if due.new_rows is not None else []
    return f"nothing is due ({'; '.join(looked) or 'no reason is set'})"


def _last_s(settings: RetrainSettings) -> float | None:
    """When the last retraining began; before the first one, when the live model became so."""
    before = retrainings(Path(settings.folder))
    return float(before[-1].state["began_at_s"]) if before else released_s(Path(settings.repository))


def _alerts(settings: RetrainSettings, from_s: float, to_s: float) -> tuple[list[str], float | None]:
    """Which of the alerts that are reasons are firing, and when the world last changed by what they said."""
    firing, messages = _told(settings)
    causes = {name: message.get("cause") for message in messages for name in message["alerts"]}
    firing = [name for name in firing if causes.get(name) != "release"]  # that is undone, not learnt
    began = [
        float(message["at_s"])
        for message in messages
        if message.get("cause") != "release" and set(message["alerts"]) & set(settings.due.alerts)
    ]
    changes = [at_s - settings.window.alert_lag_min * 60 for at_s in began]
    inside = [at_s for at_s in changes if from_s < at_s]
    return firing, max(inside, default=None)


def _told(settings: RetrainSettings) -> tuple[list[str], list[dict[str, Any]]]:
    """Of the alerts that are reasons, those that are firing, and what was told as alerts began, the oldest first."""
    if settings.store is None or not settings.due.alerts or not Path(settings.store).is_file():
        return [], []
    try:
        store = MonitorStore(Path(settings.store), read_only=True)
        states, told = store.state("alerts", {}), store.state("messages", [])
    except LogError:
        return [], []
    began = [message for message in told if message["kind"] == "firing"]
    return [name for name in settings.due.alerts if states.get(name, {}).get("is_firing")], began


def _count(reader: LogReader, from_s: float, to_s: float) -> int:
    found = reader.frame(
        "SELECT count(*) AS n FROM predictions p JOIN actuals a ON a.request_id = p.request_id WHERE p.requested_at_s "
        f">= {from_s:.0f} AND p.requested_at_s < {to_s:.0f} AND a.pickup_time_s IS NOT NULL AND p.features IS NOT NULL"
    )
    return int(found["n"][0])
