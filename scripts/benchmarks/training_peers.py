"""The same perceptron trained by pytorch_tabular, by pytabkit and by Hailtime, one after the other on the same rows.

Three hidden layers of one width, the same batches, two torch threads. A library's `fit` does more than train, so its
speed is that of the epochs a longer training has more than a short one; Hailtime's is that of its training steps.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.peer_install import ask, install
from hailtime.training.batches import Rows

TORCH = f"torch=={torch.__version__.split('+')[0]}"
PEERS = {
    "pytorch_tabular": (TORCH, "pytorch_tabular==1.2.0", "requests"),
    "pytabkit": (TORCH, "pytabkit[models]==1.7.3"),
}
EPOCHS = (1, 4)


def peers(rows: Rows, *, width: int, batch_size: int, folder: Path) -> dict[str, Any]:
    """By library: rows a second, seconds of fit by number of epochs, number of weights where it tells."""
    number = rows.x_num.numpy()
    known = np.where(np.isnan(number), np.nanmean(number, axis=0), number)  # neither takes a missing number
    np.savez(folder / "rows.npz", x_num=known, x_cat=rows.x_cat.numpy(), y=rows.target.numpy())
    return {name: _peer(name, folder / "rows.npz", width, batch_size) for name in PEERS}


def _peer(name: str, rows: Path, width: int, batch_size: int) -> dict[str, Any]:
    python = install(name, PEERS[name]) / "python"
    # the first fit is not counted
    said = ask(python, "peer_training.py", name, rows.absolute(), width, batch_size, EPOCHS[0], *EPOCHS)
    short_s, long_s = (said["fit_s"][str(n)] for n in EPOCHS)
    return {"rows_per_s": said["rows"] * (EPOCHS[1] - EPOCHS[0]) / (long_s - short_s), **said}
