"""What an environment's spaces mean for an algorithm: how it acts, which policy sees the observation, how much memory a step takes."""

import numpy as np
from gymnasium import spaces
from stable_baselines3.common.preprocessing import is_image_space

from foundation.errors import UserError
from frames.store import free_memory as free_memory
from wrappers.plain_actions import is_plain

_LEAST_SIDE = 36


def acts(actions: spaces.Space) -> str:
    """Return how one acts in a space: by a `choice`, by several `choices`, by `continuous` numbers, or in no way known here (`other`)."""
    if isinstance(actions, spaces.Discrete):
        return "choice" if is_plain(actions) else "other"
    if isinstance(actions, spaces.MultiDiscrete):
        return "choices" if is_plain(actions) else "other"
    return "continuous" if isinstance(actions, spaces.Box) else "other"


def policy_name(space: spaces.Space, family: str = "") -> str:
    """Return the policy for an observation space: the same CNN for a picture alone and for one in a dictionary."""
    if isinstance(space, spaces.Dict):
        return f"MultiInput{family}Policy"
    return f"{'Cnn' if is_image_space(space) else 'Mlp'}{family}Policy"


def pictures(space: spaces.Space) -> list[spaces.Space]:
    """Return the pictures in an observation; raise `UserError` for those that Stable-Baselines3's CNN (strides 4, 2, 1) cannot take."""
    found = [entry for entry in _entries(space) if is_image_space(entry)]
    for entry in found:
        if min(entry.shape[:2]) < _LEAST_SIDE:  # type: ignore[index]
            raise UserError(f"pictures of {entry.shape}: the CNN on pixels needs sides of at least {_LEAST_SIDE}; choose a larger picture")
    return found


def byte_size(space: spaces.Space) -> int:
    """Return the bytes of one element of a space."""
    if isinstance(space, spaces.Dict):
        return sum(byte_size(one) for one in space.spaces.values())
    return int(np.prod(space.shape or (1,))) * np.dtype(space.dtype or np.float32).itemsize


def _entries(space: spaces.Space) -> list[spaces.Space]:
    return list(space.spaces.values()) if isinstance(space, spaces.Dict) else [space]
