"""What a saved state of a voxel task must hold: the bounds within which compiled code stays inside its arrays."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from envs.voxel import blocks, kernels, tasks, terrain
from foundation.arrays import Kind, checked_arrays
from foundation.errors import UserError

_FREE_LAYERS = 5
"""Layers below the top of the world without blocks: who stands there and jumps keeps the eye inside."""
_HIGHEST = 29.0
"""Of the feet: a jump of 1.25 from there leaves the eye, 1.62 above, inside the world."""
_FASTEST = 10.0
"""Blocks a tick; a fall comes to 3.92."""
_FAR = 1e7
"""Blocks from the origin, which who walks around the torus counts on; and any number that only grows."""
_LONG = 2**53
_PLAYER_BOUNDS = {
    kernels.X: (-_FAR, _FAR),
    kernels.Y: (0.0, _HIGHEST),
    kernels.Z: (-_FAR, _FAR),
    kernels.VX: (-_FASTEST, _FASTEST),
    kernels.VY: (-_FASTEST, kernels.JUMP_SPEED),
    kernels.VZ: (-_FASTEST, _FASTEST),
    kernels.YAW: (-180.0, 180.0),
    kernels.PITCH: (-90.0, 90.0),
    kernels.ON_GROUND: (0.0, 1.0),
    kernels.LOGS: (0.0, _FAR),
    kernels.DIRT_HELD: (0.0, _FAR),
    kernels.TOUCHED: (0.0, 1.0),
    kernels.AIM_X: (0.0, _FAR),
    kernels.AIM_Y: (-_FAR, _FAR),
    kernels.AIM_Z: (0.0, _FAR),
    kernels.AIM_FACE: (0.0, 5.0),
    kernels.AIM_BLOCK: (0.0, len(blocks.NAMES) - 1.0),
    kernels.AIM_DISTANCE: (0.0, kernels.REACH),
    # work on a block that is done is set back to 0
    kernels.PROGRESS: (0.0, np.nextafter(1.0, 0.0)),
    kernels.PLACE_WAIT: (0.0, float(kernels.PLACE_TICKS)),
}


def checked_state(state: Any, task: tasks.Task) -> dict[str, np.ndarray]:
    """Return the arrays of `VoxelEnv.save_state` as copies; raise `UserError` where they are damaged, or of another task."""
    size = task.landscape.size
    cells = state.get("cells") if isinstance(state, Mapping) else None
    goal, places = ((state.get(name) if isinstance(state, Mapping) else None) for name in ("goal", "places"))
    alike = (getattr(goal, "size", 0) > 0) == task.has_goal and (getattr(places, "size", 0) > 0) == task.has_places
    if getattr(cells, "shape", None) != (size, size, terrain.HEIGHT) or not alike:
        raise UserError(f"the saved state is not one of {task.name}: restore it into the task that it was saved from")
    arrays = checked_arrays(state, _kinds(size, task), f"the saved state of {task.name} is damaged")
    cells = arrays["cells"]
    solid = cells < kernels.AIR
    if cells.max() > kernels.AIR + 8 * kernels.STRIDE - 1 or (solid & ((cells == 0) | (cells >= len(blocks.NAMES)))).any():
        raise UserError(f"the saved state of {task.name} is damaged: 'cells' holds blocks that there are not")
    if solid[:, :, terrain.HEIGHT - _FREE_LAYERS :].any():
        raise UserError(f"the saved state of {task.name} is damaged: 'cells' holds blocks above the highest layer for them")
    if task.landscape.caves and len(arrays["places"]) % 2:
        raise UserError(f"the saved state of {task.name} is damaged: 'places' holds a cave's mouth without its inside")
    if task.landscape.beacon_distance and _block_at(cells, arrays["goal"]) not in blocks.BEACONS:
        raise UserError(f"the saved state of {task.name} is damaged: there is no beacon at 'goal'")
    return arrays


def _block_at(cells: np.ndarray, place: np.ndarray) -> int:
    x, y, z = place.astype(int)
    return int(cells[x, z, y])


def _counted() -> np.ndarray:
    """Say which of the player's entries are whole numbers."""
    counted = np.zeros(kernels.PLAYER_SIZE, bool)
    counted[[kernels.LOGS, kernels.DIRT_HELD, kernels.AIM_X, kernels.AIM_Y, kernels.AIM_Z, kernels.AIM_FACE, kernels.AIM_BLOCK]] = True
    return counted


def _kinds(size: int, task: tasks.Task) -> dict[str, Kind]:
    low, high = (np.array([_PLAYER_BOUNDS[entry][end] for entry in range(kernels.PLAYER_SIZE)]) for end in (0, 1))
    sky_high = np.full(kernels.SKY_SIZE, 255.0)
    sky_high[kernels.DAYLIGHT], sky_high[kernels.DRIFT] = 1.0, _FAR
    inside = np.array([size, terrain.HEIGHT, size])
    # a state, its increment, a flag, and 32 bits that were not used
    words = np.array([2**64 - 1] * 4 + [1, 2**32 - 1], np.uint64)
    places = {"places": Kind(np.int32, (None, 3), 0, inside - 1)} if task.has_places else {}
    return {
        **places,
        "cells": Kind(np.uint8, (size, size, terrain.HEIGHT)),
        "top": Kind(np.uint8, (size, size), 0, terrain.HEIGHT - 1),
        "logs": Kind(np.int32, (None, 3), 0, inside - 1),
        "sky": Kind(np.float64, (kernels.SKY_SIZE,), 0, sky_high),
        "tint": Kind(np.float64, (3,), 0, 255),
        "start": Kind(np.float64, (3,), 0, np.array([size, _HIGHEST, size])),
        "goal": Kind(np.float64, (3 if task.has_goal else 0,), 0, inside - 0.5 if task.has_goal else 0),
        "player": Kind(np.float64, (kernels.PLAYER_SIZE,), low, high, _counted()),
        "ticks": Kind(np.int64, (1,), 0, _LONG),
        "random": Kind(np.uint64, (6,), 0, words),
    }
