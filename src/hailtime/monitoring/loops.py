"""What runs on and on: duty over a log, and sending a log to PostgreSQL. A fault is told and retried.

reading = Reading(settings)
reading.run(stop)  # until the event is set
"""

import logging
import threading
from collections.abc import Callable
from functools import partial

from hailtime.clock import now
from hailtime.errors import HailtimeError, LogError
from hailtime.monitoring.duty import Duty
from hailtime.monitoring.forward import DAY_S, Forwarder
from hailtime.monitoring.log_source import LogSource
from hailtime.monitoring.models import live_model, released_s
from hailtime.monitoring.settings import MonitorSettings
from hailtime.monitoring.store import MonitorStore
from hailtime.monitoring.telling import read_tellers
from hailtime.monitoring.watch import Watch

log = logging.getLogger(__name__)

LONGEST_WAIT_S = 60.0


class Reading:
    """Keeps the store up to date with the log, by the model that is live at each pass, and looks at the alert rules.

    What went wrong is in the store (`trouble`), so that the page can say it.
    """

    def __init__(self, settings: MonitorSettings, clock: Callable[[], float] = now) -> None:
        self.settings, self._clock = settings, clock
        self._rules = settings.rules()
        self._tellers = read_tellers({"webhook": settings.webhook, "alertmanager": settings.alertmanager})
        self._duty: Duty | None = None
        self._forgot_at_s = 0.0

    def once(self) -> int:
        """One pass: how many rows were new. HailtimeError when the log, the store or the model cannot be used."""
        store = MonitorStore(self.settings.store)  # opened anew at each pass: one that was deleted is made again
        before = store.state("read_until", (0, 0))
        try:
            self._on_duty(store).once(self._clock())
        except HailtimeError as error:
            store.set_state(trouble=str(error))
            raise
        except Exception as error:  # such as what no release of ours wrote into the log
            store.set_state(trouble=f"{type(error).__name__}: {error}")
            raise LogError(f"a pass failed: {type(error).__name__}: {error}") from error
        store.set_state(read_at_s=self._clock(), trouble=None)
        self._forget(store)
        return sum(b - a for a, b in zip(before, store.state("read_until", (0, 0)), strict=True))

    def _on_duty(self, store: MonitorStore) -> Duty:
        """The same from pass to pass, until another version is live."""
        model = live_model(self.settings.repository)
        if self._duty is None or self._duty.watch.model is not model:
            watch = Watch(LogSource(self.settings.log), store, model, label_delay_s=self.settings.label_delay_s)
            released = partial(released_s, self.settings.repository)
            self._duty = Duty(watch, self._rules, self._tellers, released, before=self._duty)
        return self._duty

    def run(self, stop: threading.Event) -> None:
        """A pass every `every_s` seconds."""
        repeat(self.once, self.settings.every_s, stop)

    def _forget(self, store: MonitorStore) -> None:
        """Once a day; back from the newest hour, so that the log of a test or of another year is kept as well."""
        now_s, known = self._clock(), store.span()
        if known is not None and now_s - self._forgot_at_s >= DAY_S:
            store.forget(min(now_s, known[1]) - self.settings.keep_days * DAY_S)
            self._forgot_at_s = now_s


class Sending:
    """Sends a log on every second, and forgets old days once a day."""

    def __init__(self, forwarder: Forwarder, clock: Callable[[], float] = now) -> None:
        self._forwarder, self._clock = forwarder, clock
        self._forgot_at_s = 0.0

    def once(self) -> None:
        sent = self._forwarder.send()
        if sent:
            log.info("sent %d answers, %d of shadows, %d ends", sent.predictions, sent.shadow_predictions, sent.actuals)
        if self._clock() - self._forgot_at_s >= DAY_S:
            for name in self._forwarder.forget():
                log.info("dropped %s", name)
            self._forgot_at_s = self._clock()

    def run(self, stop: threading.Event) -> None:
        repeat(self.once, 1.0, stop)


def repeat(work: Callable[[], object], every_s: float, stop: threading.Event) -> None:
    """Does the work until it is told to stop; after a fault it waits longer each time, up to a minute."""
    wait_s, told = every_s, ""
    while not stop.is_set():
        try:
            work()
            if told:
                log.info("it works again")
            wait_s, told = every_s, ""
        except (HailtimeError, OSError) as error:  # OSError: such as a folder that cannot be written
            if str(error) != told:
                log.warning("%s: %s", type(error).__name__, error)
            wait_s, told = min(max(wait_s, 1.0) * 2, max(LONGEST_WAIT_S, every_s)), str(error)
        stop.wait(wait_s)
