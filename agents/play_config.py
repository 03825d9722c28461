"""How a trained agent is watched, as options."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from foundation.errors import UserError
from foundation.places import Places

_MOST_SEEDS = 2**30


@dataclass(kw_only=True)
class PlayConfig:
    """How a trained agent is watched."""

    episodes: int = 1
    """Evaluation worlds to play, an episode each."""
    video: Path | None = None
    """An mp4 of what the agent saw, with the encoder's reconstruction beside it."""
    world: int = 0
    """Number of the first evaluation world."""
    seed: int = 0
    """Of the sampled actions."""
    player: Literal["random", "scripted"] | None = None
    """Play with this player instead of an agent; RUN then names an environment preset."""
    environment: str | None = None
    """The agent's environment, if its name has a module to import (module:EnvId): a file that may be somebody else's imports nothing."""
    encoder: Places | None = None
    """The agent's encoder, or encoders, if its folder has moved or a service has it (http://HOST:PORT/RUN)."""
    deterministic: bool = False
    """Take the likeliest action instead of sampling."""
    device: Literal["auto", "cpu", "cuda"] = "cpu"
    """Where encoder and policy run."""

    def __post_init__(self) -> None:
        if self.episodes < 1:
            raise UserError(f"'episodes' must be at least 1, got {self.episodes}")
        for name in ("world", "seed"):
            if not 0 <= getattr(self, name) < _MOST_SEEDS:
                raise UserError(f"'{name}' must be from 0 to {_MOST_SEEDS - 1}, got {getattr(self, name)}")
