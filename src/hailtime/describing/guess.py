"""A guess with its reason: everything that describe.py says about a column is one."""

from dataclasses import dataclass
from typing import Literal

Role = Literal[
    "id", "requested_at", "arrived_at", "target", "pickup_lat", "pickup_lon", "driver_lat", "driver_lon",
    "dropoff_lat", "dropoff_lon", "observed_at", "known_at", "number", "category", "left out"
]  # fmt: skip
Sure = Literal["sure", "likely", "guess"]


@dataclass(frozen=True)
class Guess:
    """What a column is for, why, and how sure that is."""

    role: Role
    why: str
    sure: Sure = "likely"
