"""The environments of a run: one process, many episodes, pixels or latents."""

from collections.abc import Callable
from functools import partial

import gymnasium
from gymnasium import spaces
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv

from agents.config import EnvironmentConfig
from agents.episodes import Episodes, evaluation_seed, training_seed
from wrappers import DiscreteActions, FlatObservation, FrameSkip, FrozenEncoder, VecLatent


def agent_environment(config: EnvironmentConfig) -> gymnasium.Env:
    """Return one environment as an agent acts in it, with pictures."""
    import envs

    env: gymnasium.Env = FrameSkip(envs.make_env(config.name, **config.options), config.frame_skip)
    if isinstance(env.action_space, spaces.Dict) and "camera" in env.action_space.spaces:
        env = DiscreteActions(env, config.actions, config.camera_degrees, config.sticky_attack, config.pitch_limit)
    return FlatObservation(env)


def check_environment(config: EnvironmentConfig) -> None:
    """Raise `UserError` where the environment, its options or the list of actions cannot be had."""
    agent_environment(config).close()


def training_environments(config: EnvironmentConfig, count: int, run_seed: int, frozen: FrozenEncoder | None) -> VecEnv:
    """Return `count` parallel environments on training worlds; latents of `frozen`, or pixels when it is None."""
    return _vectorised(config, [partial(training_seed, run_seed, index) for index in range(count)], frozen)


def evaluation_environments(config: EnvironmentConfig, count: int, frozen: FrozenEncoder | None) -> VecEnv:
    """Return `count` parallel environments that share out the evaluation worlds: number i plays i, i + count, ..."""

    def seed_of(index: int, episode: int) -> int:
        return evaluation_seed(index + episode * count)

    return _vectorised(config, [partial(seed_of, index) for index in range(count)], frozen)


def bare_environments(venv: VecEnv) -> list[gymnasium.Env]:
    """Return the gymnasium environments below a `VecEnv` of this module."""
    return venv.unwrapped.envs  # type: ignore[attr-defined]


def _vectorised(config: EnvironmentConfig, seeds: list[Callable[[int], int]], frozen: FrozenEncoder | None) -> VecEnv:
    venv = DummyVecEnv([partial(_with_episodes, config, seed_of) for seed_of in seeds])
    return venv if frozen is None else VecLatent(venv, frozen)


def _with_episodes(config: EnvironmentConfig, seed_of: Callable[[int], int]) -> Episodes:
    return Episodes(agent_environment(config), seed_of)
