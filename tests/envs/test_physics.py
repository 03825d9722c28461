"""Minecraft's numbers, measured from outside on a flat world."""

import math

import numpy as np
import pytest

import envs
from envs.voxel import blocks, kernels, terrain

GROUND = 10


def flat_world(task="VoxelTreechop-v0", **look):
    """Return an environment whose world is a lawn at height 10, with the player in its middle, looking south."""
    env = envs.make_env(task, **look)
    env.reset(seed=0)
    size = env.task.landscape.size
    flat = np.full((size, size), GROUND, np.uint8)
    grass, dirt = np.full_like(flat, blocks.GRASS), np.full_like(flat, blocks.DIRT)
    kernels.fill_terrain(env._world.cells, env._world.top, flat, grass, dirt)
    kernels.measure_free_distances(env._world.cells)
    env._player[:] = 0
    env._player[:3] = 64.5, GROUND + 1, 64.5
    env.step_ticks({}, 2)
    return env


def put(env, x, y, z, block):
    kernels.put_block(env._world.cells, env._world.top, x, y, z, block)


def block_at(env, x, y, z):
    cell = int(env._world.cells[x, z, y])
    return blocks.NAMES[cell] if cell < kernels.AIR else "air"


def speed(env, **action):
    """Return the steady speed in blocks a second."""
    env.step_ticks(action, 40)
    before = env.step(action)[4]["position"]
    after = env.step_ticks(action, 20)[4]["position"]
    return float(np.hypot(*(after - before)[[0, 2]]))


@pytest.mark.parametrize(
    ("action", "metres"),
    [
        ({"forward": 1}, 4.317),
        ({"back": 1}, 4.317),
        ({"forward": 1, "sprint": 1}, 5.612),
        ({"left": 1}, 4.317),
        ({"forward": 1, "sneak": 1}, 1.295),
    ],
)
def test_speeds_are_minecrafts(action, metres):
    assert speed(flat_world(), **action) == pytest.approx(metres, rel=0.002)


def test_yaw_zero_walks_south_and_right_is_west():
    env = flat_world()
    start = env.step({})[4]["position"]
    moved = env.step_ticks({"forward": 1}, 20)[4]["position"] - start
    assert moved[2] > 3
    assert abs(moved[0]) < 1e-9
    before = env.step_ticks({}, 20)[4]["position"]
    assert (env.step_ticks({"right": 1}, 20)[4]["position"] - before)[0] < -3


def test_a_jump_rises_a_block_and_a_quarter_and_lands_after_12_ticks():
    env = flat_world()
    heights = [env.step({"jump": int(t == 0)})[4]["position"][1] for t in range(14)]
    assert max(heights) - GROUND - 1 == pytest.approx(1.2522, abs=1e-3)
    assert heights[11] == GROUND + 1
    assert heights[10] > GROUND + 1


def test_a_jump_climbs_one_block_but_not_two():
    for wall, climbs in ((1, True), (2, False)):
        env = flat_world()
        for x in range(60, 70):
            for y in range(wall):
                put(env, x, GROUND + 1 + y, 67, blocks.STONE)
        env.step_ticks({"forward": 1, "jump": 1}, 60)
        z = env.step({})[4]["position"][2]
        assert (z > 68) == climbs


def test_walls_stop_the_body_at_its_side_and_low_ceilings_stop_its_head():
    env = flat_world()
    for x in range(60, 70):
        put(env, x, GROUND + 2, 66, blocks.STONE)
    assert env.step_ticks({"forward": 1}, 40)[4]["position"][2] == pytest.approx(66 - 0.3)
    put(env, 64, GROUND + 3, 65, blocks.STONE)
    heights = [env.step({"jump": 1})[4]["position"][1] for _ in range(10)]
    assert max(heights) == pytest.approx(GROUND + 3 - 1.8)


def test_sneaking_does_not_fall_off_an_edge():
    for sneak in (0, 1):
        env = flat_world()
        for x in range(62, 67):
            put(env, x, GROUND + 1, 64, blocks.STONE)
        env._player[1] += 1
        height = env.step_ticks({"forward": 1, "sneak": sneak}, 80)[4]["position"][1]
        assert height == GROUND + 1 + sneak


def test_a_fall_from_the_top_of_the_world_ends_on_the_ground():
    env = flat_world()
    env._player[1] = terrain.HEIGHT - 3
    assert env.step_ticks({}, 60)[4]["position"][1] == GROUND + 1


@pytest.mark.parametrize(
    ("task", "block", "ticks"),
    [
        ("VoxelTreechop-v0", blocks.OAK_LOG, 10),
        ("VoxelTreechop-v0", blocks.BIRCH_LOG, 10),
        ("VoxelNavigate-v0", blocks.OAK_LOG, 60),
        ("VoxelTreechop-v0", blocks.OAK_LEAVES, 6),
        ("VoxelTreechop-v0", blocks.DIRT, 15),
    ],
)
def test_breaking_takes_minecrafts_ticks(task, block, ticks):
    env = flat_world(task)
    put(env, 64, GROUND + 2, 66, block)
    rewards = [env.step({"attack": 1})[1] for _ in range(ticks - 1)]
    assert block_at(env, 64, GROUND + 2, 66) == blocks.NAMES[block]
    rewards.append(env.step({"attack": 1})[1])
    assert block_at(env, 64, GROUND + 2, 66) == "air"
    paid = 1 if "Treechop" in task and blocks.NAMES[block] == "log" else 0
    assert sum(rewards) == paid
    assert rewards[-1] == paid


def test_progress_is_lost_when_attack_is_released_or_the_view_leaves_the_block():
    for interruption in ({}, {"attack": 1, "camera": [0.0, 60.0]}):
        env = flat_world()
        put(env, 64, GROUND + 2, 66, blocks.OAK_LOG)
        env.step_ticks({"attack": 1}, 9)
        env.step(interruption)
        back = -np.array(interruption.get("camera", [0.0, 0.0]))
        env.step({"camera": back, "attack": 1})
        assert env.step_ticks({"attack": 1}, 8)[1] == 0
        assert env.step({"attack": 1})[1] == 1


def test_reach_is_four_and_a_half_blocks():
    for away, seen in ((4.45, True), (4.55, False)):
        env = flat_world()
        put(env, 64, GROUND + 2, 70, blocks.OAK_LOG)
        env._player[2] = 70 - away
        assert (env.step({})[4]["aimed_block"] == "log") == seen


def test_pitch_stops_at_90_degrees_and_yaw_wraps():
    env = flat_world()
    assert env.step({"camera": [170.0, 190.0]})[4]["pitch"] == 90
    assert env.step({})[4]["yaw"] == pytest.approx(-170)
    assert env.step({"camera": [-180.0, 0.0]})[4]["pitch"] == -90


def test_dirt_that_is_broken_can_be_placed_and_stood_upon():
    env = flat_world("VoxelNavigate-v0")
    assert env.step({"place": "dirt"})[4]["dirt"] == 0
    env._player[kernels.PITCH] = 60
    observation, *_ = env.step_ticks({"attack": 1}, 18)
    assert observation["inventory"]["dirt"] == 1
    observation, _, _, _, info = env.step({"place": "dirt"})
    assert observation["inventory"]["dirt"] == 0
    assert info["aimed_distance"] < 4.5


def test_nothing_is_placed_where_the_player_stands():
    env = flat_world("VoxelNavigate-v0")
    env._player[kernels.DIRT_HELD] = 5
    env._player[kernels.PITCH] = 90
    assert env.step({"place": "dirt"})[4]["dirt"] == 5


def test_the_world_has_no_edge():
    env = flat_world()
    info = env.step_ticks({"forward": 1, "sprint": 1}, 20 * 60)[4]
    assert info["position"][2] - 64.5 > 2 * env.task.landscape.size
    assert info["position"][1] == GROUND + 1


def test_strides_never_pass_through_a_block():
    """Rays with strides must see exactly what rays through cells of stride one see, after breaking and placing too."""
    env = envs.make_env("VoxelNavigate-v0")
    env.reset(seed=6)
    random = np.random.default_rng(0)
    world = env._world
    x, y, z = (int(v) for v in env._player[:3])
    for _ in range(40):
        place = (x + random.integers(-6, 7), y + random.integers(2, 7), z + random.integers(-6, 7))
        put(env, *(int(v) for v in place), blocks.STONE)
    env._player[kernels.PITCH] = 50
    env.step_ticks({"attack": 1}, 40)
    env._player[kernels.PITCH] = -10
    with_strides = env.step({})[0]["pov"]
    world.cells[world.cells >= kernels.AIR] = kernels.AIR
    np.testing.assert_array_equal(with_strides, env._observe()["pov"])


def first_block(cells, origin, direction, far):
    """Walk a ray cell by cell, as slowly and plainly as it can be done; return (cell, face, distance) or None."""
    size = cells.shape[0]
    cell = [math.floor(v) for v in origin]
    step = [1 if d > 0 else -1 for d in direction]
    crossing = [(c + (d > 0) - o) / d for c, o, d in zip(cell, origin, direction, strict=True)]
    while min(crossing) < far:
        axis = int(np.argmin(crossing))
        distance = crossing[axis]
        cell[axis] += step[axis]
        crossing[axis] += 1 / abs(direction[axis])
        block = cells[cell[0] % size, cell[2] % size, cell[1]] if 0 <= cell[1] < cells.shape[2] else kernels.AIR
        if block < kernels.AIR and block != kernels.WATER:
            return (cell[0] % size, cell[1], cell[2] % size), 2 * axis + (step[axis] > 0), distance
    return None


def test_the_crosshair_finds_what_a_plain_walk_through_the_cells_finds():
    env = envs.make_env("VoxelTreechop-v0")
    env.reset(seed=2)
    random, found = np.random.default_rng(1), 0
    for _ in range(600):
        player, cells = env._player, env._world.cells
        player[kernels.X], player[kernels.Z] = random.uniform(0, cells.shape[0], 2)
        player[kernels.Y] = random.uniform(8, 16)
        player[kernels.YAW], player[kernels.PITCH] = random.uniform(-180, 180), random.uniform(-80, 80)
        kernels.aim(cells, player)
        yaw, pitch = math.radians(player[kernels.YAW]), math.radians(player[kernels.PITCH])
        direction = (-math.sin(yaw) * math.cos(pitch), -math.sin(pitch), math.cos(yaw) * math.cos(pitch))
        origin = (player[kernels.X], player[kernels.Y] + kernels.EYE, player[kernels.Z])
        expected = first_block(cells, origin, direction, kernels.REACH)
        if expected is None:
            assert player[kernels.AIM_BLOCK] == 0
            continue
        place, face, distance = expected
        found += 1
        assert tuple(player[[kernels.AIM_X, kernels.AIM_Y, kernels.AIM_Z]]) == place
        assert player[kernels.AIM_FACE] == face
        assert player[kernels.AIM_DISTANCE] == pytest.approx(distance, abs=1e-5)
    assert found > 100


@pytest.mark.parametrize("size", [8, 21, 31])
def test_a_frame_of_any_size_shows_the_same_scene_to_its_last_row_and_column(size):
    env, large = (envs.make_env("VoxelNavigate-v0", frame_size=side) for side in (size, 3 * size))
    frame, wide = (e.reset(seed=5)[0]["pov"].astype(float) for e in (env, large))
    # the middle pixel of each 3x3 looks along the same ray; only the level of a texture's detail may be another
    difference = np.abs(frame - wide[1::3, 1::3]).mean(-1)
    assert difference.mean() < 12
    assert difference[-1].mean() < 25
    assert difference[:, -1].mean() < 25
