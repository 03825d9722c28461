"""A run's seed decides its first weights, its training worlds and what is drawn in its evaluations, and not the evaluation worlds."""

from pathlib import Path
from typing import Any

import pytest
import torch

from agents.jobs import Stopped
from agents.learning.off_policy import DQNSettings
from agents.run.agent import make_agent
from agents.run.config import AgentRun, EvaluationConfig
from agents.run.episodes import evaluation_seed, training_seed
from agents.run.evaluation import Evaluation
from agents.run.training import train_agent

SEEDS = (0, 1)


def go_on(steps: int, note: str) -> bool:
    return False


def parameters(folder: Path) -> dict[str, Any]:
    return torch.load(folder / "resume.pt", weights_only=True)["parameters"]


def first_weights(config: AgentRun) -> dict[str, torch.Tensor]:
    with pytest.raises(Stopped):
        train_agent(config, lambda steps, note: True)
    return parameters(config.run)["policy"]


def test_runs_of_other_seeds_begin_with_other_weights(small_run, tmp_path) -> None:
    zero, one = (first_weights(small_run(seed=seed, run=tmp_path / str(seed))) for seed in SEEDS)
    drawn = [name for name, tensor in zero.items() if tensor.ndim > 1]
    assert drawn
    assert not [name for name in drawn if torch.equal(zero[name], one[name])]


def test_runs_of_other_seeds_train_in_other_worlds_and_are_evaluated_in_the_same(small_run, worlds, tmp_path) -> None:
    evaluated: list[list[list[int | None]]] = []
    for seed in SEEDS:
        worlds.made.clear()
        train_agent(small_run(seed=seed, steps=32, run=tmp_path / str(seed)), go_on)
        # 16 steps of each are an episode of 15 and the beginning of another
        assert [world.seeds for world in worlds.made[:2]] == [[training_seed(seed, index, k) for k in range(2)] for index in range(2)]
        evaluated.append([world.seeds for world in worlds.made[2:]])
    assert evaluated[0] == evaluated[1]
    assert [seeds[0] for seeds in evaluated[0]] == [evaluation_seed(number) for number in range(3)]


def returns_of(config: AgentRun, deterministic: bool, seed: int, epsilon: float = 0.0) -> list[float]:
    """Play the last evaluation of a finished run with its agent once more."""
    agent = make_agent(config, None)
    agent.algorithm.set_parameters(parameters(config.run))
    evaluation = Evaluation(config.environment, None, config.evaluation.final_episodes)
    return evaluation.play_policy(agent.algorithm.policy, config.evaluation.final_episodes, deterministic, seed, epsilon=epsilon).returns


def test_actions_in_evaluation_are_drawn_by_the_runs_seed(small_run) -> None:
    config = small_run(seed=1, steps=32)
    found = train_agent(config, go_on)["final_returns"]
    assert found == returns_of(config, False, 1)
    assert found not in (returns_of(config, False, 0), returns_of(config, True, 1))


def test_an_evaluation_that_is_deterministic_draws_nothing(small_run) -> None:
    config = small_run(steps=32, evaluation=EvaluationConfig(every=64, episodes=2, final_episodes=3, deterministic=True))
    found = train_agent(config, go_on)["final_returns"]
    assert found == returns_of(config, True, 0) == returns_of(config, True, 5)
    assert found != returns_of(config, False, 0)


def test_dqn_explores_in_evaluation_as_much_as_at_the_end_of_training(small_run) -> None:
    settings = DQNSettings(n_envs=2, net_arch=(16,), buffer_size=32, learning_starts=16, batch_size=4, exploration_final_eps=0.4)
    config = small_run(seed=1, steps=32, algorithm=settings)
    found = train_agent(config, go_on)["final_returns"]
    assert found == returns_of(config, False, 1, epsilon=0.4)
    assert found != returns_of(config, False, 1, epsilon=0.0)
