"""The scripted player plays well enough to record, and wanders enough to be worth recording."""

import numpy as np
import pytest

import envs
from foundation.errors import UserError


def episode(name, seed, noise, ticks, **options):
    env, player = envs.make_env(name, episode_ticks=ticks), envs.scripted_player(name, noise=noise, **options)
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


@pytest.mark.parametrize("seed", range(2))
def test_who_only_sees_chops_logs_too(seed):
    total, pitches, _ = episode("VoxelTreechop-v0", seed, noise=0.0, ticks=1200, sees=True)
    assert total >= 8
    # it looks up at what is left of a trunk
    assert pitches.min() < -30


def test_who_only_sees_finds_the_goal_by_the_compass():
    total, _, terminated = episode("VoxelNavigate-v0", 0, noise=0.2, ticks=3000, sees=True)
    assert terminated
    assert total == 100


def scrambled(info, random):
    """Tell something else of the target, wherever it is."""
    told = {"target_distance": random.uniform(0, 20), "target_bearing": random.uniform(-180, 180)}
    return {**info, **told, "target_position": random.uniform(0, 30, 3), "state": {}}


@pytest.mark.parametrize("noise", [0.0, 0.5])
def test_who_only_sees_never_acts_on_what_is_hidden(noise):
    name, random = "VoxelTreechop-v0", np.random.default_rng(0)
    env = envs.make_env(name)
    told, misled = (envs.scripted_player(name, noise=noise, sees=True) for _ in range(2))
    observation, info = env.reset(seed=5)
    blind = 0
    for _ in range(600):
        action, other = told(observation, info), misled(observation, scrambled(info, random))
        assert all(np.array_equal(action[key], other[key]) for key in action)
        blind += np.isinf(info["seen_distance"])
        observation, _, _, _, info = env.step(action)
    assert blind > 20


def test_who_only_sees_turns_to_what_it_sees():
    name = "VoxelTreechop-v0"
    env, player = envs.make_env(name), envs.scripted_player(name, noise=0.0, sees=True)
    observation, info = env.reset(seed=5)
    turned = 0
    for _ in range(700):
        detour = player._detour_left
        action = player(observation, info)
        if np.isfinite(info["seen_distance"]) and abs(info["seen_bearing"]) > 5 and detour == player._detour_left == 0:
            assert np.sign(action["camera"][1]) == np.sign(info["seen_bearing"])
            turned += 1
        observation, _, _, _, info = env.step(action)
    assert turned > 8


def test_a_target_that_stays_where_it_is_is_no_new_one():
    info = {"position": np.array([3.0, 9.0, 3.0]), "pitch": 0.0, "aimed_block": "air"}
    info |= {"target_distance": 4.0, "target_bearing": 0.0}
    player, detours = envs.scripted_player("VoxelForage-v0", noise=0.0), []
    for tick in range(100):
        # as it is told: by way of the eye, off the middle of its block by rounding
        middle = np.array([3.5, 9.5, 7.5]) + (-1) ** tick * 1e-14
        player({}, {**info, "target_position": middle})
        detours.append(player._detour_left > 0)
    assert any(detours)
    player.reset(0)
    for tick in range(100):
        player({}, {**info, "target_position": np.array([3.5, 9.5, 7.5 + tick // 30])})
        assert player._detour_left == 0


def test_it_clears_the_leaves_over_its_head_where_it_cannot_jump():
    # in this world a step in the ground lies under a tree's crown
    total, pitches, _ = episode("VoxelForage-v0", 2**30 + 6, noise=0.0, ticks=1000)
    assert total > 25
    assert pitches.min() < -60
