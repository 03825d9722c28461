"""Fixed evaluation episodes: what a policy, the random policy or the scripted player returns on worlds never trained on."""

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from sb3_contrib.common.maskable.policies import MaskableActorCriticPolicy
from sb3_contrib.common.maskable.utils import get_action_masks
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.vec_env import VecEnv

from agents.remote.config import RemoteConfig
from agents.run.environment import Seen, evaluation_environments
from agents.run.environment_config import EnvironmentConfig
from agents.run.episodes import evaluation_seed
from foundation.pictures import Thinned
from foundation.ticks import TICKS_A_SECOND
from wrappers.flat_observation import PICTURE

Act = Callable[[Any, np.ndarray], np.ndarray]
"""Observations of all environments, and which of them begin an episode (bool (B,)) -> their actions."""


@dataclass
class Played:
    """What episodes came to, by number of the episode: the same number is the same world in every row."""

    returns: list[float]
    lengths: list[int]
    pictures: list[np.ndarray] = field(default_factory=list)
    """The first episode's pictures, uint8 (H, W, 3); of a long one every second, fourth, ..."""
    frames_per_second: float = TICKS_A_SECOND
    """Of those pictures, in game time."""


class Acting:
    """A trained policy at play: carries a recurrent one's memory along, and tells one with masks what the environments offer.

    Where not `deterministic`, it draws each action at random with the chance `epsilon`, from random numbers of its own.
    """

    def __init__(self, policy: BasePolicy, venv: VecEnv, deterministic: bool, epsilon: float, seed: int) -> None:
        self.policy, self.venv, self.deterministic = policy, venv, deterministic
        self.epsilon = 0.0 if deterministic else epsilon
        self.masked = isinstance(policy, MaskableActorCriticPolicy)
        self.begin(seed)

    def begin(self, seed: int) -> None:
        """Forget everything, and draw anew by `seed`."""
        self.random = np.random.default_rng(seed)
        self.memory: Any = None

    def __call__(self, observation: Any, starts: np.ndarray) -> np.ndarray:
        masks = {"action_masks": get_action_masks(self.venv)} if self.masked else {}
        actions, self.memory = self.policy.predict(observation, self.memory, starts, self.deterministic, **masks)
        if self.epsilon:
            assert isinstance(self.venv.action_space, spaces.Discrete)
            drawn = self.random.integers(self.venv.action_space.n, size=len(actions))
            actions = np.where(self.random.random(len(actions)) < self.epsilon, drawn, actions)
        return actions


class Evaluation:
    """Plays the same evaluation worlds as often as asked, in environments of its own: in Ray actors where `remote` says so."""

    def __init__(self, environment: EnvironmentConfig, seen: Seen, episodes: int, remote: RemoteConfig | None = None) -> None:
        count = min(episodes, environment.evaluated_at_once)
        self.venv = evaluation_environments(environment, count, seen, remote)

    def play(self, act: Act, episodes: int, keep_pictures: bool = False) -> Played:
        """Play evaluation episodes 0 to `episodes` - 1."""
        # an option of the reset, since an environment that replaces one which dies in it is told, too
        self.venv.set_options({"start_over": True})
        return play_episodes(self.venv, act, episodes, keep_pictures)

    def play_policy(
        self, policy: BasePolicy, episodes: int, deterministic: bool, seed: int, keep_pictures: bool = False, epsilon: float = 0.0
    ) -> Played:
        """Play with a policy; its sampled actions are seeded, and training's random numbers stay untouched."""
        with _random_numbers_of_its_own(seed):
            return self.play(Acting(policy, self.venv, deterministic, epsilon, seed), episodes, keep_pictures)

    def close(self) -> None:
        """Close the environments."""
        self.venv.close()


@contextmanager
def _random_numbers_of_its_own(seed: int) -> Iterator[None]:
    """Seed every global generator, and put back what training has drawn so far: environments of others draw from Python's and NumPy's."""
    before = random.getstate(), np.random.get_state()  # noqa: NPY002
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        random.seed(seed)
        np.random.seed(seed % 2**32)  # noqa: NPY002
        try:
            yield
        finally:
            random.setstate(before[0])
            np.random.set_state(before[1])  # noqa: NPY002


def play_episodes(venv: VecEnv, act: Act, episodes: int, keep_pictures: bool = False) -> Played:
    """Play from a reset until `episodes` episodes have ended; environment i of n plays number i, i + n, ...

    An environment that has played its share steps on unrecorded, so that batches keep their composition. An episode that the
    death of its environment cut off is played again (see `Episodes`): its return would be that of a shorter episode.
    """
    count = venv.num_envs
    ended: dict[int, dict[str, Any]] = {}
    number = list(range(count))
    film = Thinned()
    observation, starts = venv.reset(), np.ones(count, dtype=bool)
    while len(ended) < episodes:
        if keep_pictures and number[0] == 0:
            film.add(venv.get_attr("picture", 0)[0])
        observation, _, starts, infos = venv.step(act(observation, starts))
        for index in np.flatnonzero(starts):
            if infos[index].get("again"):
                if number[index] == 0:
                    film = Thinned()
                continue
            if number[index] < episodes:
                ended[number[index]] = infos[index]["episode"]
            number[index] += count
    in_order = [ended[one] for one in range(episodes)]
    rate = venv.get_attr("metadata", 0)[0]["render_fps"] / film.every
    return Played([one["r"] for one in in_order], [one["l"] for one in in_order], film.pictures, float(rate))


def play_random(environment: EnvironmentConfig, episodes: int, seed: int, remote: RemoteConfig | None = None) -> Played:
    """Play with uniformly random actions, from the same actions that agents choose from."""
    evaluation = Evaluation(environment, None, episodes, remote)
    space = evaluation.venv.action_space
    space.seed(seed)
    try:
        with _random_numbers_of_its_own(seed):
            return evaluation.play(
                lambda *_: np.stack([space.sample() for _ in range(evaluation.venv.num_envs)]), episodes, keep_pictures=True
            )
    finally:
        evaluation.close()


def play_scripted(environment: EnvironmentConfig, episodes: int, seed: int) -> Played:
    """Play with the scripted player: it acts every game tick and knows where things are, which no agent does."""
    played = Played([], [], frames_per_second=TICKS_A_SECOND / environment.frame_skip)
    for number in range(episodes):
        pictures, total, ticks = scripted_episode(environment, number, seed + number)
        played.pictures = played.pictures or pictures[:: environment.frame_skip]
        played.returns.append(total)
        played.lengths.append(-(-ticks // environment.frame_skip))
    return played


def scripted_episode(environment: EnvironmentConfig, number: int, seed: int) -> tuple[list[np.ndarray], float, int]:
    """Play evaluation episode `number` with the scripted player; return the picture of every tick, the return and the ticks."""
    import envs

    env = envs.make_env(environment.name, **environment.options)
    player = envs.scripted_player(environment.name, noise=0.0)
    player.reset(seed)
    observation, info = env.reset(seed=evaluation_seed(number))
    pictures, total, done = [], 0.0, False
    while not done:
        pictures.append(np.array(observation[PICTURE]))
        observation, reward, terminated, truncated, info = env.step(player(observation, info))
        total = total + float(reward)
        done = terminated or truncated or len(pictures) == environment.episode_steps
    env.close()
    return pictures, total, len(pictures)
