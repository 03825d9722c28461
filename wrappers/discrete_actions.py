"""MineRL's action dictionary as a short list of combined actions."""

from typing import Any

import numpy as np
from gymnasium import spaces

from wrappers.camera_actions import CameraActions, idle_action, press

_ROUNDING = 1e-3
"""Degrees: a view at its limit is off by what float32 turns lost, and a step so small is none."""


class DiscreteActions(CameraActions):
    """Replace MineRL's action dictionary by `Discrete(n)` over a list of combined actions. The options are `CameraActions`'."""

    def take_list(self, names: tuple[str, ...]) -> spaces.Discrete:
        self.names = names
        self._table = [_combined_action(name, self.dictionary, self.camera_degrees) for name in names]
        self._turns_only = [all(part.startswith("camera_") for part in name.split("+")) for name in names]
        return spaces.Discrete(len(self._table))

    def action(self, action: int) -> dict[str, Any]:
        return self.held_and_limited(self._table[int(action)])

    def action_masks(self) -> np.ndarray:
        """Return which actions do something now, bool (n,): a turn up or down against the limit of the pitch does nothing."""
        return np.array([self._does_something(index) for index in range(len(self._table))])

    def _does_something(self, index: int) -> bool:
        pitch, yaw = self._table[index]["camera"]
        return not self._turns_only[index] or yaw != 0 or abs(self.limited(pitch) - self._pitch) > _ROUNDING


def _combined_action(name: str, space: spaces.Dict, camera_degrees: float) -> dict[str, Any]:
    combined = idle_action(space)
    press(combined, name, space, camera_degrees)
    return combined
