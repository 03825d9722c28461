"""The voxel tasks: MineRL 0.4.4's spaces on our own worlds; Treechop's and Navigate's rewards and episode ends as well."""

from dataclasses import dataclass

import numpy as np
from gymnasium import spaces

from envs.minerl.spaces import Enum
from envs.voxel import rules, terrain
from foundation.errors import UserError, nearest

MOVES = ("attack", "back", "forward", "jump", "left", "right", "sneak", "sprint")
PLACE_CHOICES = ("dirt", "none")
"""MineRL's enum in its sorted order: dirt = 0, none = 1."""


@dataclass(frozen=True)
class Task:
    """One task: its worlds, its rules, its length in ticks, whether the player holds an iron axe.

    `things` names the kinds of block that this task's worlds have beside those of all: what `state` tells apart on the crosshair.
    """

    name: str
    landscape: terrain.Landscape
    rules: type[rules.Rules]
    ticks: int
    axe: bool = False
    things: tuple[str, ...] = ()

    @property
    def has_compass(self) -> bool:
        return self.landscape.goal_distance is not None

    @property
    def has_goal(self) -> bool:
        return self.has_compass or self.landscape.beacon_distance is not None

    @property
    def has_places(self) -> bool:
        return self.landscape.caves + self.landscape.plants > 0


TASKS = {
    task.name: task
    for task in (
        Task("VoxelTreechop-v0", terrain.FOREST, rules.Chop, ticks=8000, axe=True),
        Task("VoxelNavigate-v0", terrain.HILLS, rules.Reach, ticks=6000),
        Task("VoxelNavigateDense-v0", terrain.HILLS, rules.ReachDense, ticks=6000),
        Task("VoxelForage-v0", terrain.GARDEN, rules.Forage, ticks=4000, things=("flower", "mushroom")),
        Task("VoxelFindCave-v0", terrain.CLIFFS, rules.EnterCave, ticks=3600, things=("cave",)),
        Task("VoxelRecall-v0", terrain.MEADOW, rules.Recall, ticks=600, things=("blue", "red", "yellow")),
    )
}


def observation_space(task: Task, frame_size: int) -> spaces.Dict:
    """Return MineRL's observation space of the task, with a pov of `frame_size` squared."""
    entries: dict[str, spaces.Space] = {"pov": spaces.Box(0, 255, (frame_size, frame_size, 3), np.uint8)}
    if task.has_compass:
        entries["compass"] = spaces.Dict({"angle": spaces.Box(-180.0, 180.0, (), np.float32)})
        entries["inventory"] = spaces.Dict({"dirt": spaces.Box(0, 2304, (), np.int64)})
    return spaces.Dict(entries)


def action_space(task: Task) -> spaces.Dict:
    """Return MineRL's action space of the task; `camera` is (pitch, yaw) in degrees a step."""
    entries: dict[str, spaces.Space] = {move: spaces.Discrete(2) for move in MOVES}
    entries["camera"] = spaces.Box(-180.0, 180.0, (2,), np.float32)
    if task.has_compass:
        entries["place"] = Enum(list(PLACE_CHOICES), default="none")
    return spaces.Dict(entries)


def place_choice(value: object) -> bool:
    """Read a `place` action, a number or MineRL's word for it: does it place dirt?"""
    if isinstance(value, str):
        if value not in PLACE_CHOICES:
            raise UserError(f"place='{value}': {nearest(value, PLACE_CHOICES)}")
        return value == "dirt"
    return int(value) == PLACE_CHOICES.index("dirt")  # type: ignore[call-overload]
