"""Episodes: which world each plays, and what it returned."""

from collections.abc import Callable, Mapping
from copy import deepcopy
from typing import Any, SupportsFloat

import gymnasium
import numpy as np

from agents.remote.restarts import RESTARTS
from envs.episode_limit import EpisodeLimit
from envs.failures import EnvironmentFailed
from foundation.arrays import Kind, checked_arrays
from foundation.errors import UserError
from foundation.minerl import GAME_ERROR
from foundation.seeds import FIRST_EVALUATION_SEED
from wrappers.flat_observation import PICTURE


def training_seed(run_seed: int, environment: int, episode: int) -> int:
    """Return the world's seed of a training episode: the same in every row of a comparison."""
    return int(np.random.SeedSequence((run_seed, environment, episode)).generate_state(1)[0]) % FIRST_EVALUATION_SEED


def evaluation_seed(episode: int) -> int:
    """Return the world's seed of an evaluation episode: the same for every run."""
    return FIRST_EVALUATION_SEED + episode


_SAVED = {
    "episode": Kind(np.int64, (1,), 0, 2**53),
    "return": Kind(np.float64, (1,)),
    "length": Kind(np.int64, (1,), 0, 2**53),
}
_RESERVED = ("episode", "again")
"""Words of `info` that tell who trains or judges of an ended episode: what another package says under them is left out."""
_MOST_REPEATS = 2
"""A world that its environment dies of each time is not played for ever."""


class Episodes(gymnasium.Wrapper):
    """Choose the seed of every episode, and put the episode's return into `info["episode"]`, as Stable-Baselines3's Monitor does.

    `seed_of(k)` is the seed of this environment's k-th episode. Spaces do not change. `picture` holds the last picture seen,
    `restarts` how often the environment has died since it was made, by `RESTARTS`. Once told to `start_over`, it plays an episode
    that a death has cut off again, twice at most, and says so in `info["again"]`. `info["counts"]` holds the restarts and how many
    episodes were begun; `counts` are those of an environment that this one replaces, and it goes on from them. A reset with the
    option `start_over` starts over first: on the environment that replaces one which died in it, too. An episode is truncated at its
    `limit`. Rewards go on times `reward_scale`. Raises `EnvironmentFailed` for whatever the environment raises that is no `UserError`.

    The environment may change the actions it is given, and draw into the same arrays: what is kept beyond the next step is copied.
    """

    def __init__(
        self,
        env: gymnasium.Env,
        seed_of: Callable[[int], int],
        counts: Mapping[str, int] | None = None,
        limit: EpisodeLimit | None = None,
        name: str = "the environment",
        reward_scale: float = 1.0,
    ) -> None:
        super().__init__(env)
        self.limit, self.name, self.reward_scale = limit, name, reward_scale
        counts = counts or {}
        self.seed_of = seed_of
        self.episode = counts.get("episodes", 0)
        self.picture: np.ndarray | None = None
        self._restarts_before = {cause: counts.get(cause, 0) for cause in RESTARTS}
        self.restarts = dict(self._restarts_before)
        self._return, self._length = 0.0, 0
        self._repeats = self._repeats_left = _MOST_REPEATS if counts.get("repeating") else 0

    def start_over(self, repeats: int = _MOST_REPEATS) -> None:
        """Let the next reset begin the first episode again, and count only whole episodes from now on, unless `repeats` is 0."""
        self.episode = 0
        self._repeats = self._repeats_left = repeats

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        options = dict(options or {})
        if options.pop("start_over", False):
            self.start_over()
        try:
            observation, info = self.env.reset(seed=self.seed_of(self.episode), options=options or None)
        except UserError:
            raise
        except Exception as error:
            raise EnvironmentFailed.of(error, self.name, f"the reset to world {self.seed_of(self.episode)}") from error
        self.episode += 1
        self._return, self._length = 0.0, 0
        return observation, self._remember(observation, deepcopy(info))

    def step(self, action: Any) -> tuple[Any, SupportsFloat, bool, bool, dict[str, Any]]:
        try:
            observation, reward, terminated, truncated, info = self.env.step(deepcopy(action))
        except UserError:
            raise
        except Exception as error:
            when = f"world {self.seed_of(self.episode - 1)} at agent step {self._length + 1} of the episode"
            raise EnvironmentFailed.of(error, self.name, when) from error
        self._return += float(reward)
        self._length += 1
        if self.limit is not None and not (terminated or truncated):
            truncated = self.limit.reached(self._length)
        info = self._remember(observation, info)
        if terminated or truncated:
            again = GAME_ERROR in info and self._repeats_left > 0
            self._repeats_left = self._repeats_left - 1 if again else self._repeats
            self.episode -= again
            info = {**info, "episode": {"r": self._return, "l": self._length, "t": 0.0}, "again": again}
            # a VecEnv keeps both, and begins the next episode at once
            observation, info = deepcopy((observation, info))
        return observation, float(reward) * self.reward_scale, terminated, truncated, info

    def _remember(self, observation: Any, info: dict[str, Any]) -> dict[str, Any]:
        self.picture = np.array(observation[PICTURE] if isinstance(observation, dict) else observation)
        for cause, before in self._restarts_before.items():
            if f"minerl/{cause}" in info:
                self.restarts[cause] = before + info[f"minerl/{cause}"]
        info = {key: value for key, value in info.items() if key not in _RESERVED}
        return {**info, "counts": {"episodes": self.episode, "repeating": int(self._repeats > 0), **self.restarts}}

    def save_layers(self) -> list[dict[str, np.ndarray]]:
        """Return the state of every layer that keeps one, outermost first: this one, wrappers, the environment itself."""
        return save_layers(self)

    def restore_layers(self, states: list[dict[str, np.ndarray]]) -> None:
        """Go on from what `save_layers` returned."""
        restore_layers(self, states)

    def can_restore(self) -> bool:
        """Whether the environment itself can be put back into a saved state."""
        return can_restore(self)

    def save_state(self) -> dict[str, np.ndarray]:
        """Return which episode runs and what it has returned so far."""
        return {"episode": np.array([self.episode]), "return": np.array([self._return]), "length": np.array([self._length])}

    def restore_state(self, state: dict[str, np.ndarray]) -> None:
        """Go on from what `save_state` returned."""
        arrays = checked_arrays(state, _SAVED, "the saved state of an episode is damaged")
        self.episode = int(arrays["episode"][0])
        self._return, self._length = float(arrays["return"][0]), int(arrays["length"][0])


def save_layers(env: gymnasium.Env) -> list[dict[str, np.ndarray]]:
    """Return the state of every layer of a wrapped environment that keeps one, outermost first."""
    return [layer.save_state() for layer in _layers(env)]


def restore_layers(env: gymnasium.Env, states: list[dict[str, np.ndarray]]) -> None:
    """Go on from what `save_layers` returned."""
    layers = _layers(env)
    if len(layers) != len(states):
        raise UserError(f"the saved state of the environment is damaged: it has {len(states)} layers, not {len(layers)}")
    for layer, state in zip(layers, states, strict=True):
        layer.restore_state(state)


def can_restore(env: gymnasium.Env) -> bool:
    """Whether the environment itself, below its wrappers, can be put back into a saved state."""
    # both, since other packages' environments have a `restore_state` of another kind
    return all(hasattr(type(env.unwrapped), name) for name in ("save_state", "restore_state"))


def _layers(env: gymnasium.Env) -> list[Any]:
    layers, layer = [], env
    while True:
        # on the class, since a wrapper may pass attributes on
        if hasattr(type(layer), "save_state"):
            layers.append(layer)
        if not isinstance(layer, gymnasium.Wrapper):
            return layers
        layer = layer.env
