"""One agent step is several game ticks."""

from copy import deepcopy
from typing import Any, SupportsFloat

import gymnasium
import numpy as np

from foundation.errors import UserError
from foundation.ticks import adds_up

# crafting four times in a row would use up four times what it takes
_ONCE = ("craft", "nearbyCraft", "nearbySmelt")


class FrameSkip(gymnasium.Wrapper):
    """Repeat each action for `ticks` ticks and sum the rewards; only the last tick is seen.

    Camera turns are divided by `ticks`, so that an action turns by the same angle whatever the frame skip, and its ticks joined again
    (`foundation.ticks`) are the action; what is crafted is crafted in the first tick alone. An environment that offers `step_ticks`
    renders the last tick only. Spaces do not change; `metadata["render_fps"]` does.
    """

    def __init__(self, env: gymnasium.Env, ticks: int) -> None:
        if ticks < 1:
            raise UserError(f"frame skip must be at least 1 tick, got {ticks}")
        super().__init__(env)
        self.ticks = ticks
        self._step_ticks = getattr(env, "step_ticks", None)
        rate = env.metadata.get("render_fps")
        self.metadata = {**env.metadata, **({"render_fps": rate / ticks} if rate else {})}

    def step(self, action: Any) -> tuple[Any, SupportsFloat, bool, bool, dict[str, Any]]:
        action = self._divide_increments(action)
        if self._step_ticks is not None:
            return self._step_ticks(action, self.ticks)
        total = 0.0
        for _ in range(self.ticks):
            # copied: an environment may change what it is given
            observation, reward, terminated, truncated, info = self.env.step(deepcopy(action))
            total += float(reward)
            if terminated or truncated:
                break
            action = _without_crafting(action)
        return observation, total, terminated, truncated, info

    def _divide_increments(self, action: Any) -> Any:
        if not isinstance(action, dict):
            return action
        return {key: np.asarray(value) / self.ticks if adds_up(key) else value for key, value in action.items()}


def _without_crafting(action: Any) -> Any:
    if isinstance(action, dict) and any(key in action for key in _ONCE):
        return {**action, **{key: "none" for key in _ONCE if key in action}}
    return action
