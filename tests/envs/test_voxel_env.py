"""What the voxel tasks promise to an agent and to a recorder."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

import envs
from envs.voxel import blocks, kernels
from foundation.errors import UserError

NAVIGATE = ["VoxelNavigate-v0", "VoxelNavigateDense-v0"]
TASKS = ["VoxelTreechop-v0", *NAVIGATE, "VoxelForage-v0", "VoxelFindCave-v0", "VoxelRecall-v0"]
ROOT = Path(__file__).resolve().parents[2]
PLAY = """
import hashlib, numpy as np, envs
env = envs.make_env("VoxelTreechop-v0")
env.action_space.seed(5)
frames = [env.reset(seed=11)[0]["pov"]]
for _ in range(40):
    frames.append(env.step({**env.action_space.sample(), "attack": 1})[0]["pov"])
print(hashlib.sha256(np.stack(frames).tobytes()).hexdigest())
"""


def play(env, actions):
    return [env.step(action) for action in actions]


def some_actions(env, count, seed=0):
    env.action_space.seed(seed)
    return [{**env.action_space.sample(), "camera": np.array([3.0, 9.0], np.float32)} for _ in range(count)]


@pytest.mark.parametrize("name", TASKS)
def test_gymnasium_accepts_the_raw_environment(name):
    check_env(envs.make_env(name, episode_ticks=50), skip_render_check=True)


@pytest.mark.parametrize("name", TASKS)
def test_spaces_are_minerls(name):
    env = envs.make_env(name)
    moves = {"attack", "back", "camera", "forward", "jump", "left", "right", "sneak", "sprint"}
    observation, _ = env.reset(seed=0)
    assert observation["pov"].shape == (64, 64, 3)
    assert observation["pov"].dtype == np.uint8
    if name not in NAVIGATE:
        assert set(env.action_space) == moves
        assert set(env.observation_space) == {"pov"}
    else:
        assert set(env.action_space) == moves | {"place"}
        assert env.observation_space["compass"]["angle"].shape == ()
        assert env.observation_space["inventory"]["dirt"].high == 2304
    assert env.observation_space.contains(observation)


@pytest.mark.parametrize("name", TASKS)
def test_same_seed_and_actions_give_the_same_frames(name):
    first, second = envs.make_env(name), envs.make_env(name)
    start, again = first.reset(seed=3)[0], second.reset(seed=3)[0]
    np.testing.assert_array_equal(start["pov"], again["pov"])
    actions = some_actions(first, 60)
    for one, two in zip(play(first, actions), play(second, actions), strict=True):
        np.testing.assert_array_equal(one[0]["pov"], two[0]["pov"])
        assert one[1] == two[1]


def test_frames_are_the_same_in_another_process():
    def digest():
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        return subprocess.run([sys.executable, "-c", PLAY], env=environment, capture_output=True, text=True, check=True).stdout.strip()

    env = envs.make_env("VoxelTreechop-v0")
    env.action_space.seed(5)
    frames = [env.reset(seed=11)[0]["pov"]]
    frames += [env.step({**env.action_space.sample(), "attack": 1})[0]["pov"] for _ in range(40)]
    assert digest() == hashlib.sha256(np.stack(frames).tobytes()).hexdigest()


def test_other_seeds_give_other_worlds_and_a_reset_without_seed_goes_on_to_the_next():
    env = envs.make_env("VoxelTreechop-v0")
    frames = [env.reset(seed=0)[0]["pov"], env.reset()[0]["pov"], env.reset(seed=1)[0]["pov"]]
    assert not np.array_equal(frames[0], frames[1])
    assert not np.array_equal(frames[0], frames[2])


@pytest.mark.parametrize("name", TASKS)
def test_a_restored_state_has_the_same_future_into_the_next_episode(name):
    env, other = envs.make_env(name, episode_ticks=60), envs.make_env(name, episode_ticks=60)
    env.reset(seed=4)
    actions = [{**action, "attack": 1} for action in some_actions(env, 60)]
    play(env, actions[:30])
    state = env.save_state()
    other.restore_state(state)
    for one, two in zip(play(env, actions[30:]), play(other, actions[30:]), strict=True):
        np.testing.assert_array_equal(one[0]["pov"], two[0]["pov"])
        assert one[1:4] == two[1:4]
    np.testing.assert_array_equal(env.reset()[0]["pov"], other.reset()[0]["pov"])


def test_a_saved_state_is_not_changed_by_what_happens_later_and_holds_only_arrays():
    env = envs.make_env("VoxelTreechop-v0")
    env.reset(seed=4)
    state = env.save_state()
    before = {name: array.copy() for name, array in state.items()}
    play(env, some_actions(env, 30))
    env.restore_state(state)
    play(env, some_actions(env, 30))
    for name, array in state.items():
        assert array.dtype != object
        np.testing.assert_array_equal(array, before[name])


def test_a_state_of_another_task_is_refused():
    treechop, navigate = envs.make_env("VoxelTreechop-v0"), envs.make_env("VoxelNavigate-v0")
    treechop.reset(seed=0)
    with pytest.raises(UserError, match="VoxelNavigate-v0"):
        navigate.restore_state(treechop.save_state())


@pytest.mark.parametrize("name", TASKS)
def test_step_ticks_is_that_many_steps_with_the_last_frame(name):
    slow, fast = envs.make_env(name), envs.make_env(name)
    slow.reset(seed=8)
    fast.reset(seed=8)
    for action in some_actions(slow, 25):
        steps = play(slow, [action] * 4)
        observation, reward, _, _, info = fast.step_ticks(action, 4)
        np.testing.assert_array_equal(observation["pov"], steps[-1][0]["pov"])
        assert reward == pytest.approx(sum(step[1] for step in steps))
        assert info["ticks"] == steps[-1][4]["ticks"]


def test_an_episode_is_truncated_at_its_length_also_within_a_frame_skip():
    env = envs.make_env("VoxelTreechop-v0", episode_ticks=10)
    env.reset(seed=0)
    for _ in range(2):
        assert env.step_ticks({}, 4)[2:4] == (False, False)
    _, _, terminated, truncated, info = env.step_ticks({}, 4)
    assert (terminated, truncated, info["ticks"]) == (False, True, 10)


def test_default_lengths_are_minerls_where_it_has_the_task():
    assert [envs.make_env(name).episode_ticks for name in TASKS] == [8000, 6000, 6000, 4000, 3600, 600]


def test_treechop_is_won_with_the_64th_log():
    env = envs.make_env("VoxelTreechop-v0")
    env.reset(seed=0)
    env._player[kernels.LOGS] = 63
    player = envs.scripted_player("VoxelTreechop-v0", noise=0.0)
    observation, _, _, _, info = env.step({})
    terminated, reward = False, 0.0
    while not terminated and info["ticks"] < 1000:
        observation, reward, terminated, truncated, info = env.step(player(observation, info))
        assert not truncated
    assert terminated
    assert reward == 1.0
    assert info["logs"] == 64


def test_navigate_pays_100_on_touching_and_dense_adds_the_way_gone():
    totals = {}
    for name in ("VoxelNavigate-v0", "VoxelNavigateDense-v0"):
        env, player = envs.make_env(name), envs.scripted_player(name, noise=0.0)
        observation, info = env.reset(seed=2)
        player.reset(0)
        start, total, terminated = info["target_distance"], 0.0, False
        while not terminated:
            observation, reward, terminated, truncated, info = env.step(player(observation, info))
            total += reward
            assert not truncated
        totals[name] = total
        assert 60 < start < 68
    assert totals["VoxelNavigate-v0"] == 100.0
    assert 58 < totals["VoxelNavigateDense-v0"] - 100.0 < 66


def test_the_compass_points_to_the_goal():
    env = envs.make_env("VoxelNavigate-v0")
    observation, info = env.reset(seed=5)
    angle = float(observation["compass"]["angle"])
    assert angle == pytest.approx(info["target_bearing"], abs=1e-3)
    observation, _, _, _, info = env.step({"camera": [0.0, angle]})
    assert abs(float(observation["compass"]["angle"])) < 1e-3
    away = info["target_position"] - info["position"]
    yaw = np.radians(info["yaw"])
    assert np.dot([-np.sin(yaw), np.cos(yaw)], away[[0, 2]]) == pytest.approx(np.hypot(away[0], away[2]))


def test_a_goal_lies_in_the_picture_where_the_compass_says():
    env = envs.make_env("VoxelNavigate-v0", frame_size=64)
    env.reset(seed=5)
    x, y, z = (int(v) for v in env._player[:3])
    kernels.put_block(env._world.cells, env._world.top, x, y + 1, z + 3, blocks.DIAMOND)
    env._player[kernels.YAW], env._player[kernels.PITCH] = 0.0, 0.0
    cyan = env.step({})[0]["pov"][28:36, 28:36].reshape(-1, 3).mean(0)
    assert cyan[1] > 1.4 * cyan[0]
    assert cyan[2] > 1.4 * cyan[0]


def test_info_never_enters_the_observation():
    env = envs.make_env("VoxelNavigate-v0")
    observation, info = env.reset(seed=0)
    assert set(observation) == {"pov", "compass", "inventory"}
    assert info["position"].shape == (3,)
    assert {"yaw", "pitch", "target_distance", "target_bearing", "logs"} <= set(info)


def test_the_first_tick_can_already_jump():
    env = envs.make_env("VoxelTreechop-v0")
    before = env.reset(seed=0)[1]["position"][1]
    assert env.step({"jump": 1})[4]["position"][1] == pytest.approx(before + 0.42)


@pytest.mark.parametrize("size", [32, 128])
def test_the_frame_size_is_the_users(size):
    env = envs.make_env("VoxelTreechop-v0", frame_size=size)
    assert env.reset(seed=0)[0]["pov"].shape == (size, size, 3) == env.observation_space["pov"].shape


def test_place_takes_numbers_and_minerls_words():
    env = envs.make_env("VoxelNavigate-v0")
    for value in (0, 1, np.int64(1), "dirt", "none"):
        env.reset(seed=0)
        env.step({"place": value})
    with pytest.raises(UserError, match="did you mean 'dirt'"):
        env.step({"place": "dirtt"})


@pytest.mark.parametrize(
    ("action", "message"), [({"atack": 1}, "did you mean 'attack'"), ({"camera": [np.nan, 0]}, "finite"), ({"place": 0}, "unknown action")]
)
def test_a_wrong_action_is_named(action, message):
    env = envs.make_env("VoxelTreechop-v0")
    env.reset(seed=0)
    with pytest.raises(UserError, match=message):
        env.step(action)
