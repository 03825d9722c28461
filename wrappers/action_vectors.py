"""The actions that an encoder is told: the same numbers, for the same actions, as in the recordings that it was trained on."""

from collections.abc import Collection, Iterator, Mapping
from functools import partial
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from stable_baselines3.common.vec_env import VecEnv

from encoders.actions import ActionArray, Actions, difference, size_of, unrecorded
from foundation.errors import UserError, in_one_line
from foundation.minerl import words_of
from foundation.progress import say
from wrappers.picture_encoder import PictureEncoder

LED_BY = "led_by"
"""Where `info` has the numbers of the action that led to the observation."""


class RecordedActions(gymnasium.Wrapper):
    """Stands where actions are still those of recordings, below the wrappers that agents act through, and reports them in `info`.

    `info["led_by"]` is float32 (A,) for an encoder that was trained with the `reported` actions; nothing is reported while they are None.
    """

    def __init__(self, env: gymnasium.Env, reported: Actions | None = None) -> None:
        super().__init__(env)
        self.recorded_space, self.reported_actions = env.action_space, reported

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        if self.reported_actions is None:
            return self.env.step(action)
        # before the step: an environment may change what it is given
        vector = action_vector(self.recorded_space, action, self.reported_actions)
        observation, reward, terminated, truncated, info = self.env.step(action)
        return observation, reward, terminated, truncated, {**info, LED_BY: vector}


class ToldActions:
    """What a frozen encoder is told of the actions of an environment or a `VecEnv`: nothing, those given to it, or those it reports.

    Raises `UserError` where they do not mean what those of its training did.
    """

    def __init__(self, frozen: PictureEncoder, env: gymnasium.Env | VecEnv) -> None:
        check_actions(frozen, env)
        self.size, self.space, self.trained = frozen.action_size, env.action_space, frozen.actions
        self.reported = bool(self.size) and self.trained is not None and attribute(env, "recorded_space") is not None
        if self.reported and attribute(env, "reported_actions") != self.trained:
            # not `set_attr`, which sets it on the outermost wrapper
            asked = partial(env.env_method, "set_wrapper_attr") if isinstance(env, VecEnv) else env.set_wrapper_attr
            asked("reported_actions", self.trained)

    def none(self, rows: int) -> np.ndarray | None:
        """Return the zeros (B, A) that stand before an episode's first frame; None where the encoder takes no actions."""
        return np.zeros((rows, self.size), np.float32) if self.size else None

    def given(self, actions: Any) -> np.ndarray | None:
        """Return new float32 (B, A) for the actions of a step that begins: zeros where the environment is to report them."""
        if not self.size or self.reported:
            return self.none(len(actions))
        if self.trained is not None and not _one_hot(self.trained, self.space):
            return np.stack([action_vector(self.space, action, self.trained) for action in actions])
        if isinstance(self.space, spaces.Discrete):
            return np.eye(int(self.space.n), dtype=np.float32)[np.asarray(actions, int).reshape(-1) - int(self.space.start)]
        # copied: they are kept until the step is over, and an environment may change what it is given
        return np.array(actions, np.float32).reshape(len(actions), -1)

    def take_reported(self, vectors: np.ndarray | None, infos: list[dict[str, Any]], first: int = 0) -> None:
        """Put what environments report of a step into rows of `vectors`, from the `first` on; zeros stay where one has died."""
        if self.reported and vectors is not None:
            for row, info in enumerate(infos, first):
                vectors[row] = info.get(LED_BY, 0.0)


def attribute(env: gymnasium.Env | VecEnv, name: str) -> Any:
    """Return an attribute of an environment's wrappers, of the first environment of a `VecEnv`; None where none has it."""
    if isinstance(env, VecEnv):
        return env.get_attr(name, 0)[0] if env.has_attr(name) else None
    return env.get_wrapper_attr(name) if env.has_wrapper_attr(name) else None


def check_actions(frozen: PictureEncoder, env: gymnasium.Env | VecEnv) -> None:
    """Refuse an encoder that was trained with other actions than those an environment is given, or reports as recordings have them.

    Of an encoder that does not say what its actions stand for, their number is compared, which is said.
    """
    if not frozen.action_size:
        return
    remedy = "use an encoder trained without actions (model.action_size 0)"
    if frozen.actions is None:
        offered = _vector_size(env.action_space)
        if frozen.action_size != offered:
            vectors = f"become vectors of {offered} numbers" if offered else "do not become one vector"
            what = f"this environment's actions ({in_one_line(env.action_space)}) {vectors}"
            raise UserError(f"this encoder was trained with actions of {frozen.action_size} numbers, and {what}; {remedy}")
        say(unrecorded("this encoder"))
        return
    recorded = attribute(env, "recorded_space")
    if recorded is None and _one_hot(frozen.actions, env.action_space):
        return
    acted = env.action_space if recorded is None else recorded
    if differs := difference(frozen.actions, tuple(_offered(acted, attribute(env, "acted_words") or {}))):
        what = f"this environment's actions ({in_one_line(acted)})"
        raise UserError(f"{what} are not those this encoder was trained with: {differs}; {remedy}")


def action_vector(space: spaces.Space, action: Any, trained: Actions) -> np.ndarray:
    """Return the numbers float32 (A,) of an action of `space`, as a recording of it has them: words by their places in training."""
    values = dict(_values(space, action))
    vector, at = np.zeros(size_of(trained), np.float32), 0
    for array in trained:
        vector[at : at + array.size] = _numbers(array, *values[array.name])
        at += array.size
    return vector


def _numbers(array: ActionArray, space: spaces.Space, value: Any) -> Any:
    words = words_of(space)
    if array.texts:
        return array.texts.index(str(value) if isinstance(value, str) else words[int(value)])
    return np.asarray(value, np.float32).reshape(-1)


def _one_hot(trained: Actions, space: spaces.Space) -> bool:
    """Say whether recordings hold a choice as one number for each of `space`, instead of its own."""
    return isinstance(space, spaces.Discrete) and space.n > 1 and trained == (ActionArray("action", int(space.n)),)


def _offered(space: spaces.Space, acted: Mapping[str, Collection[str]]) -> Iterator[ActionArray]:
    """Yield what recordings of an action space have, in the order of their names; `acted` are the words that some keys get at all."""
    for name, inner in sorted(_entries(space), key=lambda entry: entry[0]):
        shape = getattr(inner, "shape", None)
        size = 1 if isinstance(inner, spaces.Discrete) or shape is None else int(np.prod(shape, dtype=int))
        words = acted.get(name.removeprefix("action."), words_of(inner)) if words_of(inner) else ()
        yield ActionArray(name, size, tuple(sorted(words)))


def _entries(space: spaces.Space, name: str = "action") -> Iterator[tuple[str, spaces.Space]]:
    for key, inner in _inner(space):
        yield from _entries(inner, f"{name}.{key}")
    if not isinstance(space, (spaces.Dict, spaces.Tuple)):
        yield name, space


def _values(space: spaces.Space, action: Any, name: str = "action") -> Iterator[tuple[str, tuple[spaces.Space, Any]]]:
    for key, inner in _inner(space):
        yield from _values(inner, action[key], f"{name}.{key}")
    if not isinstance(space, (spaces.Dict, spaces.Tuple)):
        yield name, (space, action)


def _inner(space: spaces.Space) -> list[tuple[Any, spaces.Space]]:
    if isinstance(space, spaces.Dict):
        return list(space.spaces.items())
    return list(enumerate(space.spaces)) if isinstance(space, spaces.Tuple) else []


def _vector_size(space: spaces.Space) -> int | None:
    if isinstance(space, spaces.Discrete):
        return int(space.n)
    return None if space.shape is None else int(np.prod(space.shape))
