"""Hailtime: train, ship, serve and watch a model of the time until the driver is there."""

import os

__version__ = "0.1.0"

# Threads of GNU OpenMP (torch's, LightGBM's) spin before they sleep, by themselves so long that an epoch of 6 s takes
# 57 beside two busy processes on two cores; so 20 s, and alone still 6. It is read when torch is loaded, so here
os.environ.setdefault("GOMP_SPINCOUNT", "3000")
