"""The environments of a run: one process, many episodes, pixels or latents."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Literal

import gymnasium
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv

from agents.learning.algorithms import refuse_misfit
from agents.learning.learner import Learner
from agents.remote.config import ACTOR_CPUS, RemoteConfig
from agents.run.environment_config import EnvironmentConfig
from agents.run.episodes import Episodes, evaluation_seed, training_seed
from encoders.actions import Actions
from envs.episode_limit import episode_limit, tell_of_no_limit
from foundation.errors import UserError
from foundation.minerl import acts_like_minerl
from foundation.telling import Tell, receiver, tell_through
from frames.action_centres import ActionCentres, action_centres
from wrappers import ContinuousActions, DiscreteActions, FlatObservation, FrameSkip, PictureEncoder, StateObservation, VecHistory, VecLatent
from wrappers.action_vectors import RecordedActions
from wrappers.obfuscated_actions import ObfuscatedActions, takes_vectors
from wrappers.plain_actions import PlainActions, is_plain
from wrappers.resized_picture import ResizedPicture
from wrappers.state_observation import state_space

Counts = Mapping[str, int]
MakeEnv = Callable[[], gymnasium.Env]
Seen = PictureEncoder | Literal["state"] | None
"""What an agent sees: latents, the state that the environment tells, or (None) pixels."""


def agent_environment(config: EnvironmentConfig, reported: Actions | None = None, make: MakeEnv | None = None) -> gymnasium.Env:
    """Return one environment as an agent acts in it, with pictures; it reports its actions to an encoder trained with `reported` ones.

    Below its wrappers is what `make` gives, or the environment that `config` names.
    """
    import envs

    env: gymnasium.Env = FrameSkip(make() if make else envs.make_env(config.name, **config.options), config.frame_skip)
    env = RecordedActions(env, reported)
    if config.frame_size is not None:
        env = ResizedPicture(env, config.frame_size, config.resize)
    return FlatObservation(_with_plain_actions(env, config))


def _with_plain_actions(env: gymnasium.Env, config: EnvironmentConfig) -> gymnasium.Env:
    """Return an environment whose actions algorithms can choose."""
    if takes_vectors(env.action_space):
        return ObfuscatedActions(env, recorded_actions(config).vectors)
    if acts_like_minerl(env.action_space, "attack"):
        acting = ContinuousActions if config.continuous else DiscreteActions
        return acting(env, config.actions, config.camera_degrees, config.sticky_attack, config.pitch_limit)
    return env if is_plain(env.action_space) else PlainActions(env)


def recorded_actions(config: EnvironmentConfig) -> ActionCentres:
    """Return the recorded action vectors that an agent chooses among; raise `UserError` where they are not those of its run."""
    if config.action_store is None:
        raise UserError(
            f"the actions of {config.name} are obfuscated vectors, and agents choose among recorded ones: name a frame store "
            "of recordings of such an environment with --environment.action-store STORE"
        )
    actions = action_centres(config.action_store, config.action_count, config.action_seed)
    if config.action_sha256 not in (None, actions.sha256):
        raise UserError(
            f"{config.action_store}: its {config.action_count} actions ({actions.sha256[:12]}) are not those "
            f"that the agent was trained with ({config.action_sha256[:12]}); name the store that it was trained with"
        )
    return actions


def resolved(config: EnvironmentConfig) -> EnvironmentConfig:
    """Return the settings with the hash of the recorded actions, where agents choose among such."""
    return config if config.action_store is None else replace(config, action_sha256=recorded_actions(config).sha256)


def check_environment(config: EnvironmentConfig, algorithm: Learner, oracle: bool = False) -> None:
    """Raise `UserError` where the environment, its options or the list of actions cannot be had, or the algorithm cannot act in it.

    So too where an `oracle` would be told nothing. Tells where nothing limits the steps of an episode.
    """
    tell_through(receiver())
    env = agent_environment(config)
    try:
        if oracle:
            state_space(env, config.name)
        tell_of_no_limit(env, config.name, config.episode_steps)
        refuse_misfit(algorithm, env.action_space, env.has_wrapper_attr("action_masks"))
    finally:
        env.close()


def training_environments(config: EnvironmentConfig, count: int, run_seed: int, seen: Seen, remote: RemoteConfig | None = None) -> VecEnv:
    """Return `count` parallel environments on training worlds, in which what is `seen` stands in place of the picture.

    They are in this process, or in Ray actors where `remote` says so; both see the same worlds.
    """
    return _environments(config, [partial(training_seed, run_seed, index) for index in range(count)], seen, remote)


def evaluation_environments(
    config: EnvironmentConfig, count: int, seen: Seen, remote: RemoteConfig | None = None, make: MakeEnv | None = None
) -> VecEnv:
    """Return `count` parallel environments that share out the evaluation worlds: number i plays i, i + count, ...

    They are where those of training are.
    """

    def seed_of(index: int, episode: int) -> int:
        return evaluation_seed(index + episode * count)

    return _environments(config, [partial(seed_of, index) for index in range(count)], seen, remote, make)


def bare_environments(venv: VecEnv) -> list[Episodes]:
    """Return the gymnasium environments below a `VecEnv` of this module."""
    made: list[Any] = venv.unwrapped.envs  # type: ignore[attr-defined]
    return [env if isinstance(env, Episodes) else env.env for env in made]


def _environments(
    config: EnvironmentConfig,
    seeds: Sequence[Callable[[int], int]],
    seen: Seen,
    remote: RemoteConfig | None,
    make: MakeEnv | None = None,
) -> VecEnv:
    frozen = None if isinstance(seen, str) else seen
    refuse_other_resize(config, frozen)
    reported = None if frozen is None else frozen.actions
    made = [partial(_with_episodes, config, reported, make, seed_of, receiver(), seen == "state") for seed_of in seeds]
    if remote is not None and remote.actors:
        venv = _remote(made, frozen, remote)
    else:
        pictures = DummyVecEnv([partial(one, {}) for one in made])
        venv = pictures if frozen is None else VecLatent(pictures, frozen)
    return venv if config.history == 1 else VecHistory(venv, config.history)


def _remote(made: Sequence[Callable[[Counts], gymnasium.Env]], frozen: PictureEncoder | None, remote: RemoteConfig) -> VecEnv:
    # brings Ray
    from agents.remote.latents import ArrivingLatent
    from agents.remote.vec_env import RayVecEnv

    venv = RayVecEnv(
        made,
        min(remote.actors, len(made)),
        frozen=frozen if remote.encode == "worker" else None,
        replacements=remote.replacements,
        backoff_seconds=remote.backoff_seconds,
        timeout_seconds=remote.timeout_seconds,
        # training and evaluation take turns
        cpus=ACTOR_CPUS / 2,
    )
    return venv if frozen is None or remote.encode == "worker" else ArrivingLatent(venv, frozen)


def refuse_other_resize(config: EnvironmentConfig, frozen: PictureEncoder | None) -> None:
    """Raise `UserError` where pictures would be resized in another way than the encoder's frames were."""
    if frozen is not None and config.frame_size is not None and frozen.info.resize != config.resize:
        raise UserError(
            f"the encoder's frames were resized by '{frozen.info.resize}', the environment's are by '{config.resize}': "
            f"add --environment.resize {frozen.info.resize}"
        )


def _with_episodes(
    config: EnvironmentConfig,
    reported: Actions | None,
    make: MakeEnv | None,
    seed_of: Callable[[int], int],
    told: Tell,
    oracle: bool,
    counts: Counts,
) -> gymnasium.Env:
    # in an actor: what there is to tell goes to the command that the actor works for
    tell_through(told)
    env = agent_environment(config, reported, make)
    limit = episode_limit(env, config.name, config.episode_steps, config.frame_skip)
    env = Episodes(env, seed_of, counts, limit, config.name, config.reward_scale)
    # outermost: what the agent does not see is still filmed
    return StateObservation(env, config.name) if oracle else env
