"""What the voxel world is made of: block numbers, their names, and the ticks that breaking one takes."""

import numpy as np

GRASS, DIRT, STONE, SAND, WATER, OAK_LOG, OAK_LEAVES, BIRCH_LOG, BIRCH_LEAVES, DIAMOND, BEDROCK = range(1, 12)
FLOWER, MUSHROOM, CAVE_DIM, CAVE_DARK, RED, YELLOW, BLUE = range(12, 19)

NAMES = (
    "air", "grass", "dirt", "stone", "sand", "water", "log", "leaves", "log", "leaves", "diamond", "bedrock",
    "flower", "mushroom", "cave", "cave", "red", "yellow", "blue",
)  # fmt: skip
"""By block number; both kinds of wood share a name, as in the task's rewards, and so do a cave's stones near its mouth and deep in it."""

BEACONS = (RED, YELLOW, BLUE)

SKY = 255
"""What a segmentation holds where a pixel shows no block."""

NEVER = 1e9
"""Ticks to break what cannot be broken."""


def break_ticks(axe: bool) -> np.ndarray:
    """Return the ticks to break each block, float64 by block number: with an iron axe, or with bare hands (Minecraft 1.11)."""
    log = 10 if axe else 60
    plants, caves, beacons = [1, 1], [150, 150], [NEVER] * len(BEACONS)
    return np.array([NEVER, 18, 15, 150, 15, NEVER, log, 6, log, 6, NEVER, NEVER, *plants, *caves, *beacons])
