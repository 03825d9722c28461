"""The scripted player plays well enough to record, and wanders enough to be worth recording."""

import numpy as np
import pytest

import envs
from foundation.errors import UserError


def episode(name, seed, noise, ticks):
    env, player = envs.make_env(name, episode_ticks=ticks), envs.scripted_player(name, noise=noise)
    observation, info = env.reset(seed=seed)
    player.reset(seed)
    total, pitches, done = 0.0, [], False
    while not done:
        action = player(observation, info)
        assert env.action_space.contains(action)
        observation, reward, terminated, truncated, info = env.step(action)
        total += reward
        pitches.append(info["pitch"])
        done = terminated or truncated
    return total, np.array(pitches), terminated


@pytest.mark.parametrize("seed", range(4))
def test_it_chops_several_logs_in_a_thousand_ticks(seed):
    total, _, _ = episode("VoxelTreechop-v0", seed, noise=0.2, ticks=1000)
    assert total >= 8


@pytest.mark.parametrize("seed", range(3))
def test_it_reaches_the_goal(seed):
    total, _, terminated = episode("VoxelNavigate-v0", seed, noise=0.2, ticks=3000)
    assert terminated
    assert total == 100


def test_noise_makes_it_look_at_the_sky_and_the_ground():
    _, pitches, _ = episode("VoxelTreechop-v0", 0, noise=0.8, ticks=1500)
    assert pitches.min() < -30
    assert pitches.max() > 30


def test_the_same_seed_plays_the_same_way():
    first, second = (episode("VoxelTreechop-v0", 1, noise=0.5, ticks=200) for _ in range(2))
    np.testing.assert_array_equal(first[1], second[1])


def test_it_says_what_it_cannot_play():
    with pytest.raises(UserError, match="no scripted player for 'CartPole-v1'"):
        envs.scripted_player("CartPole-v1")
    with pytest.raises(UserError, match="noise"):
        envs.scripted_player("VoxelTreechop-v0", noise=1.5)
