"""Nested observation dictionaries as flat ones with numbers of one size."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium import spaces

from foundation.errors import UserError, in_one_line
from wrappers.bounds import scalable

PICTURE = "pov"
LATENT = "latent"
"""What stands in the picture's place where an encoder has read it: no entry of an environment's own is called so."""
_MOST_CHOICES = 4096
# an instance, since `training` is no attribute of the class
_MODULES = torch.nn.ModuleDict()
_Path = tuple[str | int, ...]


class FlatObservation(gymnasium.ObservationWrapper):
    """Flatten MineRL's nested observation: keys joined by "/", every entry at least one-dimensional.

    Angles in degrees (bounds -180 to 180) become (sin, cos), other bounded numbers go to [-1, 1], choices become one-hot (several:
    one after the other), the picture `pov` stays as it is. Numbers without bounds, and whole ones in ranges of more than 2^24 that would
    not be told apart in [-1, 1], stay too. An observation that is a picture and nothing else becomes that picture.

    Raises `UserError`, with the entry's name, for spaces that are neither numbers nor choices, and at a step for values that are no
    numbers (NaN, infinite) or no choices of their space.
    """

    def __init__(self, env: gymnasium.Env) -> None:
        super().__init__(env)
        if not isinstance(env.observation_space, spaces.Dict):
            raise UserError(
                f"a flat observation needs a dictionary; this environment's observation is {in_one_line(env.observation_space)}"
            )
        entries = list(_leaves(env.observation_space))
        self._entries = {_name(path): _Entry.of(path, space) for path, space in entries}
        if len(self._entries) < len(entries):
            names = [_name(path) for path, _ in entries]
            twice = next(name for name in names if names.count(name) > 1)
            raise UserError(f"two observations would be called '{twice}'; rename one of them in the environment")
        flat = {name: entry.space for name, entry in self._entries.items()}
        self._picture_only = list(flat) == [PICTURE]
        self.observation_space = flat[PICTURE] if self._picture_only else spaces.Dict(flat)

    def observation(self, observation: dict[str, Any]) -> Any:
        if self._picture_only:
            return observation[PICTURE]
        flat = {}
        for name, entry in self._entries.items():
            value: Any = observation
            for key in entry.path:
                value = value[key]
            flat[name] = entry.read(value)
        return flat


@dataclass(frozen=True)
class _Entry:
    """Where one entry stands in the nested observation, its space in the flat one, and what makes the one of the other."""

    path: _Path
    space: spaces.Space
    read: Callable[[Any], np.ndarray]

    @classmethod
    def of(cls, path: _Path, space: spaces.Space) -> "_Entry":
        if path == (PICTURE,):
            return cls(path, _picture_space(space), lambda picture: picture)
        name = _name(path)
        if isinstance(space, (spaces.Discrete, spaces.MultiDiscrete)):
            return cls(path, *_one_hot(name, space))
        return cls(path, *_numbers(name, space))


def _leaves(space: spaces.Dict | spaces.Tuple, path: _Path = ()) -> Iterator[tuple[_Path, spaces.Space]]:
    inner = space.spaces.items() if isinstance(space, spaces.Dict) else enumerate(space.spaces)
    for key, sub in inner:
        if isinstance(sub, (spaces.Dict, spaces.Tuple)):
            yield from _leaves(sub, (*path, key))
        elif isinstance(sub, (spaces.Box, spaces.Discrete, spaces.MultiDiscrete, spaces.MultiBinary)):
            yield (*path, key), sub
        else:
            what = f"observation '{_name((*path, key))}' is {in_one_line(sub)}"
            raise UserError(f"{what}: neither numbers nor a choice; leave it out of the environment")


def _name(path: _Path) -> str:
    """Return the name of an entry: not `latent`, and what torch's dictionaries of modules allow, no dots and no name of their own."""
    name = "/".join(map(str, path)).replace(".", "_")
    return f"{name}_" if name == LATENT or hasattr(_MODULES, name) else name


def _is_angle(space: spaces.Box) -> bool:
    return bool(np.all(space.low == -180) and np.all(space.high == 180))


def _picture_space(space: spaces.Space) -> spaces.Space:
    """Return the space of RGB pictures: whatever darker bounds an environment declares, Stable-Baselines3 knows pictures by 0 to 255."""
    if not isinstance(space, spaces.Box) or space.dtype != np.uint8 or len(space.shape) != 3:
        raise UserError(f"observation '{PICTURE}' is {in_one_line(space)}: no picture, uint8 (H, W, 3) from 0 to 255; scale it to that")
    if space.high.max() <= 1:
        raise UserError(
            f"observation '{PICTURE}' is {in_one_line(space)}: a picture goes up to 255, and this one is all black; multiply by 255"
        )
    return spaces.Box(0, 255, space.shape, np.uint8)


def _one_hot(name: str, space: spaces.Discrete | spaces.MultiDiscrete) -> tuple[spaces.Box, Callable[[Any], np.ndarray]]:
    counts, start = (
        (np.array([space.n]), np.array([space.start]))
        if isinstance(space, spaces.Discrete)
        else (space.nvec.reshape(-1), space.start.reshape(-1))
    )
    total, firsts = int(counts.sum()), np.cumsum(counts) - counts
    if total > _MOST_CHOICES:
        raise UserError(f"observation '{name}' is {in_one_line(space)}: too many choices; leave it out, or give it as a number")

    def read(value: Any) -> np.ndarray:
        places = np.asarray(value).reshape(-1).astype(np.int64) - start
        if not ((places >= 0) & (places < counts)).all():
            raise UserError(f"observation '{name}' is {in_one_line(value)}, which is not in {in_one_line(space)}; mend the environment")
        flat = np.zeros(total, np.float32)
        flat[firsts + places] = 1
        return flat

    return spaces.Box(0.0, 1.0, (total,), np.float32), read


def _numbers(name: str, space: spaces.Space) -> tuple[spaces.Box, Callable[[Any], np.ndarray]]:
    size = int(np.prod(space.shape or (), dtype=int))
    box = space if isinstance(space, spaces.Box) else None
    angle = box is not None and _is_angle(box)
    scaled = np.zeros(size, bool) if box is None else scalable(box).reshape(-1)
    low, high = np.zeros(size), np.ones(size)
    if box is not None:
        low[scaled], high[scaled] = box.low.reshape(-1)[scaled], box.high.reshape(-1)[scaled]

    def read(value: Any) -> np.ndarray:
        numbers = np.asarray(value, np.float64).reshape(-1)
        if not np.isfinite(numbers).all():
            raise UserError(f"observation '{name}' is {in_one_line(value)}, no finite number; mend the environment, or leave it out")
        if angle:
            radians = np.deg2rad(numbers)
            numbers = np.concatenate([np.sin(radians), np.cos(radians)])
        else:
            numbers = np.where(scaled, 2 * (numbers - low) / (high - low) - 1, numbers)
        return numbers.astype(np.float32)

    if angle:
        return spaces.Box(-1.0, 1.0, (2 * size,), np.float32), read
    if box is None:
        return spaces.Box(0.0, 1.0, (size,), np.float32), read
    most = np.where(scaled, 1.0, np.inf).astype(np.float32)
    return spaces.Box(-most, most, dtype=np.float32), read
