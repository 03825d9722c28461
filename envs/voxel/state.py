"""What `info["state"]` tells of a voxel task: numbers in [-1, 1] for probes and for the oracle, never in an observation.

An environment of another package joins by offering the same two: `info["state"]`, numbers by name, and `state_space`, a gymnasium
Dict that describes them.
"""

import math

import numpy as np
from gymnasium import spaces

from envs.voxel import kernels

_FAR, _HIGH = 32.0, 8.0
"""Blocks that count as 1."""
_SHOWN = ("air", "diamond", "ground", "leaves", "log")


def numbers(things: tuple[str, ...]) -> tuple[str, ...]:
    """Name the numbers of `state` in worlds that have these kinds of block beside those of all."""
    shown = (f"block_{kind}" for kind in (*_SHOWN, *things))
    return ("bearing_cos", "bearing_sin", *shown, "block_distance", "distance", "height", "pitch")


def state_space(things: tuple[str, ...]) -> spaces.Dict:
    """Describe `state`: a number in [-1, 1] for each name."""
    return spaces.Dict({name: spaces.Box(-1.0, 1.0, (), np.float32) for name in numbers(things)})


def state(
    away: tuple[float, float, float] | None, bearing: float, pitch: float, aimed: tuple[str, float], things: tuple[str, ...] = ()
) -> dict[str, float]:
    """Return where the target is, how far the view is tilted, and what is on the crosshair.

    `away` is the way from the eye to the target in blocks (x, y, z), None where none is left: then it is at distance 1, and both parts of
    the bearing are 0. `bearing` and `pitch` are in degrees. `distance` is log(1 + blocks) / log(33), since it is near the target that a
    block more or less matters; `height` counts in 8 blocks; both are clipped at 1. `aimed` is the block on the crosshair and its distance;
    `block_distance` counts in the reach of a hand, 1 where nothing is within it.
    """
    angle = math.radians(bearing)
    kind, aimed_distance = aimed
    found = dict.fromkeys(numbers(things), 0.0)
    found["bearing_sin"], found["bearing_cos"] = (0.0, 0.0) if away is None else (math.sin(angle), math.cos(angle))
    found["distance"] = 1.0 if away is None else min(math.log1p(math.hypot(*away)) / math.log1p(_FAR), 1.0)
    found["height"] = 0.0 if away is None else max(-1.0, min(away[1] / _HIGH, 1.0))
    found["pitch"] = pitch / 90.0
    found["block_distance"] = min(aimed_distance / kernels.REACH, 1.0)
    found[f"block_{kind if kind in _SHOWN or kind in things else 'ground'}"] = 1.0
    return found
