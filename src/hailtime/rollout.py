"""The rollout plan: which version of the model answers whom. It lives in Triton's model config as `rollout`."""

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

    def version_for(self, request_id: str) -> int:
        """Who answers this request: the same for the same id as long as the plan holds.

        A larger share keeps those who had the canary before; another canary draws others.
        """
        if self.canary is None:
            return self.stable
        digest = hashlib.blake2b(f"{self.canary}:{request_id}".encode(), digest_size=8).digest()
        is_chosen = int.from_bytes(digest, "big") < self.canary_percent / 100 * 2**64
        return self.canary if is_chosen else self.stable

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
