"""The voxel world as a gymnasium environment."""

import math
from collections.abc import Mapping
from typing import Any

import gymnasium
import numpy as np

from envs.voxel import blocks, kernels, tasks, terrain, textures
from envs.voxel.look import Look
from envs.voxel.rules import standing, way_to
from envs.voxel.saved import checked_state
from envs.voxel.state import state, state_space
from foundation.errors import UserError, nearest

Observation = dict[str, Any]
_MAX_FRAME = 1024


class VoxelEnv(gymnasium.Env[Observation, dict[str, Any]]):
    """A task in the seeded voxel world: a stand-in for Minecraft with MineRL's spaces, 20 ticks a second.

    `frame_size` is the side of the pov in pixels; `episode_ticks` shortens the episode (default: MineRL's). An episode
    is terminated by what `rules` says, such as the 64th log, and truncated by its length. `palette`, `daylight` and `weather` change
    how worlds look, and nothing else: see `Look`. `info` tells what an agent must not see: position, view, where the nearest log
    or whatever the task's target is, and under `state` the numbers of `state_space`.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 20}

    def __init__(
        self,
        task: str = "VoxelTreechop-v0",
        frame_size: int = 64,
        episode_ticks: int | None = None,
        render_mode: str | None = None,
        palette: str = "default",
        daylight: float | str = "default",
        weather: str = "clear",
    ) -> None:
        if not isinstance(frame_size, int) or not 8 <= frame_size <= _MAX_FRAME:
            raise UserError(f"frame_size={frame_size}: must be a whole number of pixels from 8 to {_MAX_FRAME}")
        if episode_ticks is not None and (not isinstance(episode_ticks, int) or episode_ticks < 1):
            raise UserError(f"episode_ticks={episode_ticks}: must be a whole number of ticks, 1 or more")
        if render_mode not in (None, "rgb_array"):
            raise UserError(f"render_mode='{render_mode}': only 'rgb_array' is drawn")
        self.task = tasks.TASKS[task]
        self.look = Look(palette, daylight, weather)
        self.episode_ticks = self.task.ticks if episode_ticks is None else episode_ticks
        self.render_mode = render_mode
        self.frame_size = frame_size
        self.observation_space = tasks.observation_space(self.task, frame_size)
        self.action_space = tasks.action_space(self.task)
        self.state_space = state_space(self.task.things)
        self._known_keys = frozenset(self.action_space.keys())
        self._break_ticks = blocks.break_ticks(self.task.axe)
        self._keys = np.zeros(kernels.KEYS, np.int64)
        self._seen = np.empty(kernels.SEEN_SIZE)
        self._kinds = np.empty((0, 0), np.uint8)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Observation, dict[str, Any]]:
        """Make a new world (from `seed` when given) and return its first observation and info."""
        super().reset(seed=seed)
        world = terrain.generate(self.task.landscape, self.np_random)
        self._enter(world, standing(world.start, self.np_random.uniform(-180, 180)))
        self._ticks = 0
        kernels.aim(world.cells, self._player)
        return self._observe(), self._info()

    def step(self, action: Mapping[str, Any]) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Advance by one tick."""
        return self.step_ticks(action, 1)

    def step_ticks(self, action: Mapping[str, Any], ticks: int) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Repeat an action for up to `ticks` ticks, camera included; sum the rewards and draw the last tick only."""
        pitch, yaw = self._read(action)
        reward, terminated, truncated = 0.0, False, False
        for _ in range(ticks):
            gained, terminated = self._tick(pitch, yaw)
            reward += gained
            truncated = self._ticks >= self.episode_ticks and not terminated
            if terminated or truncated:
                break
        return self._observe(), reward, terminated, truncated, self._info()

    def render(self) -> np.ndarray:
        """Return the current frame, uint8 (H, W, 3)."""
        return self._frame.copy()

    def segmentation(self) -> np.ndarray:
        """Return what every pixel of the current frame shows, uint8 (H, W): numbers of `blocks`, `blocks.SKY` where it is no block."""
        if not self._kinds.size:
            # from now on every picture notes it: that costs little, and a second picture as much as the first
            self._kinds = np.empty((self.frame_size, self.frame_size), np.uint8)
            self._draw()
        return self._kinds.copy()

    def save_state(self) -> dict[str, np.ndarray]:
        """Return everything the future depends on, as arrays by name; give it to `restore_state` of the same task."""
        world = self._world
        return {
            "cells": world.cells.copy(),
            "top": world.top.copy(),
            "logs": world.logs.copy(),
            "sky": world.sky.copy(),
            "tint": world.tint.copy(),
            "start": world.start.copy(),
            "goal": np.empty(0) if world.goal is None else world.goal.copy(),
            "player": self._player.copy(),
            "ticks": np.array([self._ticks]),
            "random": _random_state(self.np_random),
            **({"places": world.places.copy()} if self.task.has_places else {}),
        }

    def restore_state(self, state: Mapping[str, np.ndarray]) -> tuple[Observation, dict[str, Any]]:
        """Go back to a saved state; return the observation and info of that moment.

        Raises `UserError` for a damaged one, and for one of another task: what is compiled does not look.
        """
        arrays = checked_state(state, self.task)
        goal = arrays["goal"] if self.task.has_goal else None
        fields = {name: arrays[name] for name in ("cells", "top", "logs", "sky", "tint", "start", "places") if name in arrays}
        self._enter(terrain.World(**fields, goal=goal), arrays["player"])
        self._ticks = int(arrays["ticks"][0])
        self.np_random = _random_from(arrays["random"])
        return self._observe(), self._info()

    def _enter(self, world: terrain.World, player: np.ndarray) -> None:
        self._world, self._player = world, player
        self._rules = self.task.rules(world, player)
        self._light = self.look.of(world)
        self._atlas = textures.tinted_atlas(self._light.tint)
        self._sky = self._light.sky.copy()

    def _read(self, action: Mapping[str, Any]) -> tuple[float, float]:
        """Put an action's keys into `_keys`; keys left out are not pressed. Return the camera's (pitch, yaw)."""
        if not action.keys() <= self._known_keys:
            unknown = next(key for key in action if key not in self._known_keys)
            raise UserError(f"unknown action '{unknown}': {nearest(unknown, self._known_keys)}")
        get, keys = action.get, self._keys
        keys[kernels.FORWARD] = int(get("forward", 0)) - int(get("back", 0))
        keys[kernels.STRAFE] = int(get("right", 0)) - int(get("left", 0))
        keys[kernels.JUMP] = int(get("jump", 0))
        keys[kernels.SNEAK] = int(get("sneak", 0))
        keys[kernels.SPRINT] = int(get("sprint", 0))
        keys[kernels.ATTACK] = int(get("attack", 0))
        keys[kernels.PLACE] = tasks.place_choice(get("place", "none"))
        pitch, yaw = get("camera", (0.0, 0.0))
        pitch, yaw = float(pitch), float(yaw)
        if not math.isfinite(pitch + yaw):
            raise UserError(f"camera=({pitch}, {yaw}): must be two finite numbers of degrees")
        return pitch, yaw

    def _tick(self, pitch: float, yaw: float) -> tuple[float, bool]:
        """Advance one tick; return the reward and whether the task is done."""
        world = self._world
        broken = kernels.tick(world.cells, world.top, self._player, self._break_ticks, self._keys, pitch, yaw)
        self._ticks += 1
        return self._rules.after_tick(broken, self._ticks)

    def _away(self, place: np.ndarray) -> tuple[float, float, float]:
        return way_to(place, self._player, self._world.size)

    def _draw(self) -> np.ndarray:
        """Return a new picture; notice the nearest target in it, and what its pixels show once that was asked for."""
        world, light, sky = self._world, self._light, self._sky
        frame = np.empty((self.frame_size, self.frame_size, 3), np.uint8)
        sky[kernels.DRIFT] = light.sky[kernels.DRIFT] + 0.05 * self._ticks
        kernels.render(
            world.cells,
            world.top,
            self._player,
            self._atlas,
            textures.tile_table(),
            textures.cracks(),
            light.clouds,
            sky,
            frame,
            self._kinds,
            *self._rules.target_kinds,
            light.sight,
            self._seen,
        )
        if light.rains and not self._under_a_roof():
            kernels.rain(frame, self._ticks, sky[kernels.DAYLIGHT])
        return frame

    def _under_a_roof(self) -> bool:
        x, y, z = (math.floor(value) for value in self._player[kernels.X : kernels.Z + 1].tolist())
        mask = self._world.size - 1
        return bool(self._world.top[x & mask, z & mask] > y + 1)

    def _observe(self) -> Observation:
        player, world, frame = self._player, self._world, self._draw()
        self._frame = frame
        if world.goal is None or not self.task.has_compass:
            return {"pov": frame}
        angle = np.array(self._bearing(self._away(world.goal)), np.float32)
        return {"pov": frame, "compass": {"angle": angle}, "inventory": {"dirt": np.array(int(player[kernels.DIRT_HELD]))}}

    def _bearing(self, away: tuple[float, float, float]) -> float:
        """Return the angle from the view to a place, in degrees, positive to the right."""
        towards = math.degrees(math.atan2(-away[0], away[2]))
        return (towards - float(self._player[kernels.YAW]) + 180.0) % 360.0 - 180.0

    def _info(self) -> dict[str, Any]:
        player, target = self._player.tolist(), self._rules.target()
        away = (math.inf, 0.0, 0.0) if target is None else self._away(target)
        seen = None if math.isinf(self._seen[kernels.SEEN_DISTANCE]) else self._away(self._seen[kernels.SEEN_X :] + 0.5)
        x, y, z = player[kernels.X : kernels.Z + 1]
        eye = np.array((x, y + kernels.EYE, z))
        bearing = 0.0 if target is None else self._bearing(away)
        aimed = blocks.NAMES[int(player[kernels.AIM_BLOCK])], player[kernels.AIM_DISTANCE]
        return {
            "position": np.array((x, y, z)),
            "yaw": player[kernels.YAW],
            "pitch": player[kernels.PITCH],
            "on_ground": bool(player[kernels.ON_GROUND]),
            "target_distance": math.hypot(*away),
            "target_bearing": bearing,
            "target_position": eye + away,
            "seen_distance": math.inf if seen is None else math.hypot(*seen),
            "seen_bearing": 0.0 if seen is None else self._bearing(seen),
            "seen_position": np.full(3, math.inf) if seen is None else eye + seen,
            "aimed_block": aimed[0],
            "aimed_distance": aimed[1],
            "logs": int(player[kernels.LOGS]),
            "dirt": int(player[kernels.DIRT_HELD]),
            "ticks": self._ticks,
            "state": state(None if target is None else away, bearing, player[kernels.PITCH], aimed, self.task.things),
        }


def _random_state(random: np.random.Generator) -> np.ndarray:
    """Return a PCG64 generator's state as uint64 (6,): state and increment as halves, and the spare 32 bits."""
    state: Any = random.bit_generator.state
    low = (1 << 64) - 1
    numbers = (state["state"]["state"], state["state"]["inc"])
    halves = [half for number in numbers for half in (number >> 64, number & low)]
    return np.array([*halves, state["has_uint32"], state["uinteger"]], np.uint64)


def _random_from(halves: np.ndarray) -> np.random.Generator:
    """Rebuild the generator that `_random_state` described."""
    a, b, c, d, has, spare = (int(half) for half in halves)
    bits = np.random.PCG64()
    bits.state = {"bit_generator": "PCG64", "state": {"state": a << 64 | b, "inc": c << 64 | d}, "has_uint32": has, "uinteger": spare}
    return np.random.Generator(bits)
