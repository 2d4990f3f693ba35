"""Watching the city while the story goes on: waiting by its clock, saying what happens, keeping when it did."""

import time
from collections.abc import Callable
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from hailtime import clock
from hailtime.errors import HailtimeError
from hailtime.example.figures import Window, answers, errors
from hailtime.example.world import World
from hailtime.monitoring.store import MonitorStore
from hailtime.serving.history import Change, read_history
from hailtime.sources.city_map import TIMEZONE

MINUTE_S = 60.0
BEHIND_S = 180.0  # of the city
TELL_S = 15.0  # real seconds between two lines on how it goes


class Watching:
    """`say` gets a line with the city's time for whatever happens; `marks` holds when it did, UTC seconds."""

    def __init__(self, world: World, say: Callable[[str], None]) -> None:
        self.world, self._say = world, say
        self.marks: dict[str, float] = {}
        self.messages: list[dict[str, Any]] = []
        self._told_at, self._n_changes = time.monotonic(), len(self.changes())

    def wait(self, minutes: float) -> None:
        """So long by the city's clock."""
        until_s = clock.now() + minutes * MINUTE_S
        self.until(lambda: clock.now() >= until_s, minutes + 60, "the time")

    def next_alert(self, cause: str, minutes: float) -> dict[str, Any]:
        """The next one that begins and has this cause."""
        n_seen = len(self.messages)

        def begun() -> list[dict[str, Any]]:
            return [m for m in self.messages[n_seen:] if m["kind"] == "firing" and m["cause"] == cause]

        self.until(lambda: bool(begun()), minutes, f"an alert whose cause is {cause!r}")
        return begun()[0]

    def is_calm(self) -> bool:
        """Whether no alert on the error is firing."""
        states = MonitorStore(self.world.store, read_only=True).state("alerts", {})
        return not any(states.get(name, {}).get("is_firing") for name in ("late", "off"))

    def until(self, is_true: Callable[[], bool], minutes: float, what: str) -> None:
        """Looks at everything twice a second. HailtimeError when it has not come after so many minutes of the city."""
        until_s = clock.now() + minutes * MINUTE_S
        while not is_true():
            if clock.now() > until_s:
                raise HailtimeError(f"{what} did not come within {minutes:.0f} minutes of the city")
            if not self.world.player.is_playing:
                raise HailtimeError("the city stopped playing: see the lines above")
            self.look()
            time.sleep(0.5)

    def mark(self, name: str, words: str = "", at_s: float | None = None) -> None:
        self.marks[name] = clock.now() if at_s is None else at_s
        if words:
            self.line(words)

    def line(self, words: str) -> None:
        self._say(f"{clock_time(clock.now())}  {words}")

    def look(self) -> None:
        """Says what happened since the last look, and now and then how it goes."""
        before, self.messages = len(self.messages), self._read_messages()
        for message in self.messages[before:]:
            self.line(f"{'ALERT' if message['kind'] == 'firing' else 'alert'} {message['text']}")
        changes = self.changes()
        for change in changes[self._n_changes :]:
            self.line(f"release: {change.action} version {change.version}")
        self._n_changes = len(changes)
        if time.monotonic() - self._told_at >= TELL_S:
            self._told_at = time.monotonic()
            self.line(self._how_it_goes())

    def changes(self) -> list[Change]:
        return read_history(self.world.repository)

    def stable(self, at_s: float | None = None) -> int:
        """The version that answers everybody whom no canary does, now or at a moment."""
        plans = [change.plan for change in self.changes() if change.plan and (at_s is None or made_s(change) <= at_s)]
        return plans[-1].stable

    def _how_it_goes(self) -> str:
        """The newest requests of which nearly all have their end."""
        player, now_s = self.world.player, clock.now()
        told = f"    {sum(player.counts.values()):,} requests, {player.n_failed} failed"
        if (behind_s := now_s - player.now_s) > BEHIND_S:
            told += f"; the city is {behind_s / MINUTE_S:.0f} min behind its clock, the machine is busy"
        recent = answers(self.world.log, player.truth(), Window(now_s - 45 * MINUTE_S, now_s - 15 * MINUTE_S))
        if recent.is_empty():
            return told
        found = errors(recent)
        return f"{told}; error {found['mae_s']:.0f} s, best possible {found['best_possible_s']:.0f} s"

    def _read_messages(self) -> list[dict[str, Any]]:
        store = self.world.store
        return list(MonitorStore(store, read_only=True).state("messages", [])) if store.is_file() else []


def made_s(change: Change) -> float:
    return datetime.fromisoformat(change.at).timestamp()


def clock_time(at_s: float) -> str:
    """On the city's clocks."""
    return datetime.fromtimestamp(at_s, ZoneInfo(TIMEZONE)).strftime("%H:%M")
