"""MineRL's action dictionary as a short list of combined actions."""

from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from wrappers.camera_actions import CameraActions, idle_action, named_list, press


class DiscreteActions(CameraActions):
    """Replace MineRL's action dictionary by `Discrete(n)` over a list of combined actions.

    `actions` names a list of `ACTION_LISTS` or gives one: strings such as `"forward+jump"` or `"camera_left+attack"`.
    A camera turn is `camera_degrees` a step. An attack is held for `sticky_attack` further steps, as mining needs several
    ticks on one block. The pitch, counted from the level view of a reset, stays within +-`pitch_limit` degrees.
    """

    def __init__(
        self,
        env: gymnasium.Env,
        actions: str | Sequence[str] = "treechop",
        camera_degrees: float = 15.0,
        sticky_attack: int = 0,
        pitch_limit: float = 60.0,
    ) -> None:
        super().__init__(env, sticky_attack, pitch_limit)
        self.names = named_list(actions)
        self._table = [_combined_action(name, self.dictionary, camera_degrees) for name in self.names]
        self._turns_only = [all(part.startswith("camera_") for part in name.split("+")) for name in self.names]
        self.action_space = spaces.Discrete(len(self._table))

    def action(self, action: int) -> dict[str, Any]:
        return self.held_and_limited(self._table[int(action)])

    def action_masks(self) -> np.ndarray:
        """Return which actions do something now, bool (n,): a turn up or down against the limit of the pitch does nothing."""
        return np.array([self._does_something(index) for index in range(len(self._table))])

    def _does_something(self, index: int) -> bool:
        pitch, yaw = self._table[index]["camera"]
        return not self._turns_only[index] or yaw != 0 or abs(np.clip(self._pitch + pitch, *self._limits) - self._pitch) > 0

    @property
    def _limits(self) -> tuple[float, float]:
        return -self.pitch_limit, self.pitch_limit


def _combined_action(name: str, space: spaces.Dict, camera_degrees: float) -> dict[str, Any]:
    combined = idle_action(space)
    press(combined, name, space, camera_degrees)
    return combined
