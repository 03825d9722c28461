"""A world from a seed: hills, ponds, trees, the colours of the day, where the player starts and where the goal stands."""

from dataclasses import dataclass

import numpy as np

from envs.voxel import blocks, kernels
from envs.voxel.noise import periodic_noise

HEIGHT = kernels.LAYERS


@dataclass(frozen=True)
class Landscape:
    """What distinguishes one task's worlds: `size` a power of two, `hills` as (bumps a side, height in blocks)."""

    size: int
    hills: tuple[tuple[int, float], ...]
    base: float
    trees: int
    tree_gap: int
    water_level: int
    goal_distance: float | None = None


# Open woodland: so dense a forest as Minecraft's can be lets a blind agent run into trunks.
FOREST = Landscape(size=128, hills=((4, 5.0), (9, 2.6), (20, 0.9)), base=8.0, trees=150, tree_gap=9, water_level=6)
HILLS = Landscape(size=256, hills=((5, 9.0), (16, 3.5), (40, 1.2)), base=7.0, trees=900, tree_gap=5, water_level=8, goal_distance=64.0)


@dataclass
class World:
    """A generated world: the arrays that `kernels` works on, and where things are.

    `cells` uint8 (X, Z, Y), `top` uint8 (X, Z) the highest block of each column, `logs` int32 (N, 3: x, y, z),
    `sky` float64 (`kernels.SKY_SIZE`), `tint` (RGB) of what grows, `start` and `goal` as float positions (x, y, z).
    """

    cells: np.ndarray
    top: np.ndarray
    logs: np.ndarray
    sky: np.ndarray
    tint: np.ndarray
    start: np.ndarray
    goal: np.ndarray | None


def generate(landscape: Landscape, random: np.random.Generator) -> World:
    """Make a world; the same generator state gives the same world."""
    heights = _heights(landscape, random)
    surface, filling = _ground(landscape, heights, random)
    cells = np.empty((landscape.size, landscape.size, HEIGHT), np.uint8)
    top = np.empty((landscape.size, landscape.size), np.uint8)
    kernels.fill_terrain(cells, top, heights, surface, filling)
    logs = _plant(landscape, cells, top, heights, random)
    start = _start(landscape, top, heights, surface, logs, random)
    goal = None
    if landscape.goal_distance is not None:
        goal = _goal(landscape, cells, top, heights, surface, start, random)
    kernels.measure_free_distances(cells)
    sky, tint = _weather(random)
    return World(cells, top, logs, sky, tint, start, goal)


def _heights(landscape: Landscape, random: np.random.Generator) -> np.ndarray:
    """Return the highest block of earth of each column, uint8 (X, Z)."""
    relief = sum(0.5 * height * periodic_noise(random, landscape.size, bumps) for bumps, height in landscape.hills)
    return np.clip(np.round(landscape.base + 2 + relief), 4, HEIGHT - 13).astype(np.uint8)


def _ground(landscape: Landscape, heights: np.ndarray, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Choose each column's surface and what lies under it; ponds lie one block deep in the lowest ground."""
    surface = np.full(heights.shape, blocks.GRASS, np.uint8)
    filling = np.full(heights.shape, blocks.DIRT, np.uint8)
    rocky = periodic_noise(random, landscape.size, landscape.size // 12) > 0.72
    surface[rocky] = filling[rocky] = blocks.STONE
    shore = (heights <= landscape.water_level) & (periodic_noise(random, landscape.size, landscape.size // 16) > -0.3)
    surface[shore] = filling[shore] = blocks.SAND
    pond = heights < landscape.water_level
    heights[pond] = landscape.water_level - 1
    surface[pond] = blocks.WATER
    return surface, filling


def _plant(landscape: Landscape, cells: np.ndarray, top: np.ndarray, heights: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Grow trees where a slow noise is high; return the places of the logs, int32 (N, 3: x, y, z)."""
    count = landscape.trees
    places = random.integers(0, landscape.size, (count, 2))
    dense = periodic_noise(random, landscape.size, landscape.size // 20)[places[:, 0], places[:, 1]]
    birch = periodic_noise(random, landscape.size, landscape.size // 20)[places[:, 0], places[:, 1]]
    tall = random.choice([4, 5, 6], count, p=[0.2, 0.45, 0.35])
    log = np.where(birch + random.uniform(-0.4, 0.4, count) > 0.25, blocks.BIRCH_LOG, blocks.OAK_LOG)
    kept = dense + random.uniform(-0.6, 0.6, count) > -0.35
    candidates = np.column_stack([places, tall, log])[kept].astype(np.int32)
    logs = np.empty((6 * len(candidates), 3), np.int32)
    return logs[: kernels.plant_trees(cells, top, heights, candidates, landscape.tree_gap, logs)].copy()


def _start(
    landscape: Landscape, top: np.ndarray, heights: np.ndarray, surface: np.ndarray, logs: np.ndarray, random: np.random.Generator
) -> np.ndarray:
    """Choose a free column, in Treechop's forest with a tree six to ten blocks away, else the best of 64."""
    size = landscape.size
    places = random.integers(size // 4, 3 * size // 4, (64, 2))
    away = (logs[None, :, [0, 2]] - places[:, None] + size // 2) % size - size // 2
    nearest = np.hypot(away[..., 0], away[..., 1]).min(1) if len(logs) else np.full(len(places), 6.0)
    x, z = places.T
    free = (top[x, z] == heights[x, z]) & (surface[x, z] != blocks.WATER)
    score = np.where(free, 0.0, 100.0) + np.abs(np.clip(nearest, 6, 10) - nearest)
    best = int(np.argmin(score))
    return np.array([x[best] + 0.5, top[x[best], z[best]] + 1.0, z[best] + 0.5])


def _goal(
    landscape: Landscape,
    cells: np.ndarray,
    top: np.ndarray,
    heights: np.ndarray,
    surface: np.ndarray,
    start: np.ndarray,
    random: np.random.Generator,
) -> np.ndarray:
    """Put the diamond block on free dry ground about `goal_distance` from the start; return its centre."""
    mask = landscape.size - 1
    for angle in random.uniform(0, 2 * np.pi, 64):
        x = int(start[0] + landscape.goal_distance * np.cos(angle)) & mask
        z = int(start[2] + landscape.goal_distance * np.sin(angle)) & mask
        if top[x, z] == heights[x, z] and surface[x, z] != blocks.WATER:
            break
    y = int(top[x, z]) + 1
    cells[x, z, y] = blocks.DIAMOND
    top[x, z] = y
    return np.array([x + 0.5, y + 0.5, z + 0.5])


def _weather(random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Choose the day's brightness, the sky's colours and how green the grass is."""
    sky = np.zeros(kernels.SKY_SIZE)
    sky[kernels.DAYLIGHT] = random.uniform(0.72, 1.0)
    haze = random.uniform(-8, 8, 3)
    sky[kernels.HORIZON : kernels.HORIZON + 3] = np.clip(np.array([176, 203, 250]) + haze, 0, 255)
    sky[kernels.ZENITH : kernels.ZENITH + 3] = np.clip(np.array([112, 158, 252]) + haze, 0, 255)
    sky[kernels.DRIFT] = random.uniform(0, 500)
    tint = np.array([1.0, 1.0, 1.0]) + random.uniform(-0.16, 0.12, 3) * np.array([1.4, 0.6, 1.0])
    return sky, tint
