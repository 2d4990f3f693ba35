"""The signals by which a cluster says that this process must go: SIGTERM, and SIGUSR1 as Slurm sends before a limit.

Outside of the training loop they end the process at once: what is on the disk is whole at any moment. Within the loop
they are noted, and the next call of steps saves first.
"""

import signal
import sys
import threading
from types import FrameType

SIGNALS = (signal.SIGTERM, signal.SIGUSR1)
PREEMPTED = 75  # exit status: sysexits.h's "temporary failure, try again"; scripts/slurm/train.sbatch requeues on it


def exit_when_preempted() -> None:
    """From now on the signals end the process with the status PREEMPTED."""
    for number in SIGNALS:
        signal.signal(number, lambda *_: leave())


def leave() -> None:
    """Ends the process with the status PREEMPTED, whatever signals follow: srun ends all when the first rank leaves."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    sys.exit(PREEMPTED)


class PreemptionNotice:
    """Notes that a signal came. Lightning puts the handlers of before back when its loop ends."""

    def __init__(self) -> None:
        self.came = False

    def watch(self) -> None:
        if threading.current_thread() is threading.main_thread():  # Python lets no other thread set handlers
            for number in SIGNALS:
                signal.signal(number, self._note)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.came = True
