"""What wrappers share that tell the state of other packages' games."""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any, SupportsFloat

import gymnasium
import numpy as np
from gymnasium import spaces


class StateWrapper(gymnasium.Wrapper[Any, Any, Any, Any], ABC):
    """Tell `info["state"]` at every reset and step: numbers in [-1, 1] under `names`, as `state_space` describes them."""

    def __init__(self, env: gymnasium.Env[Any, Any], names: Iterable[str]) -> None:
        super().__init__(env)
        self.state_space = spaces.Dict({name: spaces.Box(-1.0, 1.0, (), np.float32) for name in names})

    @abstractmethod
    def read_state(self, begins: bool) -> dict[str, float]:
        """Return the state now; `begins` says that an episode has just begun."""

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        observation, info = self.env.reset(seed=seed, options=options)
        return observation, {**info, "state": self.read_state(begins=True)}

    def step(self, action: Any) -> tuple[Any, SupportsFloat, bool, bool, dict[str, Any]]:
        observation, reward, terminated, truncated, info = self.env.step(action)
        return observation, reward, terminated, truncated, {**info, "state": self.read_state(begins=False)}
