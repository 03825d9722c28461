"""Evaluation plays the same worlds for everyone, and changes nothing in training."""

import random
from dataclasses import replace
from functools import partial

import gymnasium
import numpy as np
import pytest
import torch
from stable_baselines3.common.utils import set_random_seed

from agents.learning.on_policy import PPOSettings
from agents.run.environment import training_environments
from agents.run.environment_config import EnvironmentConfig
from agents.run.episodes import can_restore, evaluation_seed, training_seed
from agents.run.evaluation import Evaluation, play_random
from foundation.pictures import Thinned

BRIGHT = EnvironmentConfig(name="Bright", frame_skip=4)


def test_no_training_world_is_an_evaluation_world() -> None:
    training = {training_seed(run, env, episode) for run in range(3) for env in range(8) for episode in range(50)}
    evaluation = {evaluation_seed(episode) for episode in range(1000)}
    assert len(training) == 3 * 8 * 50
    assert not training & evaluation


def test_every_evaluation_plays_the_same_worlds_in_the_same_order(worlds) -> None:
    few, many = Evaluation(BRIGHT, None, 2), Evaluation(BRIGHT, None, 5)
    always = np.zeros(8, int)
    first = few.play(lambda *_: always[:2], 5)
    again = few.play(lambda *_: always[:2], 5)
    wider = many.play(lambda *_: always[:5], 5)
    assert first.returns == again.returns == wider.returns
    assert len(set(first.returns)) > 1


def drawn(seed=None):
    """Draw from every global generator, begun anew where there is a seed."""
    if seed is not None:
        set_random_seed(seed)
    return torch.rand(3).tolist(), np.random.random(3).tolist(), random.random()  # noqa: NPY002


def test_what_an_environment_draws_from_global_generators_is_the_same_each_time_and_not_trainings(worlds, monkeypatch) -> None:
    class Careless(gymnasium.RewardWrapper):
        def reward(self, reward):
            return reward + random.random() + np.random.random()  # noqa: NPY002

    monkeypatch.setattr("envs.make_env", lambda name, **options: Careless(worlds(name)), raising=False)
    venv = training_environments(BRIGHT, 1, 0, None)
    policy = PPOSettings(n_envs=1, n_steps=16, batch_size=16).make(venv, 0, "cpu").policy
    evaluation, expected = Evaluation(BRIGHT, None, 2), drawn(5)
    set_random_seed(5)
    first = evaluation.play_policy(policy, 4, deterministic=False, seed=1).returns
    assert drawn() == expected
    assert evaluation.play_policy(policy, 4, deterministic=False, seed=1).returns == first
    assert evaluation.play_policy(policy, 4, deterministic=False, seed=2).returns != first
    # the 0 of normalised scores too
    assert play_random(BRIGHT, 4, seed=1).returns == play_random(BRIGHT, 4, seed=1).returns


@pytest.mark.parametrize(("episodes", "at_once", "environments"), [(3, 8, 3), (24, 8, 8), (24, 12, 12), (24, 2, 2)])
def test_as_many_environments_as_are_asked_for_play_at_once(worlds, episodes, at_once, environments) -> None:
    evaluation = Evaluation(replace(BRIGHT, evaluated_at_once=at_once), None, episodes)
    assert evaluation.venv.num_envs == environments
    evaluation.close()


def test_sampling_in_evaluation_leaves_trainings_random_numbers_alone(worlds) -> None:
    venv = training_environments(BRIGHT, 1, 0, None)
    policy = PPOSettings(n_envs=1, n_steps=16, batch_size=16).make(venv, 0, "cpu").policy
    evaluation = Evaluation(BRIGHT, None, 2)
    expected = drawn(5)
    set_random_seed(5)
    one = evaluation.play_policy(policy, 2, deterministic=False, seed=1)
    assert drawn() == expected
    assert evaluation.play_policy(policy, 2, deterministic=False, seed=1).returns == one.returns


def test_another_packages_restore_state_is_not_taken_for_ours(worlds) -> None:
    class Foreign(gymnasium.Env):
        def restore_state(self, reference): ...

    assert can_restore(worlds("Bright"))
    assert not can_restore(Foreign())


def test_the_random_policy_is_reproducible(worlds) -> None:
    assert play_random(BRIGHT, 3, seed=1).returns == play_random(BRIGHT, 3, seed=1).returns


def test_returns_are_sums_over_all_ticks_of_an_episode(worlds) -> None:
    world = worlds("Bright")
    world.reset(seed=evaluation_seed(0))
    expected = sum(world.step({"attack": 1})[1] for _ in range(60))
    played = Evaluation(BRIGHT, None, 1).play(lambda *_: np.array([0]), 1, keep_pictures=True)
    assert played.returns == [expected]
    assert expected != 0
    assert played.lengths == [15]
    assert len(played.pictures) == 15


def test_of_a_long_episode_every_nth_picture_is_kept_and_its_film_lasts_as_long() -> None:
    for count, expected in ((7, range(7)), (8, range(8)), (9, range(0, 9, 2)), (40, range(0, 40, 8))):
        film = Thinned(most=8)
        picture = np.zeros((1, 1, 3), np.uint8)
        for number in range(count):
            # an environment draws the next picture into the same array
            picture[:] = number
            film.add(picture)
        assert [int(one[0, 0, 0]) for one in film.pictures] == list(expected)
        assert film.every == expected.step


def test_the_pictures_of_a_long_episode_say_at_which_rate_they_are(worlds, monkeypatch) -> None:
    monkeypatch.setattr("agents.run.evaluation.Thinned", partial(Thinned, most=4))
    played = Evaluation(BRIGHT, None, 1).play(lambda *_: np.array([0]), 1, keep_pictures=True)
    # 15 steps of 4 ticks at 20 ticks a second, of which every fourth is kept
    assert (len(played.pictures), played.frames_per_second) == (4, 20 / 4 / 4)
