"""What a run logs of itself is what its worlds have seen."""

import json
from typing import Any

import numpy as np
import pytest

from agents.run.episodes import evaluation_seed
from agents.run.training import train_agent
from tests.fixtures.agents import BrightWorld

SKIP = 4
"""Game ticks of an agent step."""


class Uneven(BrightWorld):
    """Episodes of two agent steps in even worlds, and of five in odd ones; keeps what each came to."""

    def __init__(self) -> None:
        super().__init__()
        self.steps = 0.0
        self.ended: list[tuple[float, float, float]] = []
        """After how many agent steps in all, return, agent steps."""

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        assert seed is not None
        self.episode_ticks, self.gained = (5 if seed % 2 else 2) * SKIP, 0.0
        return super().reset(seed=seed, options=options)

    def step(self, action: dict[str, Any]) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        observation, reward, terminated, truncated, info = super().step(action)
        self.gained += reward
        self.steps += 1 / SKIP
        if truncated:
            self.ended.append((self.steps, self.gained, self.ticks / SKIP))
        return observation, reward, terminated, truncated, info


@pytest.fixture
def logged(small_run, monkeypatch: pytest.MonkeyPatch) -> tuple[list[dict[str, Any]], list[Uneven]]:
    """Return the lines that a run of 128 steps in two environments wrote, a rollout each 32, and the worlds it trained in."""
    made: list[Uneven] = []

    def make(name: str) -> Uneven:
        made.append(Uneven())
        return made[-1]

    monkeypatch.setattr("envs.make_env", make, raising=False)
    config = small_run()
    train_agent(config, lambda steps, note: False)
    return [json.loads(line) for line in (config.run / "metrics.jsonl").read_text().splitlines()], made[:2]


def test_a_rollouts_return_and_length_are_the_means_of_the_episodes_that_ended_in_it(logged) -> None:
    lines, worlds = logged
    rollouts = [line for line in lines if "episodes" in line]
    assert [line["step"] for line in rollouts] == [32, 64, 96, 128]
    before = 0
    for line in rollouts:
        # of two environments
        last = line["step"] / 2
        ended = [(gained, steps) for world in worlds for at, gained, steps in world.ended if last - 16 < at <= last]
        assert len(set(ended)) > 2
        assert (line["rollout/return"], line["rollout/episode_steps"]) == pytest.approx(tuple(np.mean(ended, axis=0)))
        before += len(ended)
        assert line["episodes"] == before


def test_an_evaluations_return_and_length_are_the_means_of_its_episodes(logged) -> None:
    lines, _ = logged
    evaluations = [line for line in lines if "evaluation/returns" in line]
    assert [(line["step"], len(line["evaluation/returns"])) for line in evaluations] == [(64, 2), (128, 3)]
    for line in evaluations:
        returns = line["evaluation/returns"]
        assert min(returns) < max(returns)
        assert line["evaluation/return"] == pytest.approx(sum(returns) / len(returns))
        steps = [5 if evaluation_seed(number) % 2 else 2 for number in range(len(returns))]
        assert line["evaluation/episode_steps"] == pytest.approx(sum(steps) / len(steps))
