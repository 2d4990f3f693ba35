"""Ranks that train together: what only the first one does, and errors told once.

A rank is a process; each has a share of every batch. The first one prepares the data, freezes the run folder and
writes all files.
"""

import logging
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytorch_lightning as lightning
import torch.distributed as dist

from hailtime.errors import ConfigError, HailtimeError
from hailtime.training.launch import is_first_rank, placement

log = logging.getLogger(__name__)

# The first rank may prepare a large table meanwhile; that it died is noticed at once, by its closed connection.
PATIENCE = timedelta(hours=24)


class FirstRankFailed(HailtimeError):
    """The first rank could not do its part, and has said why."""


def join(trainer: lightning.Trainer) -> None:
    """Connects ranks that a launcher started side by side; those that Lightning starts itself come later."""
    if trainer.world_size > 1 and placement():
        trainer.strategy.setup_environment()


def first(work: Callable[[], Any]) -> None:
    """The first rank does the work, the others wait for it. FirstRankFailed on the others when it failed there."""
    if not (dist.is_available() and dist.is_initialized()):
        if is_first_rank():  # Lightning starts the others when the folder is frozen: they find the work done
            work()
        return
    group = dist.new_group(backend="gloo", timeout=PATIENCE)
    outcome: list[str | None] = [None]
    if dist.get_rank() != 0:
        dist.broadcast_object_list(outcome, src=0, group=group)
        if outcome[0] is not None:
            raise FirstRankFailed(outcome[0])
        return
    try:
        work()
    except Exception as error:
        outcome = [str(error)]
        raise
    finally:
        dist.broadcast_object_list(outcome, src=0, group=group)


def is_told_elsewhere(error: BaseException) -> bool:
    """True for the echo of another rank's failure: that rank has told its own error, and settings are the first's."""
    if isinstance(error, FirstRankFailed | dist.DistNetworkError):
        return True
    if isinstance(error, ConfigError):
        return not is_first_rank()
    signs = ("Connection closed by peer", "Connection reset by peer", "Broken pipe", "Socket closed")
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in signs)
