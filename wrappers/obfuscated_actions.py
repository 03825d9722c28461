"""MineRL's obfuscated action vectors as a choice among recorded ones."""

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from foundation.errors import UserError

VECTOR = "vector"


class ObfuscatedActions(gymnasium.ActionWrapper):
    """Replace the action of a VectorObf environment, `Dict(vector: Box (D,))`, by `Discrete(K)` over `centres` float32 (K, D).

    Raises `UserError` for an environment with other actions, or centres of another length than its vectors.
    """

    def __init__(self, env: gymnasium.Env, centres: np.ndarray) -> None:
        super().__init__(env)
        if not takes_vectors(env.action_space):
            raise UserError(f"clustered actions need an environment whose action is one vector; this one's actions are {env.action_space}")
        space = env.action_space[VECTOR]  # type: ignore[index]
        if centres.ndim != 2 or centres.shape[1:] != space.shape:
            raise UserError(f"actions of shape {centres.shape[1:]} do not fit this environment's {space.shape}; name another store")
        self.centres = np.clip(centres.astype(np.float32), space.low, space.high)
        self.action_space = spaces.Discrete(len(centres))

    def action(self, action: int) -> dict[str, Any]:
        # copied: an environment may change what it is given
        return {VECTOR: self.centres[int(action)].copy()}


def takes_vectors(space: spaces.Space) -> bool:
    """Say whether actions are one vector of numbers in a dictionary, as in MineRL's VectorObf environments."""
    return isinstance(space, spaces.Dict) and list(space.spaces) == [VECTOR] and isinstance(space[VECTOR], spaces.Box)
