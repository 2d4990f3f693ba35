"""Hailtime: train, ship, serve and watch a model of the time until the driver is there."""

__version__ = "0.1.0"
