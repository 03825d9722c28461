"""Nested observation dictionaries as flat ones with numbers of one size."""

from collections.abc import Iterator
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from foundation.errors import UserError

PICTURE = "pov"


class FlatObservation(gymnasium.ObservationWrapper):
    """Flatten MineRL's nested observation: keys joined by "/", every entry at least one-dimensional.

    Angles in degrees (bounds -180 to 180) become (sin, cos), other bounded numbers go to [-1, 1], choices become one-hot,
    the picture `pov` stays as it is. An observation that is a picture and nothing else becomes that picture.
    """

    def __init__(self, env: gymnasium.Env) -> None:
        super().__init__(env)
        if not isinstance(env.observation_space, spaces.Dict):
            raise UserError(f"a flat observation needs a dictionary; this environment's observation is {env.observation_space}")
        self._entries = dict(_leaves(env.observation_space))
        flat = {"/".join(path): space if path == (PICTURE,) else _number_space(space) for path, space in self._entries.items()}
        self._picture_only = list(flat) == [PICTURE]
        self.observation_space = flat[PICTURE] if self._picture_only else spaces.Dict(flat)

    def observation(self, observation: dict[str, Any]) -> Any:
        if self._picture_only:
            return observation[PICTURE]
        flat = {}
        for path, space in self._entries.items():
            value: Any = observation
            for key in path:
                value = value[key]
            flat["/".join(path)] = value if path == (PICTURE,) else _as_numbers(space, value)
        return flat


def _leaves(space: spaces.Dict, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], spaces.Space]]:
    for key, sub in space.spaces.items():
        if isinstance(sub, spaces.Dict):
            yield from _leaves(sub, (*path, key))
        elif isinstance(sub, (spaces.Box, spaces.Discrete)):
            yield (*path, key), sub
        else:
            name = "/".join((*path, key))
            raise UserError(f"observation '{name}' is {sub}: neither numbers nor a choice; leave it out of the environment")


def _is_angle(space: spaces.Box) -> bool:
    return bool(np.all(space.low == -180) and np.all(space.high == 180))


def _is_bounded(space: spaces.Box) -> bool:
    return bool(np.all(np.isfinite(space.low)) and np.all(np.isfinite(space.high)) and np.all(space.low < space.high))


def _number_space(space: spaces.Space) -> spaces.Box:
    if isinstance(space, spaces.Discrete):
        return spaces.Box(0.0, 1.0, (int(space.n),), np.float32)
    assert isinstance(space, spaces.Box)
    size = int(np.prod(space.shape, dtype=int))
    if _is_angle(space):
        return spaces.Box(-1.0, 1.0, (2 * size,), np.float32)
    limit = 1.0 if _is_bounded(space) else np.inf
    return spaces.Box(-limit, limit, (size,), np.float32)


def _as_numbers(space: spaces.Space, value: Any) -> np.ndarray:
    if isinstance(space, spaces.Discrete):
        return np.eye(int(space.n), dtype=np.float32)[int(value) - int(space.start)]
    assert isinstance(space, spaces.Box)
    numbers = np.asarray(value, np.float64).reshape(-1)
    if _is_angle(space):
        radians = np.deg2rad(numbers)
        return np.concatenate([np.sin(radians), np.cos(radians)]).astype(np.float32)
    if _is_bounded(space):
        low, high = space.low.reshape(-1).astype(np.float64), space.high.reshape(-1).astype(np.float64)
        numbers = 2 * (numbers - low) / (high - low) - 1
    return numbers.astype(np.float32)
