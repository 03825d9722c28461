"""Caves: tunnels from the foot of a cliff into the hill, dark at their end."""

from functools import cache
from typing import Any

import numpy as np

from envs.voxel import blocks, kernels

_LENGTH, _DIM, _DARK, _WIDE = 8, 3, 5, 6
"""Steps from the mouth at which a tunnel ends, its stones are first dim, then dark, and it widens."""
_HIGH, _ROOF = 3, 5
"""Layers of air; layers from the floor to the grass above, which hide the stones of the roof."""
_TURNS = ((1, 0), (-1, 0), (0, 1), (0, -1))
INSIDE = 6
"""Steps from the mouth to the place inside."""


def cave_sites(heights: np.ndarray, water_level: int) -> np.ndarray:
    """Return where a cave fits into the ground, int64 (N, 4: x, z of the mouth, and the step (x, z) inwards).

    In front of the mouth the ground is level and dry; three steps behind it the hill is high enough for a roof.
    """
    mask, found = len(heights) - 1, []
    ground = heights.astype(int)
    for turn in _TURNS:
        x, z = np.nonzero(ground > water_level)
        for along, side, least, most in _needs():
            column = _place(x, z, turn, along, side)
            rise = ground[column[0] & mask, column[1] & mask] - ground[x, z]
            kept = (rise >= least) & (rise <= most)
            x, z = x[kept], z[kept]
        found.append(np.column_stack([x, z, np.full_like(x, turn[0]), np.full_like(x, turn[1])]))
    return np.concatenate(found)


def dig_caves(cells: np.ndarray, top: np.ndarray, heights: np.ndarray, sites: np.ndarray, count: int, gap: int) -> np.ndarray:
    """Dig up to `count` caves at the first sites that are `gap` apart.

    Returns the floors of each one's mouth and inside in turn, int32 (2N, 3: x, y, z).
    """
    size = len(top)
    chosen: list[np.ndarray] = []
    for site in sites:
        away = [np.abs((site[:2] - other[:2] + size // 2) % size - size // 2).max() for other in chosen]
        if len(chosen) < count and min(away, default=gap) >= gap:
            chosen.append(site)
    places = []
    for x, z, *turn in chosen:
        floor = int(heights[x, z])
        _dig(cells, top, floor, (x, z), (turn[0], turn[1]))
        for along in (0, INSIDE):
            column = _place(x, z, (turn[0], turn[1]), along, 0)
            places.append((column[0] % size, floor, column[1] % size))
    return np.array(places, np.int32).reshape(-1, 3)


def _dig(cells: np.ndarray, top: np.ndarray, floor: int, mouth: tuple[int, int], turn: tuple[int, int]) -> None:
    mask = len(top) - 1
    dug = slice(floor + 1, floor + 1 + _HIGH)
    for along in range(-3, _LENGTH + 2):
        for side in range(-_half(along) - 1, _half(along) + 2):
            x, z = (value & mask for value in _place(*mouth, turn, along, side))
            column = cells[x, z]
            within = abs(side) <= _half(along) and along <= _LENGTH
            if along < _DIM:
                # no tree stands before the mouth, and the way to the roof lies open
                column[(column >= blocks.OAK_LOG) & (column <= blocks.BIRCH_LEAVES)] = kernels.AIR
                if within and along > 0:
                    column[floor + 1 :] = kernels.AIR
                top[x, z] = np.flatnonzero(column < kernels.AIR).max()
                continue
            column[floor : floor + 2 + _HIGH] = blocks.CAVE_DIM if along < _DARK else blocks.CAVE_DARK
            if within:
                column[dug] = kernels.AIR


def _half(along: int) -> int:
    """Return how far a tunnel reaches to each side of its middle."""
    return 2 if along >= _WIDE else 1


@cache
def _needs() -> list[tuple[int, int, int, int]]:
    """List the least and the most that the ground rises at each step inwards and to the side; what fewest places have comes first."""
    roofed = [(along, side) for along in range(_DIM, _LENGTH + 2) for side in range(-_half(along) - 1, _half(along) + 2)]
    before = [(along, side) for along in range(-3, 1) for side in (-1, 0, 1)]
    beside = [(along, side) for along in range(1, _DIM) for side in range(-2, 3)]
    high = kernels.LAYERS
    return [*((*one, _ROOF, high) for one in roofed), *((*one, -1, 0) for one in before), *((*one, 0, high) for one in beside)]


def _place(x: Any, z: Any, turn: tuple[int, int], along: int, side: int) -> tuple[Any, Any]:
    """Return the column some steps inwards from a mouth, and some to the side."""
    return x + along * turn[0] - side * turn[1], z + along * turn[1] + side * turn[0]
