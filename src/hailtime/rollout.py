"""The rollout plan: which version of the model answers whom. It lives in Triton's model config as `rollout`.

stable ──with_canary──▶ stable + canary at x % ──promoted──▶ the candidate is stable
       ──with_shadow──▶ stable + shadow        ──aborted───▶ stable as before

A canary or a shadow is the candidate. There is one at a time: a new one takes the place of the one before.
"""

import hashlib
import json
from dataclasses import asdict, dataclass

from hailtime.errors import DeployError


@dataclass(frozen=True, slots=True)
class Rollout:
    """Versions by their part: `canary` answers `canary_percent` of the requests, `shadow` is asked but not heard."""

    stable: int
    canary: int | None = None
    canary_percent: float = 0.0
    shadow: int | None = None

    def __post_init__(self) -> None:
        for part, version in (("stable", self.stable), ("canary", self.canary), ("shadow", self.shadow)):
            is_version = isinstance(version, int) and not isinstance(version, bool) and version >= 1
            if not (is_version or (version is None and part != "stable")):
                raise DeployError(f"a rollout's {part} must be a version number from 1, got {version!r}")
        percent = self.canary_percent
        if isinstance(percent, bool) or not isinstance(percent, int | float) or not 0 <= percent <= 100:
            raise DeployError(f"a rollout's canary_percent must be 0 to 100, got {percent!r}")

    @property
    def candidate(self) -> int | None:
        """The version that is being tried, the canary or else the shadow."""
        return self.canary if self.canary is not None else self.shadow

    @property
    def versions(self) -> set[int]:
        """Every version that somebody who follows this plan asks."""
        return {version for version in (self.stable, self.canary, self.shadow) if version is not None}

    def version_for(self, request_id: str) -> int:
        """Who answers this request: the same for the same id as long as the plan holds.

        A larger share keeps those who had the canary before; another canary draws others.
        """
        if self.canary is None:
            return self.stable
        digest = hashlib.sha256(f"{self.canary}:{request_id}".encode()).digest()  # docs/protocol.md spells it out
        is_chosen = int.from_bytes(digest[:4], "big") < self.canary_percent / 100 * 2**32
        return self.canary if is_chosen else self.stable

    def with_canary(self, version: int, percent: float) -> "Rollout":
        """`version` answers `percent` of the requests, the stable version the others."""
        check_percent(percent)
        return Rollout(self.stable, canary=self._not_stable(version), canary_percent=percent)

    def with_shadow(self, version: int) -> "Rollout":
        """`version` is asked beside the stable one, and nobody hears its answers."""
        return Rollout(self.stable, shadow=self._not_stable(version))

    def promoted(self) -> "Rollout":
        """The candidate answers everybody."""
        return Rollout(self._candidate("promote"))

    def aborted(self) -> "Rollout":
        """The stable version answers everybody, the candidate nobody."""
        self._candidate("abort")
        return Rollout(self.stable)

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Rollout":
        """Unknown entries are left out: a plan written by a later release still says which version is stable."""
        try:
            entries = json.loads(text)
        except json.JSONDecodeError as error:
            raise DeployError(f"a rollout plan must be JSON, got {text[:60]!r}") from error
        if not isinstance(entries, dict) or "stable" not in entries:
            raise DeployError(f"a rollout plan must name its stable version, got {text[:60]!r}")
        return cls(**{name: entries[name] for name in cls.__slots__ if name in entries})

    def _candidate(self, verb: str) -> int:
        if self.candidate is None:
            raise DeployError(
                f"there must be a canary or a shadow to {verb}, version {self.stable} answers everybody: "
                "python scripts/deploy.py RUN --canary 5"
            )
        return self.candidate

    def _not_stable(self, version: int) -> int:
        if version == self.stable:
            raise DeployError(
                f"a canary or a shadow must be another version than the stable one, got {version} for both"
            )
        return version


def check_percent(percent: float) -> None:
    """DeployError when a canary cannot have this share."""
    if not 0 < percent < 100:
        raise DeployError(f"a canary must answer more than 0 and less than 100 %, got {percent:g}: promote or abort")
