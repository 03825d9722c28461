"""Targets of several steps hold what a walk along the episode finds, and never reach into another one."""

import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3.common.buffers import NStepReplayBuffer

from agents.learning.algorithms import build_algorithm
from agents.learning.n_step import NStepDictReplayBuffer
from agents.learning.replay import cut_episodes
from agents.run.environment import training_environments
from agents.run.environment_config import EnvironmentConfig

N_STEPS, GAMMA, ENVS, LENGTH = 4, 0.9, 3, 50
NUMBER = spaces.Box(-1e6, 1e6, (1,), np.float32)
PAIR = spaces.Dict({"place": NUMBER, "minus": NUMBER})


def filled(space, rows):
    """Return a buffer whose observations are their places since the beginning, and all that was put into it."""
    make = NStepDictReplayBuffer if space is PAIR else NStepReplayBuffer
    buffer = make(LENGTH * ENVS, space, spaces.Discrete(5), n_envs=ENVS, n_steps=N_STEPS, gamma=GAMMA)
    random = np.random.default_rng(0)
    story = []
    for row in range(rows):
        place = (row * ENVS + np.arange(ENVS, dtype=np.float32))[:, None]
        ended, cut = random.random(ENVS) < 0.2, random.random(ENVS) < 0.5
        step = {"reward": random.normal(size=ENVS), "done": ended, "timeout": ended & cut, "action": random.integers(0, 5, ENVS)}
        pair = [{"place": at, "minus": -at} if space is PAIR else at for at in (place, place + 0.5)]
        buffer.add(*pair, step["action"], step["reward"], ended, [{"TimeLimit.truncated": bool(one)} for one in step["timeout"]])
        story.append(step)
    return buffer, story


def walked(story, row, env):
    """Return what a target from there holds: rewards, the row of the last step, whether the episode ended there, the discount."""
    total, last = 0.0, row
    for ahead in range(N_STEPS):
        last = row + ahead
        total += GAMMA**ahead * story[last]["reward"][env]
        if story[last]["done"][env] or last == len(story) - 1:
            break
    return total, last, story[last]["done"][env] and not story[last]["timeout"][env], GAMMA ** (last - row + 1)


@pytest.mark.parametrize("space", [NUMBER, PAIR], ids=["array", "dictionary"])
@pytest.mark.parametrize("rows", [30, 50, 83])
def test_a_sample_is_what_a_walk_along_the_episode_finds(space, rows) -> None:
    buffer, story = filled(space, rows)
    samples = buffer.sample(400)
    first, after = ((one["place"] if space is PAIR else one)[:, 0].numpy() for one in (samples.observations, samples.next_observations))
    if space is PAIR:
        assert torch.equal(samples.observations["minus"], -samples.observations["place"])
    assert len(set(first)) > 60
    for index, place in enumerate(first):
        row, env = divmod(int(place), ENVS)
        total, last, ended, discount = walked(story, row, env)
        assert after[index] == last * ENVS + env + 0.5
        assert samples.rewards[index].item() == pytest.approx(total, abs=1e-5)
        assert (bool(samples.dones[index]), samples.discounts[index].item()) == (ended, pytest.approx(discount))
        assert samples.actions[index].item() == story[row]["action"][env]


@pytest.mark.parametrize("space", [NUMBER, PAIR], ids=["array", "dictionary"])
def test_no_target_reaches_from_episodes_that_were_cut_into_those_that_follow(space) -> None:
    buffer, _ = filled(space, 20)
    cut_episodes(buffer)
    for row in range(20, 40):
        place = (row * ENVS + np.arange(ENVS, dtype=np.float32))[:, None]
        observation = {"place": place, "minus": -place} if space is PAIR else place
        buffer.add(observation, observation, np.zeros(ENVS), np.zeros(ENVS), np.zeros(ENVS), [{}] * ENVS)
    samples = buffer.sample(400)
    first, after = ((one["place"] if space is PAIR else one)[:, 0].numpy() for one in (samples.observations, samples.next_observations))
    before = first < 20 * ENVS
    assert before.sum() > 50
    assert (after[before] < 20 * ENVS).all()


@pytest.mark.parametrize("kind", ["dqn", "qrdqn", "sac", "td3"])
def test_several_steps_are_asked_for_by_one_setting_whatever_is_observed(kind, worlds) -> None:
    environment = EnvironmentConfig(name="Bright", continuous=kind in ("sac", "td3"))
    venv = training_environments(environment, 2, 0, None)
    settings = {"kind": kind, "n_envs": 2, "net_arch": [8], "buffer_size": 48, "n_steps": 3, "gamma": 0.9}
    assert isinstance(build_algorithm(settings).make(venv, 0, "cpu").replay_buffer, NStepReplayBuffer)
    inside = type(venv.observation_space)
    assert inside is not spaces.Dict
    venv.observation_space = spaces.Dict({"latents": NUMBER, "inventory": NUMBER})
    made = build_algorithm(settings).make(venv, 0, "cpu")
    assert isinstance(made.replay_buffer, NStepDictReplayBuffer)
    assert (made.replay_buffer._sums.n_steps, made.replay_buffer._sums.gamma) == (3, 0.9)
