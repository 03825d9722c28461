"""One agent step is several game ticks."""

from copy import deepcopy
from typing import Any, SupportsFloat, TypeGuard

import gymnasium
import numpy as np

from foundation.errors import UserError
from foundation.minerl import words_of
from foundation.ticks import TICKS_A_SECOND, adds_up

# crafting four times in a row would use up four times what it takes
_ONCE = ("craft", "nearbyCraft", "nearbySmelt")


class FrameSkip(gymnasium.Wrapper):
    """Repeat each action for `ticks` ticks and sum the rewards; only the last tick is seen.

    Camera turns are divided by `ticks`, so that an action turns by the same angle whatever the frame skip, and its ticks joined again
    (`foundation.ticks`) are the action; what is crafted is crafted in the first tick alone. An environment that offers `step_ticks`
    renders the last tick only. Spaces do not change; `metadata["render_fps"]` does. An environment that names no rate has Minecraft's, as
    recordings of it have.
    """

    def __init__(self, env: gymnasium.Env, ticks: int) -> None:
        if ticks < 1:
            raise UserError(f"frame skip must be at least 1 tick, got {ticks}")
        super().__init__(env)
        self.ticks = ticks
        self._step_ticks = getattr(env, "step_ticks", None)
        self.metadata = {**env.metadata, "render_fps": (env.metadata.get("render_fps") or TICKS_A_SECOND) / ticks}
        entries = env.action_space.spaces if isinstance(env.action_space, gymnasium.spaces.Dict) else {}
        self._increments = [key for key, space in entries.items() if _is_real(space) and adds_up(key, space.dtype)]
        self._once = [key for key in _ONCE if words_of(entries.get(key))]

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
            if self._once:
                action = {**action, **{key: "none" for key in self._once if key in action}}
        return observation, total, terminated, truncated, info

    def _divide_increments(self, action: Any) -> Any:
        if not self._increments:
            return action
        return {**action, **{key: np.asarray(action[key]) / self.ticks for key in self._increments if key in action}}


def _is_real(space: gymnasium.Space) -> TypeGuard[gymnasium.spaces.Box]:
    return isinstance(space, gymnasium.spaces.Box) and space.dtype.kind == "f"
