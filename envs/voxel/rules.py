"""What each voxel task pays, when it is done, and what its player looks for."""

import math

import numpy as np

from envs.voxel import blocks, kernels
from envs.voxel.terrain import World

LOGS_TO_WIN = 64
GOAL_REWARD = 100.0
CAVE_REWARD = 10.0
RIGHT_REWARD, WRONG_REWARD = 10.0, -2.0
"""Of three beacons: who guesses gets 2 on average."""
CUE_TICKS = 40
"""For which the walls that tell the colour stand."""
_MOUTH = 3.5
"""Blocks from a cave's mouth from which on its inside is the target."""


def way_to(place: np.ndarray, player: np.ndarray, size: int) -> tuple[float, float, float]:
    """Return how far a place lies from the eye (x, y, z), by the shortest way around a torus of `size`."""
    half = size / 2
    x, y, z = player[kernels.X : kernels.Z + 1].tolist()
    to_x, to_y, to_z = place.tolist()
    return (to_x - x + half) % size - half, to_y - y - kernels.EYE, (to_z - z + half) % size - half


def standing(place: np.ndarray, yaw: float) -> np.ndarray:
    """Return a player who stands at a place and looks level, at rest: a vector of `kernels`."""
    player = np.zeros(kernels.PLAYER_SIZE)
    player[[kernels.X, kernels.Y, kernels.Z]] = place
    player[kernels.YAW] = yaw
    player[kernels.ON_GROUND] = 1
    player[kernels.VY] = -kernels.GRAVITY * kernels.DRAG  # so that the first tick can jump
    return player


class Rules:
    """A task at play in one world; `world` and `player` are the environment's own."""

    target_kinds: tuple[int, int]
    """The kinds of block that are the target where a pixel shows them."""

    def __init__(self, world: World, player: np.ndarray) -> None:
        self.world, self.player = world, player

    def after_tick(self, broken: int, ticks: int) -> tuple[float, bool]:
        """Return the reward of tick number `ticks` and whether the task is done; `broken` is the kind of block that broke, 0 for none."""
        raise NotImplementedError

    def target(self) -> np.ndarray | None:
        """Return the centre of what the player looks for (x, y, z), None where none is left."""
        raise NotImplementedError

    def _nearest(self, places: np.ndarray) -> int:
        return kernels.nearest_block(self.world.cells, places, self.player)


class Chop(Rules):
    """Treechop: 1 for each log, until there are 64."""

    target_kinds = (blocks.OAK_LOG, blocks.BIRCH_LOG)

    def after_tick(self, broken: int, ticks: int) -> tuple[float, bool]:
        return float(broken in self.target_kinds), bool(self.player[kernels.LOGS] >= LOGS_TO_WIN)

    def target(self) -> np.ndarray | None:
        row = self._nearest(self.world.logs)
        return None if row < 0 else self.world.logs[row] + 0.5


class Reach(Rules):
    """Navigate: 100 for touching the diamond block."""

    target_kinds = (blocks.DIAMOND, blocks.DIAMOND)

    def after_tick(self, broken: int, ticks: int) -> tuple[float, bool]:
        touched = bool(self.player[kernels.TOUCHED])
        return GOAL_REWARD if touched else 0.0, touched

    def target(self) -> np.ndarray | None:
        return self.world.goal


class ReachDense(Reach):
    """NavigateDense: also 1 for each block nearer to the goal, over the ground."""

    def __init__(self, world: World, player: np.ndarray) -> None:
        super().__init__(world, player)
        self._away = self._distance()

    def after_tick(self, broken: int, ticks: int) -> tuple[float, bool]:
        reward, touched = super().after_tick(broken, ticks)
        away, self._away = self._away, self._distance()
        return reward + (away - self._away), touched

    def _distance(self) -> float:
        assert self.world.goal is not None
        x, _, z = way_to(self.world.goal, self.player, self.world.size)
        return math.hypot(x, z)


class Forage(Rules):
    """1 for each flower that is touched or broken, -1 for each mushroom."""

    target_kinds = (blocks.FLOWER, blocks.FLOWER)

    def after_tick(self, broken: int, ticks: int) -> tuple[float, bool]:
        touched = kernels.pick_plants(self.world.cells, self.world.top, self.player)
        return float(touched + (broken == blocks.FLOWER) - (broken == blocks.MUSHROOM)), False

    def target(self) -> np.ndarray | None:
        row = self._nearest(self.world.places)
        return None if row < 0 else self.world.places[row] + 0.5


class EnterCave(Rules):
    """10 for standing inside a cave: on its dark floor, under a roof. `world.places` holds the floors of mouth and inside in turn."""

    target_kinds = (blocks.CAVE_DARK, blocks.CAVE_DARK)

    def __init__(self, world: World, player: np.ndarray) -> None:
        super().__init__(world, player)
        self._mouths = np.ascontiguousarray(world.places[::2])

    def after_tick(self, broken: int, ticks: int) -> tuple[float, bool]:
        inside = bool(self.player[kernels.ON_GROUND]) and self._floor() == blocks.CAVE_DARK
        return CAVE_REWARD if inside else 0.0, inside

    def target(self) -> np.ndarray | None:
        row = self._nearest(self._mouths)
        if row < 0:
            return None
        mouth, inside = (self.world.places[2 * row + part] + (0.5, 1.5, 0.5) for part in (0, 1))
        entered = self._floor() in (blocks.CAVE_DIM, blocks.CAVE_DARK)
        return inside if entered or math.hypot(*way_to(mouth, self.player, self.world.size)) < _MOUTH else mouth

    def _floor(self) -> int:
        """Return the kind of block under the feet where there is a roof above, else 0."""
        x, y, z = (math.floor(value) for value in self.player[kernels.X : kernels.Z + 1].tolist())
        mask = self.world.size - 1
        x, z = x & mask, z & mask
        return int(self.world.cells[x, z, y - 1]) if y > 0 and self.world.top[x, z] > y + 1 else 0


class Recall(Rules):
    """Walls of a colour stand around the start for two seconds; then 10 for touching the beacon of that colour, -2 for another.

    When the walls fall, the player is back where it began and looks south: neither the world nor the body keeps the colour.
    """

    def __init__(self, world: World, player: np.ndarray) -> None:
        super().__init__(world, player)
        assert world.goal is not None
        x, y, z = world.goal.astype(int)
        self._colour = int(world.cells[x, z, y])
        self.target_kinds = (self._colour, self._colour)

    def after_tick(self, broken: int, ticks: int) -> tuple[float, bool]:
        if ticks <= CUE_TICKS:
            # hands do nothing yet: a hole in the ground would keep the colour
            self.player[kernels.PROGRESS] = 0.0
            if ticks == CUE_TICKS:
                self._begin()
            return 0.0, False
        touched = kernels.touched_block(self.world.cells, self.player, min(blocks.BEACONS), max(blocks.BEACONS))
        reward = RIGHT_REWARD if touched == self._colour else WRONG_REWARD
        return (reward if touched else 0.0), touched != 0

    def target(self) -> np.ndarray | None:
        return self.world.goal

    def _begin(self) -> None:
        self.world.lower_walls()
        self.player[:] = standing(self.world.start, 0.0)
        kernels.aim(self.world.cells, self.player)
