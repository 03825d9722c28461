"""MineRL's action dictionary as a vector of numbers: two for the camera, one a key."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from gymnasium import spaces

from wrappers.camera_actions import CAMERA_TURNS, CameraActions, available, idle_action, press


class ContinuousActions(CameraActions):
    """Replace MineRL's action dictionary by `Box(-1, 1, (2 + keys,))`: pitch, yaw, and a number for each key.

    The first two turn the camera by up to `camera_degrees` a step, down and right for positive ones. A key is pressed while its
    number is above 0. The keys are those that the list `actions` uses, in that order. The options are `CameraActions`'.
    """

    def take_list(self, names: tuple[str, ...]) -> spaces.Box:
        self.keys = _keys([available(name, self.dictionary) for name in names])
        # a key that the dictionary does not have is said now, not when it is first pressed
        press(idle_action(self.dictionary), "+".join(self.keys) or "noop", self.dictionary, self.camera_degrees)
        return spaces.Box(-1.0, 1.0, (2 + len(self.keys),), np.float32)

    def action(self, action: np.ndarray) -> dict[str, Any]:
        numbers = np.clip(np.asarray(action, np.float32), -1.0, 1.0)
        chosen = idle_action(self.dictionary)
        chosen["camera"] = numbers[:2] * np.float32(self.camera_degrees)
        pressed = [key for key, number in zip(self.keys, numbers[2:], strict=True) if number > 0]
        press(chosen, "+".join(pressed) or "noop", self.dictionary, self.camera_degrees)
        return self.held_and_limited(chosen)


def _keys(actions: Sequence[str]) -> tuple[str, ...]:
    parts = [part for name in actions for part in name.split("+")]
    return tuple(key for key in dict.fromkeys(parts) if key not in CAMERA_TURNS and key != "noop")
