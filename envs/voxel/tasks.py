"""The voxel tasks: MineRL 0.4.4's spaces, rewards and episode ends on our own worlds."""

from dataclasses import dataclass

import numpy as np
from gymnasium import spaces

from envs.minerl.spaces import Enum
from envs.voxel import terrain
from foundation.errors import UserError, nearest

MOVES = ("attack", "back", "forward", "jump", "left", "right", "sneak", "sprint")
PLACE_CHOICES = ("dirt", "none")
"""MineRL's enum in its sorted order: dirt = 0, none = 1."""
LOGS_TO_WIN = 64
GOAL_REWARD = 100.0


@dataclass(frozen=True)
class Task:
    """One task: its worlds, its length in ticks, whether the player holds an iron axe, and whether progress pays."""

    name: str
    landscape: terrain.Landscape
    ticks: int
    axe: bool
    dense: bool = False

    @property
    def has_goal(self) -> bool:
        return self.landscape.goal_distance is not None


TASKS = {
    task.name: task
    for task in (
        Task("VoxelTreechop-v0", terrain.FOREST, ticks=8000, axe=True),
        Task("VoxelNavigate-v0", terrain.HILLS, ticks=6000, axe=False),
        Task("VoxelNavigateDense-v0", terrain.HILLS, ticks=6000, axe=False, dense=True),
    )
}


def observation_space(task: Task, frame_size: int) -> spaces.Dict:
    """Return MineRL's observation space of the task, with a pov of `frame_size` squared."""
    entries: dict[str, spaces.Space] = {"pov": spaces.Box(0, 255, (frame_size, frame_size, 3), np.uint8)}
    if task.has_goal:
        entries["compass"] = spaces.Dict({"angle": spaces.Box(-180.0, 180.0, (), np.float32)})
        entries["inventory"] = spaces.Dict({"dirt": spaces.Box(0, 2304, (), np.int64)})
    return spaces.Dict(entries)


def action_space(task: Task) -> spaces.Dict:
    """Return MineRL's action space of the task; `camera` is (pitch, yaw) in degrees a step."""
    entries: dict[str, spaces.Space] = {move: spaces.Discrete(2) for move in MOVES}
    entries["camera"] = spaces.Box(-180.0, 180.0, (2,), np.float32)
    if task.has_goal:
        entries["place"] = Enum(list(PLACE_CHOICES), default="none")
    return spaces.Dict(entries)


def place_choice(value: object) -> bool:
    """Read a `place` action, a number or MineRL's word for it: does it place dirt?"""
    if isinstance(value, str):
        if value not in PLACE_CHOICES:
            raise UserError(f"place='{value}': {nearest(value, PLACE_CHOICES)}")
        return value == "dirt"
    return int(value) == PLACE_CHOICES.index("dirt")  # type: ignore[call-overload]
