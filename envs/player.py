"""Scripted players for the voxel tasks, who wander as people do: one knows where the target is, the other has to see it."""

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from foundation.errors import UserError, nearest

_EYE = 1.62
_REACH = 4.3
_TURN = 12.0
"""Degrees a tick that the player turns at most."""
_OVERHEAD = -80.0
"""The pitch at which the block over the head is dug."""


@dataclass(frozen=True)
class _Manner:
    """How a task is played: by hand at trunks, with a key to place dirt, for one target after another; the pitch in degrees and the
    ticks without getting nearer that suit it; the pitches at which a way is dug in turn, and whether what a jump knocks against is dug
    before that: who is patient for longer finds a way around."""

    chops: bool = False
    places: bool = False
    gathers: bool = False
    pitch: float = 5.0
    patience: int = 160
    digs: tuple[float, ...] = (35.0, 0.0)
    clears: bool = False


_MANNERS = {
    "VoxelTreechop-v0": _Manner(chops=True, pitch=10.0, patience=90),
    "VoxelNavigate-v0": _Manner(places=True),
    "VoxelNavigateDense-v0": _Manner(places=True),
    "VoxelForage-v0": _Manner(gathers=True, pitch=12.0, patience=60, digs=(35.0, -35.0, 0.0), clears=True),
    "VoxelFindCave-v0": _Manner(),
    "VoxelRecall-v0": _Manner(),
}


class Player(Protocol):
    """Someone who plays one environment, one tick at a time."""

    def reset(self, seed: int) -> None:
        """Start an episode; the same seed and observations give the same actions."""

    def __call__(self, observation: dict[str, Any], info: dict[str, Any]) -> dict[str, Any]:
        """Return the action for the next tick."""


def scripted_player(name: str, noise: float = 0.2, seed: int = 0, *, sees: bool = False) -> Player:
    """Make a player for a voxel task that heads for the target in `info`.

    `noise` in [0, 1] is the time spent on something else, by the time spent heading there (1: half of all ticks): looking
    about, at the sky or the ground, strolling, jumping, hacking at what is in front. With `sees` the target is the nearest one in the
    picture, and where there is none the player looks around and walks on. Raises `UserError` for another task.
    """
    if not has_scripted_player(name):
        raise UserError(f"no scripted player for '{name}': {nearest(name, _MANNERS)}")
    if not 0 <= noise <= 1:
        raise UserError(f"noise={noise}: must be from 0 to 1")
    player = (SeeingPlayer if sees else ScriptedPlayer)(_MANNERS[name], noise)
    player.reset(seed)
    return player


def has_scripted_player(name: str) -> bool:
    """Say whether an environment has a scripted player."""
    return name in _MANNERS


class ScriptedPlayer:
    """Walks to the target, digs through what it gets stuck at, chops logs; interrupted by whims."""

    def __init__(self, manner: _Manner, noise: float) -> None:
        self.manner = manner
        self.noise = noise

    def reset(self, seed: int) -> None:
        self._random = np.random.default_rng(seed)
        self._whim: dict[str, Any] = {}
        self._whim_left = 0
        self._detour_left = 0
        self._detour_turn = 0.0
        self._stuck = 0
        self._ground, self._risen = 0.0, 0.0
        self._near = 0
        self._last_position: np.ndarray | None = None
        self._best = np.inf
        self._since_best = 0
        self._last_target: np.ndarray | None = None

    def __call__(self, observation: dict[str, Any], info: dict[str, Any]) -> dict[str, Any]:
        self._notice_progress(info)
        if self._whim_left == 0 and self._random.random() < self.noise / 25:
            self._whim, self._whim_left = self._new_whim(), int(self._random.integers(8, 43))
        if self._whim_left > 0:
            self._whim_left -= 1
            return self._follow_whim(info)
        return self._work(info)

    def _notice_progress(self, info: dict[str, Any]) -> None:
        """Count the ticks without movement, and those without getting nearer to the target."""
        moved = np.inf if self._last_position is None else float(np.hypot(*(info["position"] - self._last_position)[[0, 2]]))
        self._last_position = info["position"]
        self._stuck = self._stuck + 1 if moved < 0.03 else 0
        height = float(info["position"][1])
        self._ground = min(self._ground, height) if self._stuck else height
        self._risen = max(self._risen, height - self._ground) if self._stuck else 0.0
        target, last = info["target_position"], self._last_target
        self._last_target = target
        # where one is gathered after another, the next one is no nearer for a while. Its block is compared: the middle of the block, told
        # by way of the eye, is off by a hair from tick to tick
        new = self.manner.gathers and last is not None and not np.array_equal(np.floor(target), np.floor(last))
        if new or info["target_distance"] < self._best - 0.3 or info["target_distance"] > self._best + 6:
            self._best, self._since_best = info["target_distance"], 0
        self._since_best += 1

    def _work(self, info: dict[str, Any]) -> dict[str, Any]:
        if not np.isfinite(info["target_distance"]):
            return self._action(camera=(0.0, 3.0))
        if self._since_best > self.manner.patience and self._detour_left == 0:
            self._detour_left, self._since_best = int(self._random.integers(15, 45)), 0
            self._detour_turn = float(self._random.choice([-1, 1]) * self._random.uniform(50, 120))
            self._best = np.inf
        if self._detour_left > 0:
            self._detour_left -= 1
            return self._walk(info, info["target_bearing"] + self._detour_turn, pitch=15.0)
        if self.manner.chops and info["target_distance"] < _REACH + 0.3:
            return self._chop(info)
        return self._walk(info, info["target_bearing"], pitch=self.manner.pitch)

    def _chop(self, info: dict[str, Any]) -> dict[str, Any]:
        """Face the log and hack at whatever is on the crosshair; close in while it is out of reach."""
        pitch = self._pitch_to(info)
        turn = self._turn(info["target_bearing"], pitch - info["pitch"])
        facing = abs(info["target_bearing"]) < 8 and abs(pitch - info["pitch"]) < 8
        closing = info["target_distance"] > 2.6 and self._ground_distance(info) > 0.7
        blocked = closing and self._stuck > 6
        return self._action(camera=turn, attack=facing, forward=closing, jump=blocked and self._stuck % 12 < 4)

    def _walk(self, info: dict[str, Any], bearing: float, pitch: float) -> dict[str, Any]:
        """Walk in a direction; jump at what is in the way, and dig when that does not help."""
        digs = self._digs()
        dig = digs[self._stuck // 40 % len(digs)]
        # on the way up the crosshair passes air
        digging = self._stuck > 14 and (info["aimed_block"] != "air" or dig == _OVERHEAD)
        if digging:
            pitch = dig
        turn = self._turn(bearing, pitch - info["pitch"] + self._random.normal(0, 1.0))
        forward = abs(bearing) < 60
        jump = 2 < self._stuck < 200 and not (digging and self._stuck % 30 < 22)
        sprint = not self.manner.chops and abs(bearing) < 20
        return self._action(camera=turn, forward=forward, jump=jump, sprint=sprint, attack=digging)

    def _digs(self) -> tuple[float, ...]:
        """Return the pitches to dig at in turn: down at the feet and back up, so that a wall two blocks high is opened."""
        # a jump that does not come up to the next block knocks against something
        knocks = self.manner.clears and self._risen < 1.0
        return (_OVERHEAD, *self.manner.digs) if knocks else self.manner.digs

    def _turn(self, bearing: float, elevation: float) -> tuple[float, float]:
        """Turn part of the way, as a hand on a mouse does."""
        bearing = (bearing + 180) % 360 - 180
        return float(np.clip(0.5 * elevation, -_TURN, _TURN)), float(np.clip(0.5 * bearing, -_TURN, _TURN))

    def _pitch_to(self, info: dict[str, Any]) -> float:
        rise = info["target_position"][1] - info["position"][1] - _EYE
        return float(-np.degrees(np.arctan2(rise, max(self._ground_distance(info), 0.05))))

    def _ground_distance(self, info: dict[str, Any]) -> float:
        return float(np.hypot(*(info["target_position"] - info["position"])[[0, 2]]))

    def _new_whim(self) -> dict[str, Any]:
        """Choose what to do for a while: keys to hold, a turning rate, a pitch to look at."""
        random = self._random
        kind = random.choice(["look", "sky", "ground", "stroll", "jump", "hack", "turn"])
        pitch = {"sky": random.uniform(-85, -25), "ground": random.uniform(30, 85)}.get(kind, random.normal(0, 18))
        rate = random.normal(0, 7) if kind in ("turn", "look") else random.normal(0, 2)
        keys = {
            "stroll": {random.choice(["forward", "back", "left", "right"]): 1, "forward": int(random.random() < 0.7)},
            "jump": {"jump": 1, "forward": 1, "sprint": int(random.random() < 0.4)},
            "hack": {"attack": 1, "forward": int(random.random() < 0.5)},
            "turn": {"forward": int(random.random() < 0.4)},
        }.get(kind, {"attack": int(random.random() < 0.25), "sneak": int(random.random() < 0.15)})
        return {"pitch": pitch, "rate": rate, "keys": keys}

    def _follow_whim(self, info: dict[str, Any]) -> dict[str, Any]:
        pitch = float(np.clip(0.25 * (self._whim["pitch"] - info["pitch"]), -_TURN, _TURN))
        return self._action(camera=(pitch, self._whim["rate"] + self._random.normal(0, 1)), **self._whim["keys"])

    def _action(self, camera: tuple[float, float], **keys: Any) -> dict[str, Any]:
        names = ("attack", "back", "forward", "jump", "left", "right", "sneak", "sprint")
        action: dict[str, Any] = {name: int(keys.get(name, 0)) for name in names}
        action["camera"] = np.array(camera, np.float32)
        return {**action, "place": 1} if self.manner.places else action


class SeeingPlayer(ScriptedPlayer):
    """Acts as the scripted player does, but only on a target that the picture shows; Navigate's compass it reads as anybody can.

    Where it sees none, it looks up and about, then walks on, in turn. What `info` tells of a hidden target makes no difference to it.
    """

    name = "seeing"

    def reset(self, seed: int) -> None:
        super().reset(seed)
        self._looks, self._left = False, 0
        self._rate, self._level = 0.0, 0.0
        self._saw = False

    def __call__(self, observation: dict[str, Any], info: dict[str, Any]) -> dict[str, Any]:
        seen = {f"target_{what}": info[f"seen_{what}"] for what in ("distance", "bearing", "position")}
        self._compass = float(observation["compass"]["angle"]) if "compass" in observation else None
        return super().__call__(observation, {**info, **seen})

    def _work(self, info: dict[str, Any]) -> dict[str, Any]:
        if np.isfinite(info["target_distance"]):
            self._saw, self._left = True, 0
            return super()._work(info)
        if self._detour_left > 0:
            self._detour_left -= 1
            return self._walk(info, 0.0, pitch=15.0)
        if self._compass is not None:
            return self._walk(info, self._compass, pitch=5.0)
        return self._search(info)

    def _walk(self, info: dict[str, Any], bearing: float, pitch: float) -> dict[str, Any]:
        """Walk as the scripted player does, and keep a target that is seen within the picture."""
        if np.isfinite(info["target_distance"]):
            centre = self._pitch_to(info)
            pitch = float(np.clip(pitch, centre - 25, centre + 25))
        return super()._walk(info, bearing, pitch)

    def _digs(self) -> tuple[float, ...]:
        # who looks up loses sight of the target, and would begin to search
        return self.manner.digs

    def _search(self, info: dict[str, Any]) -> dict[str, Any]:
        """Look about where it stands, or walk on, until that has lasted long enough and the other begins."""
        if self._left == 0 or (not self._looks and self._stuck > 40):
            self._begin_search()
        self._left -= 1
        if not self._looks:
            return self._walk(info, self._rate + self._random.normal(0, 2), pitch=self._level)
        pitch, _ = self._turn(0.0, self._level - info["pitch"])
        # what was in view a moment ago may be behind these
        hacks = info["aimed_block"] == "leaves" and info["aimed_distance"] < 1.5
        return self._action(camera=(pitch, self._rate + self._random.normal(0, 1)), attack=hacks)

    def _begin_search(self) -> None:
        random = self._random
        self._looks, self._stuck = not self._looks or self._saw, 0
        side = random.choice([-1, 1])
        if self._saw and self.manner.chops:
            # what it has just worked at is often above: the next log of a trunk
            self._saw, self._left, self._rate, self._level = False, 12, 0.0, random.uniform(-55, -35)
        elif self._looks:
            self._saw, self._left, self._rate = False, int(random.integers(15, 50)), side * random.uniform(5, 10)
            self._level = random.uniform(-20, 12)
        else:
            self._left, self._rate, self._level = int(random.integers(25, 90)), side * random.uniform(0, 5), random.uniform(0, 15)
