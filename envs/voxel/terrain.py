"""A world from a seed: hills, ponds, trees, a task's things, the colours of the day, where the player starts and where the goal stands."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from envs.voxel import blocks, kernels
from envs.voxel.caves import cave_sites, dig_caves
from envs.voxel.noise import periodic_noise

HEIGHT = kernels.LAYERS
DAYLIGHTS = (0.72, 1.0)
"""The least and the most of a day's brightness."""
HORIZON, ZENITH = (176, 203, 250), (112, 158, 252)
"""The sky's colours, before the day's haze."""
_CAVE_GAP = 20
_WALL_AWAY, _WALL_HIGH = 2, 4
_BEACON_HIGH = 3


@dataclass(frozen=True)
class Landscape:
    """What distinguishes one task's worlds: `size` a power of two, `hills` and `cliffs` as (bumps a side, height in blocks).

    `plants` counts flowers, and mushrooms as well; `caves` is the most of them. `start_near` is the least and the most, in blocks, that the
    nearest tree, plant or cave should be away from the start; `beacon_distance` the same for beacons.
    """

    size: int
    hills: tuple[tuple[int, float], ...]
    base: float
    trees: int
    tree_gap: int
    water_level: int
    goal_distance: float | None = None
    cliffs: tuple[int, float] | None = None
    caves: int = 0
    plants: int = 0
    beacon_distance: tuple[float, float] | None = None
    start_near: tuple[float, float] = (6.0, 10.0)
    highest_start: int = HEIGHT


# Open woodland: so dense a forest as Minecraft's can be lets a blind agent run into trunks.
FOREST = Landscape(size=128, hills=((4, 5.0), (9, 2.6), (20, 0.9)), base=8.0, trees=150, tree_gap=9, water_level=6)
HILLS = Landscape(size=256, hills=((5, 9.0), (16, 3.5), (40, 1.2)), base=7.0, trees=900, tree_gap=5, water_level=8, goal_distance=64.0)
GARDEN = Landscape(
    size=128, hills=((4, 4.0), (9, 2.2), (20, 0.8)), base=8.0, trees=60, tree_gap=9, water_level=6, plants=300, start_near=(4.0, 8.0)
)
CLIFFS = Landscape(
    size=128, hills=((9, 1.6), (20, 0.7)), base=5.0, trees=90, tree_gap=6, water_level=1, cliffs=(5, 10.0), caves=18,
    start_near=(16.0, 28.0), highest_start=10,
)  # fmt: skip
# So flat that a beacon is seen from the start, and trees are no landmarks among the beacons.
MEADOW = Landscape(
    size=128, hills=((5, 1.8), (12, 0.7)), base=8.0, trees=60, tree_gap=9, water_level=1, beacon_distance=(6.0, 9.0),
    start_near=(13.0, 64.0),
)  # fmt: skip


@dataclass
class World:
    """A generated world: the arrays that `kernels` works on, and where things are.

    `cells` uint8 (X, Z, Y), `top` uint8 (X, Z) the highest block of each column, `logs` int32 (N, 3: x, y, z),
    `sky` float64 (`kernels.SKY_SIZE`), `tint` (RGB) of what grows, `start` and `goal` as float positions (x, y, z), `places`
    int32 (M, 3: x, y, z) the flowers, or the floors of each cave's mouth and inside in turn.
    """

    cells: np.ndarray
    top: np.ndarray
    logs: np.ndarray
    sky: np.ndarray
    tint: np.ndarray
    start: np.ndarray
    goal: np.ndarray | None
    places: np.ndarray = field(default_factory=lambda: np.empty((0, 3), np.int32))

    @property
    def size(self) -> int:
        return len(self.top)

    def lower_walls(self) -> None:
        """Take away the walls that stand around the start."""
        for x, z in _around(self.start, self.size):
            column = self.cells[x, z]
            column[np.isin(column, blocks.BEACONS)] = kernels.AIR
            self.top[x, z] = np.flatnonzero(column < kernels.AIR).max(initial=0)
        kernels.measure_free_distances(self.cells)


def generate(landscape: Landscape, random: np.random.Generator) -> World:
    """Make a world; the same generator state gives the same world."""
    heights = _heights(landscape, random)
    if landscape.caves:
        while not len(sites := cave_sites(heights, landscape.water_level)):
            heights = _heights(landscape, random)
        sites = random.permutation(sites)
    surface, filling = _ground(landscape, heights, random)
    cells = np.empty((landscape.size, landscape.size, HEIGHT), np.uint8)
    top = np.empty((landscape.size, landscape.size), np.uint8)
    kernels.fill_terrain(cells, top, heights, surface, filling)
    logs = _plant(landscape, cells, top, heights, random)
    places = np.empty((0, 3), np.int32)
    if landscape.caves:
        places = dig_caves(cells, top, heights, sites, landscape.caves, _CAVE_GAP)
    elif landscape.plants:
        places = _strew(landscape, cells, top, heights, surface, random)
    near = places[::2] if landscape.caves else places if landscape.plants else logs
    start = _start(landscape, top, heights, surface, near, random)
    goal = None
    if landscape.goal_distance is not None:
        goal = _goal(landscape, cells, top, heights, surface, start, random)
    elif landscape.beacon_distance is not None:
        goal = _beacons(landscape.beacon_distance, cells, top, start, random)
    kernels.measure_free_distances(cells)
    sky, tint = _weather(random)
    return World(cells, top, logs, sky, tint, start, goal, places)


def _heights(landscape: Landscape, random: np.random.Generator) -> np.ndarray:
    """Return the highest block of earth of each column, uint8 (X, Z)."""
    relief = sum(0.5 * height * periodic_noise(random, landscape.size, bumps) for bumps, height in landscape.hills)
    if landscape.cliffs is not None:
        bumps, height = landscape.cliffs
        # steep in some places, and in others a slope that one can climb
        steep = 7.0 + 5.0 * periodic_noise(random, landscape.size, 2 * bumps)
        relief += 0.5 * height * np.tanh(steep * periodic_noise(random, landscape.size, bumps))
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


def _strew(
    landscape: Landscape, cells: np.ndarray, top: np.ndarray, heights: np.ndarray, surface: np.ndarray, random: np.random.Generator
) -> np.ndarray:
    """Set flowers and mushrooms, as many of each, on open grass; return the places of the flowers, int32 (N, 3: x, y, z)."""
    x, z = np.nonzero((top == heights) & (surface == blocks.GRASS))
    chosen = random.permutation(len(x))[: 2 * landscape.plants]
    chosen = chosen[: len(chosen) // 2 * 2]
    x, z = x[chosen], z[chosen]
    y = heights[x, z] + 1
    cells[x, z, y] = np.where(np.arange(len(x)) % 2 == 0, blocks.FLOWER, blocks.MUSHROOM)
    top[x, z] = y
    return np.column_stack([x, y, z])[::2].astype(np.int32)


def _start(
    landscape: Landscape, top: np.ndarray, heights: np.ndarray, surface: np.ndarray, near: np.ndarray, random: np.random.Generator
) -> np.ndarray:
    """Choose a free column that has one of `near` (N, 3) as near as it should be, else the best of 64."""
    size = landscape.size
    places = random.integers(size // 4, 3 * size // 4, (64, 2))
    away = (near[None, :, [0, 2]] - places[:, None] + size // 2) % size - size // 2
    least, most = landscape.start_near
    nearest = np.hypot(away[..., 0], away[..., 1]).min(1) if len(near) else np.full(len(places), least)
    x, z = places.T
    free = (top[x, z] == heights[x, z]) & (surface[x, z] != blocks.WATER) & (heights[x, z] <= landscape.highest_start)
    score = np.where(free, 0.0, 100.0) + np.abs(np.clip(nearest, least, most) - nearest)
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


def _beacons(
    distances: tuple[float, float], cells: np.ndarray, top: np.ndarray, start: np.ndarray, random: np.random.Generator
) -> np.ndarray:
    """Set a beacon of each colour around the start, and walls of one of the colours close about it; return that beacon's middle."""
    mask, goal = len(top) - 1, np.empty(0)
    first = random.uniform(0, 2 * np.pi)
    colours, right = random.permutation(blocks.BEACONS), int(random.integers(len(blocks.BEACONS)))
    for number, colour in enumerate(colours):
        angle = first + (number + random.uniform(-0.15, 0.15)) * 2 * np.pi / len(colours)
        away = random.uniform(*distances)
        x, z = int(start[0] + away * np.cos(angle)) & mask, int(start[2] + away * np.sin(angle)) & mask
        ground = int(top[x, z])
        cells[x, z, ground + 1 : ground + 1 + _BEACON_HIGH] = colour
        top[x, z] = ground + _BEACON_HIGH
        if number == right:
            goal = np.array([x + 0.5, ground + 1 + _BEACON_HIGH / 2, z + 0.5])
    for x, z in _around(start, len(top)):
        column, above = cells[x, z], int(start[1]) + _WALL_HIGH
        column[:above][column[:above] >= kernels.AIR] = colours[right]
        top[x, z] = max(int(top[x, z]), above - 1)
    return goal


def _around(start: np.ndarray, size: int) -> Iterator[tuple[int, int]]:
    """Yield the columns of a square around the start."""
    far = _WALL_AWAY
    for x in range(-far, far + 1):
        for z in range(-far, far + 1):
            if max(abs(x), abs(z)) == far:
                yield (int(start[0]) + x) & (size - 1), (int(start[2]) + z) & (size - 1)


def _weather(random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Choose the day's brightness, the sky's colours and how green the grass is."""
    sky = np.zeros(kernels.SKY_SIZE)
    sky[kernels.DAYLIGHT] = random.uniform(*DAYLIGHTS)
    haze = random.uniform(-8, 8, 3)
    sky[kernels.HORIZON : kernels.HORIZON + 3] = np.clip(np.array(HORIZON) + haze, 0, 255)
    sky[kernels.ZENITH : kernels.ZENITH + 3] = np.clip(np.array(ZENITH) + haze, 0, 255)
    sky[kernels.DRIFT] = random.uniform(0, 500)
    tint = np.array([1.0, 1.0, 1.0]) + random.uniform(-0.16, 0.12, 3) * np.array([1.4, 0.6, 1.0])
    return sky, tint
