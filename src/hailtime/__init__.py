"""Hailtime: train, ship, serve and watch a model of the time until the driver is there."""

import os

from hailtime.cores import limited_cores

__version__ = "0.1.0"

# GNU OpenMP (torch's, LightGBM's) reads these when it is loaded, so here; a setting of one's own stays. Its threads
# spin before they sleep, by themselves so long that an epoch of 6 s takes 57 beside two busy processes on two cores; so
# 20 s, and alone still 6. It knows nothing of a container's limit: a thread a core of the machine would wait its turn
os.environ.setdefault("GOMP_SPINCOUNT", "3000")
if (_limited := limited_cores()) is not None:
    os.environ.setdefault("OMP_NUM_THREADS", str(_limited))
