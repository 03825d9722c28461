"""An environment under watch: while somebody plays it, everything that a store keeps of an episode is taken down.

Shapes: F frames of an episode, H height, W width.
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any, SupportsFloat

import gymnasium
import numpy as np

from foundation.errors import UserError, nearest
from foundation.minerl import GAME_ERROR, words_of
from foundation.progress import say
from frames.players import nothing
from frames.resize import ResizeMode, resize_kinds

_PICTURE = "pov"
_STATE, _SEGMENTATION = "state", "segmentation"
RECORDED = (_STATE, _SEGMENTATION)
"""What is recorded beside observations on request."""


class WatchedEnvironment(gymnasium.Wrapper):
    """Passes an environment's ticks on unchanged, and takes down pictures, actions, rewards and what is beside the pictures.

    `begin` says which world the next episode plays, and how many frames are wanted of it: with the last of them it is truncated. Who
    plays resets once, as often as it likes after the end (as a `VecEnv` does by itself): only `begin` lets another episode start. `fit`
    brings pictures uint8 (1, H, W, 3) to the size of the store; `beside` takes down what is not observed.
    """

    def __init__(self, env: gymnasium.Env, fit: Callable[[np.ndarray], np.ndarray], beside: "Beside") -> None:
        super().__init__(env)
        self._fit, self._beside = fit, beside
        self.begin(0, 1)

    def begin(self, seed: int, length: int) -> None:
        """Take down an episode of at most `length` frames in the world of `seed` from the next reset on."""
        self._seed, self._length = seed, length
        self._started = self.is_over = False
        self._pictures: list[np.ndarray] = []
        self._actions: list[dict[str, np.ndarray]] = []
        self._rest: list[dict[str, np.ndarray]] = []
        self._rewards: list[float] = []
        self._last: tuple[Any, dict[str, Any]] = (None, {})

    def take(self) -> list[np.ndarray]:
        """Return the pictures uint8 (H, W, 3) that have come since the last time."""
        taken, self._pictures = self._pictures, []
        return taken

    def arrays(self) -> dict[str, np.ndarray]:
        """Return rewards, actions and what was observed beside the pictures, by name."""
        return {"reward": np.array(self._rewards, np.float32), **_stacked(self._actions), **_stacked(self._rest)}

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begin the episode in the world that `begin` named; after its end, return what was seen last."""
        if self._started:
            self.is_over = True
            return self._last
        with self._failures():
            observation, info = self.env.reset(seed=self._seed, options=options)
        self._started = True
        self._see(observation, info)
        self.is_over = self._length <= 1
        return observation, info

    def step(self, action: Any) -> tuple[Any, SupportsFloat, bool, bool, dict[str, Any]]:
        """Play a tick, and take it down unless the episode is over."""
        if self.is_over:
            return self._last[0], 0.0, False, True, self._last[1]
        # before the step: an environment may change what it is given
        self._actions.append(_numbers("action", _in_words(self.env.action_space, action)))
        with self._failures():
            observation, reward, terminated, truncated, info = self.env.step(action)
        if GAME_ERROR in info:
            # what came is the last frame again, and nobody saw what the action did
            self._actions.pop()
            self.is_over = True
            say(f"an episode was cut short at frame {len(self._rest)}: {info[GAME_ERROR]}")
            return observation, reward, terminated, True, info
        self._rewards.append(float(reward))
        self._see(observation, info)
        truncated = bool(truncated) or len(self._rest) >= self._length
        self.is_over = bool(terminated) or truncated
        return observation, reward, terminated, truncated, info

    def _see(self, observation: Any, info: dict[str, Any]) -> None:
        picture, beside = _parted(observation)
        self._rest.append({**_numbers("observation", beside), **self._beside(info)})
        # copied: an environment may draw the next picture into the same array
        self._pictures.append(self._fit(np.array(picture)[None])[0])
        self._last = observation, info

    @contextmanager
    def _failures(self) -> Iterator[None]:
        """Say where an environment failed; the episodes before are in the store, this one is not."""
        try:
            yield
        except UserError:
            raise
        except Exception as error:
            what = f"{type(error).__name__}: {' '.join(str(error).split())}"
            place = f"world {self._seed} at action {len(self._actions)}" if self._actions else f"the reset to world {self._seed}"
            raise UserError(
                f"the environment failed in {place} ({what}); the episodes before are kept: run the same command again, "
                "or choose another seed and another store path"
            ) from error


class Beside:
    """Takes down what was asked for beside the observations; raises `UserError` where the environment does not offer it."""

    def __init__(self, env: gymnasium.Env, beside: Collection[str], size: tuple[int, int], resize: ResizeMode) -> None:
        unknown = next((what for what in beside if what not in RECORDED), None)
        if unknown is not None:
            raise UserError(f"nothing called '{unknown}' can be recorded: {nearest(unknown, RECORDED)}")
        if _SEGMENTATION in beside and not env.has_wrapper_attr(_SEGMENTATION):
            raise UserError("this environment has no segmentation to record; leave it out (voxel tasks have it)")
        self._fit, self._state = partial(resize_kinds, size=size, mode=resize), _STATE in beside
        self._segmented = env.get_wrapper_attr(_SEGMENTATION) if _SEGMENTATION in beside else None

    def __call__(self, info: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """Return what belongs to the frame that `info` came with, by the names that observations have."""
        found: dict[str, np.ndarray] = {}
        if self._state:
            if not isinstance(info.get(_STATE), Mapping):
                have = "voxel tasks, Breakout, Pong and ViZDoom's HealthGathering have it"
                raise UserError(f"this environment tells no info['state'] to record; leave it out ({have})")
            found.update({f"observation.{_STATE}.{name}": _number(name, value) for name, value in info[_STATE].items()})
        if self._segmented is not None:
            found[f"observation.{_SEGMENTATION}"] = self._fit(self._segmented()[None])[0]
        return found


def _number(name: str, value: Any) -> np.ndarray:
    """Return a number of the state, float32 (); a Box of one number gives an array of it. Raises `UserError` for several."""
    number = np.array(value, np.float32)
    if number.size != 1:
        raise UserError(f"info['state'] holds an array {number.shape} as '{name}'; tell each of its numbers under a name of its own")
    return number.reshape(())


def _parted(observation: Any) -> tuple[np.ndarray, dict[str, Any]]:
    """Part an observation into its RGB picture and what is beside it; raise `UserError` where it is not clear which the picture is."""
    if not isinstance(observation, Mapping):
        observation = {"": observation}
    key = _PICTURE if _PICTURE in observation else _only_picture(observation)
    if not _is_picture(observation[key]):
        raise UserError(f"the observation's '{key}' is {_shown(observation[key])}, no RGB picture uint8 (H, W, 3)")
    return observation[key], {name: value for name, value in observation.items() if name != key}


def _only_picture(observation: Mapping[str, Any]) -> str:
    pictures = [key for key, value in observation.items() if _is_picture(value)]
    if len(pictures) == 1:
        return pictures[0]
    held = ", ".join(f"'{key}' {_shown(value)}" if key else _shown(value) for key, value in observation.items())
    problem = "several pictures and none is called 'pov'" if pictures else "no RGB picture uint8 (H, W, 3)"
    raise UserError(f"the observation holds {problem} ({held}); wrap the environment so that its picture stands under 'pov'")


def _is_picture(value: Any) -> bool:
    return isinstance(value, np.ndarray) and value.dtype == np.uint8 and value.ndim == 3 and value.shape[2] == 3


def _shown(value: Any) -> str:
    return f"{value.dtype} {value.shape}" if isinstance(value, np.ndarray) else type(value).__name__


def _in_words(space: gymnasium.Space, action: Any) -> Any:
    """Return an action with words for the numbers of MineRL's enumerations, as recordings have them: tasks number their words anew.

    What it leaves out is not pressed: a store has only such actions as every tick has.
    """
    if isinstance(space, gymnasium.spaces.Dict) and isinstance(action, Mapping):
        left_out = {key: nothing(inner) for key, inner in space.spaces.items() if key not in action}
        return {key: _in_words(space[key], value) if key in space.spaces else value for key, value in {**action, **left_out}.items()}
    words = words_of(space)
    return str(words[int(action)]) if words and not isinstance(action, str) else action


def _numbers(name: str, value: Any) -> dict[str, np.ndarray]:
    """Flatten nested dictionaries and tuples into arrays by dotted name."""
    if isinstance(value, tuple):
        value = dict(enumerate(value))
    if not isinstance(value, Mapping):
        return {name: np.array(value)}
    return {key: array for part, inner in value.items() for key, array in _numbers(f"{name}.{part}", inner).items()}


def _stacked(rows: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Turn a list of ticks into arrays over the ticks, leaving out what is neither numbers nor text, or not of one shape."""
    if not rows:
        return {}
    named = {name: [row[name] for row in rows] for name in rows[0] if all(name in row for row in rows)}
    columns = {name: np.stack(values) for name, values in named.items() if len({value.shape for value in values}) == 1}
    return {name: column for name, column in columns.items() if column.dtype.kind in "biufU"}
