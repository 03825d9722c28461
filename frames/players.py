"""A player for MineRL's action dictionary that sees more of a world than chance does."""

from copy import deepcopy
from typing import Any, TypeGuard

import gymnasium
import numpy as np
from gymnasium import spaces

from foundation.minerl import acts_like_minerl, words_of

_LEG_TICKS = 30
_FASTEST = 8.0
"""Degrees a tick that the view turns up or down at most."""

# what it holds for a while, and how often it chooses it
_LEGS: tuple[tuple[dict[str, int], int], ...] = (
    ({"forward": 1}, 4),
    ({"forward": 1, "sprint": 1}, 2),
    ({"forward": 1, "jump": 1}, 3),
    ({"forward": 1, "jump": 1, "attack": 1}, 2),
    ({"attack": 1}, 2),
    ({"left": 1, "forward": 1}, 1),
    ({"right": 1, "forward": 1}, 1),
    ({"back": 1}, 1),
    ({}, 2),
)


class WanderingPlayer:
    """Walks about, looks around near the level, hacks at what is in front; holds each for 30 ticks on average.

    It needs nothing but the action dictionary, so that it plays where no target is known. It knows the pitch from its own turns.
    """

    def __init__(self, action_space: spaces.Dict) -> None:
        self._idle = {key: nothing(space) for key, space in action_space.spaces.items()}
        self._odds = np.array([odds for _, odds in _LEGS], float) / sum(odds for _, odds in _LEGS)
        self.reset(0)

    def reset(self, seed: int) -> None:
        self._random = np.random.default_rng(seed)
        self._left, self._pitch = 0, 0.0

    def __call__(self, observation: Any, info: dict[str, Any]) -> dict[str, Any]:
        if self._left == 0:
            self._new_leg()
        self._left -= 1
        turn = float(np.clip(0.2 * (self._level - self._pitch) + self._random.normal(0, 0.5), -_FASTEST, _FASTEST))
        self._pitch = float(np.clip(self._pitch + turn, -90, 90))
        camera = np.array([turn, self._rate + self._random.normal(0, 0.5)], np.float32)
        return {**deepcopy(self._idle), **self._keys, "camera": camera}

    def _new_leg(self) -> None:
        random = self._random
        keys = _LEGS[int(random.choice(len(_LEGS), p=self._odds))][0]
        self._left = int(random.geometric(1 / _LEG_TICKS))
        self._keys = {key: pressed for key, pressed in keys.items() if key in self._idle}
        self._level = float(np.clip(random.normal(5, 20), -60, 60))
        self._rate = float(random.normal(0, 3 if keys else 8))


def wanders_in(space: gymnasium.Space) -> TypeGuard[spaces.Dict]:
    """Say whether an environment's actions are a dictionary that a `WanderingPlayer` can fill in."""
    return acts_like_minerl(space, "forward", "attack")


def nothing(space: spaces.Space) -> Any:
    """Return the action that does nothing: keys that are not pressed; where numbers stand for words, the one for 'none'."""
    if isinstance(space, spaces.Dict):
        return {key: nothing(inner) for key, inner in space.spaces.items()}
    if isinstance(space, spaces.Tuple):
        return tuple(nothing(inner) for inner in space.spaces)
    if isinstance(space, spaces.Discrete):
        words, default = words_of(space), getattr(space, "default", None)
        return words.index(default) if default in words else 0
    return np.zeros(space.shape or (), space.dtype)
