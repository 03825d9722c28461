"""Every setting of every algorithm reaches the Stable-Baselines3 object: a search over one that does not would search nothing."""

import inspect
from collections.abc import Iterator
from dataclasses import fields
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from stable_baselines3.common.type_aliases import TrainFreq
from stable_baselines3.common.vec_env import DummyVecEnv
from torch import nn

from agents.learning.algorithms import BUILT_IN, build_algorithm

CHANGED: dict[str, Any] = {
    "batch_size": 3,
    "buffer_size": 50,
    "clip_range": 0.17,
    "ent_coef": 0.037,
    "exploration_final_eps": 0.11,
    "exploration_initial_eps": 0.8,
    "gae_lambda": 0.71,
    "gamma": 0.87,
    "gradient_steps": 7,
    "learning_rate": 0.00123,
    "learning_starts": 17,
    "max_grad_norm": 0.91,
    "n_epochs": 5,
    "n_steps": 6,
    "normalize_advantage": True,
    "policy_delay": 3,
    "target_update_interval": 11,
    "tau": 0.013,
    "train_freq": 4,
    "vf_coef": 0.43,
}
"""No setting's default; three divides two environments' six steps."""

OF_POLICIES = {"kind", "n_envs", "net_arch", "set_policy", "set_width"}
"""What Stable-Baselines3's classes have no keyword for, whatever the algorithm."""
MORE = {
    "dqn": {"exploration_steps": 33},
    "qrdqn": {"exploration_steps": 33, "n_quantiles": 7},
    "recurrent_ppo": {"lstm_hidden_size": 9},
    "td3": {"exploration_noise": 0.31},
}
"""And of some."""
HIDDEN = (5, 6)
NETWORKS = {"sac": 1 + 2 + 2, "td3": 2 + 2 + 2}
"""An actor, two critics, their targets; td3's actor has one too. Others have a policy and a value network, or one and its target."""


class Still(gymnasium.Env):
    observation_space = spaces.Box(-1.0, 1.0, (4,), np.float32)

    def __init__(self, continuous: bool) -> None:
        self.action_space = spaces.Box(-1.0, 1.0, (2,), np.float32) if continuous else spaces.Discrete(3)

    def action_masks(self) -> np.ndarray:
        return np.ones(3, bool)


def keywords_of(kind: str) -> set[str]:
    """Return the settings that Stable-Baselines3's class has a keyword for."""
    return {one.name for one in fields(BUILT_IN[kind])} & set(inspect.signature(BUILT_IN[kind].algorithm_class()).parameters)


def made(kind: str) -> Any:
    changed = {name: CHANGED[name] for name in keywords_of(kind)}
    settings = build_algorithm({"kind": kind, "n_envs": 2, "net_arch": HIDDEN, **MORE.get(kind, {}), **changed})
    return settings.make(DummyVecEnv([lambda: Still("continuous" in settings.acts[:1])] * 2), 0, "cpu")


def held(algorithm: Any, name: str) -> Any:
    """Return what an algorithm holds for a keyword, of a schedule what it begins with."""
    value = algorithm.lr_schedule if name == "learning_rate" else getattr(algorithm, name)
    if isinstance(value, TrainFreq):
        return value.frequency
    return value(1.0) if callable(value) else value


def optimisers(policy: Any) -> Iterator[Any]:
    for one in (policy, getattr(policy, "actor", None), getattr(policy, "critic", None)):
        if hasattr(one, "optimizer"):
            yield one.optimizer


@pytest.mark.parametrize("kind", BUILT_IN)
def test_every_setting_that_stable_baselines_has_a_keyword_for_reaches_it(kind: str) -> None:
    names, algorithm = keywords_of(kind), made(kind)
    assert {"learning_rate", "gamma", "n_steps"} < names
    assert not {name for name in names if getattr(BUILT_IN[kind](), name) == CHANGED[name]}
    assert {name: held(algorithm, name) for name in names} == {name: CHANGED[name] for name in names}
    rates = [group["lr"] for optimiser in optimisers(algorithm.policy) for group in optimiser.param_groups]
    assert set(rates) == {CHANGED["learning_rate"]}


@pytest.mark.parametrize("kind", BUILT_IN)
def test_settings_that_it_has_no_keyword_for_reach_the_networks_and_the_exploration(kind: str) -> None:
    more = MORE.get(kind, {})
    assert {one.name for one in fields(BUILT_IN[kind])} - keywords_of(kind) == OF_POLICIES | set(more)
    algorithm = made(kind)
    layers = [(one.in_features, one.out_features) for one in algorithm.policy.modules() if isinstance(one, nn.Linear)]
    assert layers.count(HIDDEN) == NETWORKS.get(kind, 2)
    if "exploration_steps" in more:
        algorithm._update_current_progress_remaining(11, 1000)
        assert algorithm._current_progress_remaining == pytest.approx(1 - 11 / more["exploration_steps"])
    if "n_quantiles" in more:
        # three actions
        assert layers.count((6, 3 * more["n_quantiles"])) == 2
    if "lstm_hidden_size" in more:
        found = {(one.input_size, one.hidden_size) for one in algorithm.policy.modules() if isinstance(one, nn.LSTM)}
        assert found == {(4, more["lstm_hidden_size"])}
    if "exploration_noise" in more:
        np.random.seed(0)  # noqa: NPY002
        noise = np.array([algorithm.action_noise() for _ in range(2000)])
        assert (noise.shape, noise.std()) == ((2000, 2), pytest.approx(more["exploration_noise"], rel=0.05))
