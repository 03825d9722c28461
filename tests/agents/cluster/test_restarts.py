"""Environments that die in a run are counted, and no death changes what an agent is said to score."""

import json

import gymnasium
import numpy as np
import pytest

from agents.jobs import Stopped
from agents.run.environment_config import EnvironmentConfig
from agents.run.evaluation import Evaluation
from agents.run.training import train_agent

BRIGHT = EnvironmentConfig(name="Bright", frame_skip=4)


class Fragile(gymnasium.Wrapper):
    """Dies at some of its ticks, as the MineRL environment tells it; before every death but the first, a reset fails too."""

    def __init__(self, env, fatal):
        super().__init__(env)
        self.fatal, self.ticks, self.deaths = fatal, 0, 0

    def counts(self):
        return {"minerl/deaths": self.deaths, "minerl/failed_resets": max(self.deaths - 1, 0)}

    def reset(self, **options):
        observation, info = self.env.reset(**options)
        return observation, {**info, **self.counts()}

    def step(self, action):
        observation, reward, terminated, truncated, info = self.env.step(action)
        self.ticks += 1
        if self.ticks in self.fatal:
            self.deaths += 1
            return observation, 0.0, False, True, {"minerl/error": "it died", **self.counts()}
        return observation, reward, terminated, truncated, {**info, **self.counts()}


@pytest.fixture
def fragile(worlds, monkeypatch):
    """Return a function that lets every environment made from now on die at the given ticks of its life."""

    def choose(*fatal):
        monkeypatch.setattr("envs.make_env", lambda name, **options: Fragile(worlds(name, **options), fatal))

    return choose


def lines(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_a_run_has_all_its_steps_and_counts_what_died_in_training_and_evaluation(small_run, fragile) -> None:
    fragile(30, 70, 110)
    result = train_agent(small_run(), lambda steps, note: False)
    assert result["steps"] == 128
    # two environments of training and three of evaluation play more than 110 ticks each
    assert (result["deaths"], result["failed_resets"], result["restarts"]) == (15, 10, 25)
    counted = [line["environments/deaths"] for line in lines(small_run().run) if "environments/deaths" in line]
    assert counted == sorted(counted)
    assert counted[-1] >= 6


def test_a_run_without_deaths_says_so_and_writes_no_such_metric(small_run, worlds) -> None:
    result = train_agent(small_run(), lambda steps, note: False)
    assert (result["deaths"], result["failed_resets"], result["restarts"]) == (0, 0, 0)
    assert not any("environments/deaths" in line for line in lines(small_run().run))


def test_a_resumed_run_counts_on(small_run, fragile) -> None:
    fragile(30)
    with pytest.raises(Stopped):
        train_agent(small_run(), lambda steps, note: steps >= 32)
    result = train_agent(small_run(), lambda steps, note: False)
    # two environments of training before the stop, two after it, three of evaluation
    assert result["deaths"] == 7


def test_an_evaluation_plays_what_a_death_cut_off_again_and_returns_the_same(worlds, fragile) -> None:
    def returns(*fatal):
        fragile(*fatal)
        return Evaluation(BRIGHT, None, 2).play(lambda *_: np.ones(2, int), 5, keep_pictures=True)

    whole, broken = returns(), returns(30, 31 + 60 + 12)
    assert broken.returns == whole.returns
    assert broken.lengths == whole.lengths
    assert len(broken.pictures) == len(whole.pictures)


def test_a_world_that_dies_every_time_is_given_up_after_two_more_tries(worlds, fragile) -> None:
    fragile(*range(10, 10_000, 10))
    evaluation = Evaluation(BRIGHT, None, 1)
    assert evaluation.play(lambda *_: np.zeros(1, int), 3).lengths == [3, 3, 3]
    assert evaluation.venv.get_attr("restarts")[0]["deaths"] == 9
