"""Forage, FindCave and Recall: what pays, what ends an episode, and what a picture must not tell."""

import numpy as np
import pytest

import envs
from envs.voxel import blocks, kernels, rules, textures
from tests.envs.test_physics import GROUND, block_at, flat_world, put

FORAGE, FIND_CAVE, RECALL = "VoxelForage-v0", "VoxelFindCave-v0", "VoxelRecall-v0"


def played(env, actions):
    return [env.step(action) for action in actions]


def stood_at(env, place, yaw=0.0):
    """Put the player at rest on a place and play a tick there."""
    env._player[:] = rules.standing(np.asarray(place, float), yaw)
    return env.step({})


@pytest.mark.parametrize(("plant", "paid"), [(blocks.FLOWER, 1), (blocks.MUSHROOM, -1)])
@pytest.mark.parametrize("how", ["by walking into it", "by hand"])
def test_a_flower_pays_and_a_mushroom_costs_once(plant, paid, how):
    env = flat_world(FORAGE)
    put(env, 64, GROUND + 1, 67, plant)
    if how == "by hand":
        env._player[kernels.PITCH] = 30
        steps = played(env, [{"attack": 1}] * 3)
    else:
        steps = played(env, [{"forward": 1}] * 25)
    assert sum(step[1] for step in steps) == paid
    assert block_at(env, 64, GROUND + 1, 67) == "air"
    assert not any(step[2] for step in steps)
    assert steps[-1][4]["aimed_block"] == ("grass" if how == "by hand" else "air")


def test_two_plants_touched_at_once_both_count():
    env = flat_world(FORAGE)
    for x in (63, 64):
        put(env, x, GROUND + 1, 66, blocks.FLOWER)
    put(env, 64, GROUND + 1, 68, blocks.MUSHROOM)
    env._player[kernels.X] = 64.0
    assert sum(step[1] for step in played(env, [{"forward": 1}] * 30)) == 2 - 1


def test_there_are_as_many_mushrooms_as_flowers_and_their_colours_are_near():
    env = envs.make_env(FORAGE)
    env.reset(seed=0)
    counts = [int((env._world.cells == plant).sum()) for plant in (blocks.FLOWER, blocks.MUSHROOM)]
    assert counts[0] == counts[1] == len(env._world.places) == 300
    tiles = textures.tinted_atlas(np.ones(3))[textures.tile_table()[[blocks.FLOWER, blocks.MUSHROOM], 0], 0].astype(float)
    means = tiles.mean((1, 2))
    assert np.abs(means[0] - means[1]).max() < 20
    assert np.abs(means[0] - means[0].mean()).max() > 60  # red on green grass: they stand out, only not from one another
    assert np.abs(tiles[0] - tiles[1]).mean() > 20


def test_the_target_is_the_nearest_flower_and_the_next_one_when_it_is_picked():
    env = envs.make_env(FORAGE)
    _, info = env.reset(seed=3)
    world = env._world
    for _ in range(3):
        x, y, z = (int(value) for value in np.floor(info["target_position"]))
        assert world.cells[x % world.size, z % world.size, y] == blocks.FLOWER
        before = info["target_position"]
        info = stood_at(env, info["target_position"] + (0, 0.5, 0))[4]
        assert not np.array_equal(info["target_position"].round(), before.round())


@pytest.mark.parametrize("seed", range(3))
def test_standing_inside_a_cave_pays_once_and_ends(seed):
    env = envs.make_env(FIND_CAVE)
    env.reset(seed=seed)
    mouth, inside = env._world.places[:2] + np.array([0.5, 1, 0.5])
    _, reward, terminated, _, info = stood_at(env, mouth)
    assert (reward, terminated) == (0.0, False)
    assert np.allclose(info["target_position"], inside + np.array([0, 0.5, 0]))
    outside = [step[0]["pov"].mean() for step in played(env, [{"camera": [0.0, 90.0]}] * 4)]
    _, reward, terminated, truncated, info = stood_at(env, inside)
    assert (reward, terminated, truncated) == (rules.CAVE_REWARD, True, False)
    # whichever way one looks, the ceiling in the picture is darker than anything outside
    ceilings = [step[0]["pov"][:20].mean() for step in played(env, [{"camera": [0.0, 90.0]}] * 4)]
    assert max(ceilings) < 60 < max(outside)
    assert info["target_distance"] < 2


def test_what_is_no_cave_pays_nothing():
    env = flat_world(FIND_CAVE)
    for x in range(62, 67):
        for z in range(62, 67):
            put(env, x, GROUND + 4, z, blocks.STONE)
    assert env.step({})[1:3] == (0.0, False)
    # a cave's floor under the open sky is none, and one that is flown over is none yet
    env._world.cells[64, 64, GROUND] = blocks.CAVE_DARK
    env._world.cells[80, 80, GROUND] = blocks.CAVE_DARK
    assert stood_at(env, (80.5, GROUND + 1, 80.5))[1] == 0.0
    env._player[:] = rules.standing(np.array([64.5, GROUND + 1, 64.5]), 0.0)
    env._player[kernels.VY] = 0.3
    assert env.step({})[1] == 0.0
    assert stood_at(env, (64.5, GROUND + 1, 64.5))[1] == rules.CAVE_REWARD


def test_the_colour_fills_the_picture_for_two_seconds_and_the_wall_lets_nobody_out():
    env = envs.make_env(RECALL)
    _, info = env.reset(seed=1)
    start = info["position"]
    for tick in range(rules.CUE_TICKS - 1):
        *_, info = env.step({"forward": 1, "jump": 1, "sprint": 1, "camera": [0.0, 10.0]})
        assert np.abs(info["position"] - start)[[0, 2]].max() < 1.5
        assert np.isin(env.segmentation(), blocks.BEACONS).mean() > 0.7, tick
    *_, info = env.step({"forward": 1})
    assert np.isin(env.segmentation(), blocks.BEACONS).mean() < 0.3
    assert (info["position"] == start).all()
    assert (info["yaw"], info["pitch"]) == (0.0, 0.0)


def asked_for(state, colour):
    """Return a saved state whose walls ask for another colour; nothing else is changed."""
    cells = state["cells"].copy()
    start = state["start"].astype(int)
    near = (slice(start[0] - 2, start[0] + 3), slice(start[2] - 2, start[2] + 3))
    cells[near][np.isin(cells[near], blocks.BEACONS)] = colour
    beacons = cells == colour
    beacons[near] = False
    x, z, y = (values.min() for values in np.nonzero(beacons))
    return {**state, "cells": cells, "goal": np.array([x + 0.5, y + 1.5, z + 0.5])}


@pytest.mark.parametrize("seed", range(3))
def test_once_the_walls_are_gone_no_picture_tells_the_colour_whatever_was_done_before(seed):
    env = envs.make_env(RECALL)
    env.reset(seed=seed)
    saved, random = env.save_state(), np.random.default_rng(seed)
    actions = [{"forward": 1, "sprint": 1, "camera": random.normal(0, 6, 2)} for _ in range(40)]
    before, after, targets = [], [], set()
    for colour in blocks.BEACONS:
        env.restore_state(asked_for(saved, colour))
        # each colour is met with other actions: neither the body nor the ground may keep what they were
        for _ in range(rules.CUE_TICKS - 1):
            keys = {"attack": colour % 2, "jump": int(random.integers(2)), "forward": int(random.integers(2))}
            observation, *_ = env.step({**keys, "camera": [float(colour - 15), float(random.normal(0, 9))]})
        before.append(observation["pov"])
        env.step({"attack": 1})
        after.append(np.stack([step[0]["pov"] for step in played(env, actions)]))
        targets.add(tuple(env.step({})[4]["target_position"].round(1)))
        colours = np.unique(env.save_state()["cells"])
        assert set(blocks.BEACONS) <= set(colours.tolist())
    assert len(targets) == 3
    assert all(np.abs(before[0].astype(int) - other).mean() > 20 for other in before[1:])
    assert all(np.array_equal(after[0], other) for other in after[1:])


@pytest.mark.parametrize("right", [True, False])
def test_the_beacon_of_that_colour_pays_and_another_costs_and_both_end(right):
    env = envs.make_env(RECALL)
    env.reset(seed=2)
    env.step_ticks({}, rules.CUE_TICKS)
    x, y, z = (int(value) for value in env._world.goal)
    colour = env._world.cells[x, z, y]
    wanted = np.argwhere(np.isin(env._world.cells, blocks.BEACONS) & ((env._world.cells == colour) == right))[0]
    place = wanted[[0, 2, 1]] + (0.5, 0, -0.3 - 0.01)
    _, reward, terminated, truncated, _ = stood_at(env, place)
    assert (reward, terminated, truncated) == (rules.RIGHT_REWARD if right else rules.WRONG_REWARD, True, False)


def test_each_colour_is_asked_for_as_often_and_guessing_gets_a_fifth_of_knowing():
    env, asked = envs.make_env(RECALL, frame_size=8), []
    for seed in range(60):
        env.reset(seed=seed)
        x, y, z = (int(value) for value in env._world.goal)
        asked.append(int(env._world.cells[x, z, y]))
    assert min(asked.count(colour) for colour in blocks.BEACONS) >= 10
    assert (rules.RIGHT_REWARD + 2 * rules.WRONG_REWARD) / 3 == 2


@pytest.mark.parametrize(("name", "ticks", "least"), [(FORAGE, 400, 8), (FIND_CAVE, 600, 10), (RECALL, 300, 10)])
@pytest.mark.parametrize("sees", [False, True])
def test_the_scripted_players_do_well_and_random_play_does_not(name, ticks, least, sees):
    env = envs.make_env(name, episode_ticks=ticks if not sees else 2 * ticks)
    player = envs.scripted_player(name, noise=0.0, sees=sees)
    player.reset(0)
    env.action_space.seed(0)
    totals = []
    for act in (player, lambda *_: env.action_space.sample()):
        observation, info = env.reset(seed=1)
        total, done = 0.0, False
        while not done:
            action = act(observation, info)
            assert env.action_space.contains(action)
            observation, reward, terminated, truncated, info = env.step(action)
            total, done = total + reward, terminated or truncated
        totals.append(total)
    assert totals[0] >= least
    assert totals[1] < least / 2
