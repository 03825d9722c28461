"""MineRL's action dictionary, and what every wrapper that fills it in shares: keys by name, a held attack, a limited pitch."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, SupportsFloat

import gymnasium
import numpy as np
from gymnasium import spaces

from foundation.arrays import Kind, checked_arrays
from foundation.errors import UserError, nearest
from foundation.minerl import acts_like_minerl, words_of

STEEPEST = 90.0
"""Degrees up and down at which the game itself stops a turn."""
# limits above STEEPEST were counted up to once, and their checkpoints go on
_SAVED = {"pitch": Kind(np.float64, (1,), -180, 180), "attack_left": Kind(np.int64, (1,), -(2**53), 2**53)}

# (pitch, yaw) in MineRL's signs: down and right are positive
CAMERA_TURNS = {"camera_left": (0, -1), "camera_right": (0, 1), "camera_up": (-1, 0), "camera_down": (1, 0)}

# Keys are pressed together when joined by "+"; of alternatives parted by "|" the first counts that the environment has. Camera turns:
# camera_left, camera_right, camera_up, camera_down. A key that takes a word is named with it: place_dirt.
ACTION_LISTS: dict[str, tuple[str, ...]] = {
    "treechop": (
        "attack",
        "forward",
        "forward+jump",
        "forward+attack",
        *CAMERA_TURNS,
    ),
    "navigate": (
        "forward+sprint",
        "forward+jump+sprint",
        "attack",
        "forward+attack",
        *CAMERA_TURNS,
    ),
    "walk": (
        "forward+sprint",
        "forward+jump+sprint",
        "camera_left",
        "camera_right",
    ),
    "navigate_place": (
        "forward+sprint",
        "forward+jump+sprint",
        "forward+attack",
        "jump+place_dirt",
        *CAMERA_TURNS,
    ),
    "obtain": (
        "attack",
        "forward",
        "forward+jump",
        "forward+attack",
        *CAMERA_TURNS,
        "craft_planks",
        "craft_stick",
        "craft_crafting_table",
        "craft_torch",
        "place_crafting_table",
        "nearbyCraft_wooden_pickaxe",
        "equip_wooden_pickaxe",
        "nearbyCraft_stone_pickaxe",
        "equip_stone_pickaxe",
        "nearbyCraft_furnace",
        "place_furnace",
        "nearbySmelt_iron_ingot",
        "nearbyCraft_iron_pickaxe",
        "equip_iron_pickaxe",
        "jump+place_dirt",
    ),
    "find_cave": (
        "forward",
        "forward+jump",
        "forward+sprint",
        "attack",
        *CAMERA_TURNS,
        "ESC|equip_snowball+use",
    ),
}

WORD_KEYS = ("place", "equip", "craft", "nearbyCraft", "nearbySmelt")
"""Keys of MineRL's dictionary that take a word, of which one means nothing."""


class CameraActions(gymnasium.ActionWrapper):
    """Base of the wrappers that take another action in place of MineRL's dictionary.

    `actions` names a list of `ACTION_LISTS` or gives one: strings such as `"forward+jump"` or `"camera_left+attack"`. A camera turn
    is `camera_degrees` a step. An attack is held for `sticky_attack` further steps, as mining needs several ticks on one block. The
    pitch stays within +-`pitch_limit` degrees, or 90 where that is more. It is what the environment tells of its view in
    `info["pitch"]`, in degrees and positive downwards; where it tells none, the turns are counted from the level view of a reset.
    """

    def __init__(
        self,
        env: gymnasium.Env,
        actions: str | Sequence[str] = "treechop",
        camera_degrees: float = 15.0,
        sticky_attack: int = 0,
        pitch_limit: float = 60.0,
    ) -> None:
        super().__init__(env)
        self.dictionary = dictionary_of(env)
        self.camera_degrees = camera_degrees
        self.sticky_attack = sticky_attack
        self.pitch_limit = min(pitch_limit, STEEPEST)
        self._pitch = 0.0
        self._attack_left = 0
        self.action_space = self.take_list(named_list(actions))
        self.acted_words = _acted_words(named_list(actions), self.dictionary)
        """The words that each key of words may get, doing nothing among them."""

    @abstractmethod
    def take_list(self, names: tuple[str, ...]) -> spaces.Space:
        """Get ready for a list of actions, and return the space of those taken in their place; raise `UserError` for an unknown name."""

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        self._pitch = 0.0
        self._attack_left = 0
        observation, info = self.env.reset(seed=seed, options=options)
        self._look(info)
        return observation, info

    def step(self, action: Any) -> tuple[Any, SupportsFloat, bool, bool, dict[str, Any]]:
        observation, reward, terminated, truncated, info = super().step(action)
        self._look(info)
        return observation, reward, terminated, truncated, info

    def _look(self, info: dict[str, Any]) -> None:
        # a count of its own would go on across a jump of the view: a memory that no picture shows
        self._pitch = float(info.get("pitch", self._pitch))

    def held_and_limited(self, chosen: dict[str, Any]) -> dict[str, Any]:
        """Return the dictionary to step with: the attack held, the turn up or down cut off at the limit."""
        # copied: an environment may change what it is given
        chosen = {key: np.array(value) if isinstance(value, np.ndarray) else value for key, value in chosen.items()}
        self._attack_left = self.sticky_attack if chosen["attack"] else self._attack_left - 1
        if self._attack_left >= 0 and self.sticky_attack:
            chosen["attack"] = 1
        pitch, yaw = chosen["camera"]
        limited = self.limited(pitch)
        chosen["camera"] = np.array([limited - self._pitch, yaw], np.float32)
        self._pitch = limited
        return chosen

    def limited(self, pitch: float) -> float:
        """Return the pitch that a turn by `pitch` degrees leads to, within the limit."""
        return float(np.clip(self._pitch + pitch, -self.pitch_limit, self.pitch_limit))

    def save_state(self) -> dict[str, np.ndarray]:
        """Return what the wrapper remembers of the episode, beside the environment's own state."""
        return {"pitch": np.float64(self._pitch).reshape(1), "attack_left": np.int64(self._attack_left).reshape(1)}

    def restore_state(self, state: dict[str, np.ndarray]) -> None:
        """Go on from what `save_state` returned."""
        arrays = checked_arrays(state, _SAVED, "the saved state of the actions is damaged")
        self._pitch = float(np.clip(arrays["pitch"][0], -STEEPEST, STEEPEST))
        self._attack_left = int(arrays["attack_left"][0])


def dictionary_of(env: gymnasium.Env) -> spaces.Dict:
    """Return MineRL's action dictionary, a camera and an attack among its keys; raise `UserError` for other actions."""
    if not acts_like_minerl(env.action_space, "attack"):
        raise UserError(f"lists of actions need MineRL's action dictionary; this environment's actions are {env.action_space}")
    return env.action_space


def named_list(actions: str | Sequence[str]) -> tuple[str, ...]:
    """Return a list of `ACTION_LISTS` by name, or the list that was given."""
    if isinstance(actions, str):
        if actions not in ACTION_LISTS:
            raise UserError(f"no action list '{actions}': {nearest(actions, ACTION_LISTS)}")
        return ACTION_LISTS[actions]
    if not actions:
        raise UserError("the list of actions is empty; name one of: " + ", ".join(ACTION_LISTS))
    return tuple(actions)


def idle_action(space: spaces.Dict) -> dict[str, Any]:
    """Return the action that does nothing."""
    return {key: _idle(key, sub) for key, sub in space.spaces.items()}


def press(chosen: dict[str, Any], name: str, space: spaces.Dict, camera_degrees: float) -> None:
    """Press the keys and turn the camera in `chosen` as `name` says, such as "forward+jump"."""
    for part in available(name, space).split("+"):
        if part in CAMERA_TURNS:
            chosen["camera"] = chosen["camera"] + np.array(CAMERA_TURNS[part], np.float32) * camera_degrees
        elif part in _worded(space):
            key, _, word = part.partition("_")
            chosen[key] = word
        elif part != "noop":
            chosen[part] = 1


def available(name: str, space: spaces.Dict) -> str:
    """Return the first of a name's alternatives that the environment has; raise `UserError` for a name that it has in none."""
    known = {*CAMERA_TURNS, *_worded(space), *space.spaces, "noop"} - {"camera", *_word_keys(space)}
    alternatives = name.split("|")
    for alternative in alternatives:
        if known.issuperset(alternative.split("+")):
            return alternative
    unknown = next(part for part in alternatives[0].split("+") if part not in known)
    raise UserError(f"unknown action '{unknown}' in '{name}': {nearest(unknown, known)}")


def _worded(space: spaces.Dict) -> set[str]:
    """Return the names of the keys with their words: place_dirt, craft_planks."""
    return {f"{key}_{word}" for key in _word_keys(space) for word in words_of(space[key])}


def _word_keys(space: spaces.Dict) -> list[str]:
    return [key for key in WORD_KEYS if words_of(space.spaces.get(key))]


def _acted_words(names: Sequence[str], space: spaces.Dict) -> dict[str, set[str]]:
    words = {key: {value} for key, value in idle_action(space).items() if isinstance(value, str)}
    for part in (part for name in names for part in available(name, space).split("+")):
        if part in _worded(space):
            key, _, word = part.partition("_")
            words[key].add(word)
    return words


def _idle(key: str, space: spaces.Space) -> Any:
    """MineRL's enumerations are sorted words, so that 'none' is not always 0: name it."""
    if isinstance(space, spaces.Box):
        return np.zeros(space.shape, np.float32)
    return getattr(space, "default", "none") if key in WORD_KEYS and words_of(space) else 0
