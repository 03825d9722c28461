"""What the voxel tasks tell beside the picture: the state, what pixels show, and the nearest target in view."""

import math

import numpy as np
import pytest

import envs
from envs.voxel import blocks, kernels

EYE, REACH, FAR, FIELD = 1.62, 4.5, 72.0, 70.0


def played(name, ticks, seed=0, frame_size=64, every=1):
    """Yield an environment that a scripted player plays, with its info, every so many ticks."""
    env, player = envs.make_env(name, frame_size=frame_size), envs.scripted_player(name, noise=0.6)
    observation, info = env.reset(seed=seed)
    player.reset(seed)
    for tick in range(ticks):
        if tick % every == 0:
            yield env, info
        observation, _, terminated, _, info = env.step(player(observation, info))
        if terminated:
            return


def direction(info, row, column, size):
    """The unit direction (x, y, z) in which a pixel's centre lies."""
    yaw, pitch = math.radians(info["yaw"]), math.radians(info["pitch"])
    scale = math.tan(math.radians(FIELD / 2))
    up, right = scale * (1 - (2 * row + 1) / size), scale * ((2 * column + 1) / size - 1)
    forward = np.array([-math.sin(yaw) * math.cos(pitch), -math.sin(pitch), math.cos(yaw) * math.cos(pitch)])
    upward = np.array([-math.sin(yaw) * math.sin(pitch), math.cos(pitch), math.cos(yaw) * math.sin(pitch)])
    rightward = np.array([-math.cos(yaw), 0, -math.sin(yaw)])
    way = forward + up * upward + right * rightward
    return way / np.linalg.norm(way)


def marched(env, info, way, far=FAR, step=0.01):
    """Walk from the eye in small steps; return the kind of the first block and its place, or (SKY, None)."""
    cells = env._world.cells
    points = info["position"] + (0, EYE, 0) + way * np.arange(step, far, step)[:, None]
    x, y, z = np.floor(points).astype(int).T
    inside = (y >= 0) & (y < cells.shape[2])
    found = np.where(inside, cells[x % cells.shape[0], z % cells.shape[1], np.clip(y, 0, cells.shape[2] - 1)], kernels.AIR)
    met = np.flatnonzero(found < kernels.AIR)
    if not len(met):
        return blocks.SKY, None
    at = met[0]
    return int(found[at]), (int(x[at]) % cells.shape[0], int(y[at]), int(z[at]) % cells.shape[1])


@pytest.mark.parametrize("name", ["VoxelTreechop-v0", "VoxelNavigate-v0", "VoxelForage-v0", "VoxelRecall-v0"])
def test_what_pixels_show_is_what_a_slow_march_meets(name):
    random, right, compared, kinds_seen = np.random.default_rng(0), 0, 0, set()
    for env, info in played(name, 240, every=40):
        kinds = env.segmentation()
        assert kinds.shape == (64, 64)
        assert kinds.dtype == np.uint8
        for row, column in random.integers(0, 64, (40, 2)):
            kind, _ = marched(env, info, direction(info, row, column, 64))
            right += kind == kinds[row, column]
            compared += 1
            kinds_seen.add(kind)
    # a step of the march may cut a corner
    assert right >= 0.985 * compared
    assert len(kinds_seen) >= 4


def test_the_pixels_that_show_logs_are_counted_as_by_hand():
    counted, marched_logs = 0, 0
    for env, info in played("VoxelTreechop-v0", 161, every=80):
        kinds = env.segmentation()
        logs = np.isin(kinds, (blocks.OAK_LOG, blocks.BIRCH_LOG))
        counted += int(logs[::4, ::4].sum())
        hits = [marched(env, info, direction(info, row, column, 64), step=0.02)[0] for row in range(0, 64, 4) for column in range(0, 64, 4)]
        marched_logs += sum(kind in (blocks.OAK_LOG, blocks.BIRCH_LOG) for kind in hits)
    assert marched_logs > 5
    assert abs(counted - marched_logs) <= 2


def test_the_pixel_at_the_crosshair_shows_the_block_that_is_aimed_at():
    aimed = set()
    # a picture of an odd size has a pixel in its middle
    for env, info in played("VoxelTreechop-v0", 300, seed=2, frame_size=65, every=3):
        kind = int(env.segmentation()[32, 32])
        if kind == blocks.WATER:
            continue
        if info["aimed_distance"] < REACH:
            assert blocks.NAMES[kind] == info["aimed_block"]
            aimed.add(info["aimed_block"])
        else:
            assert info["aimed_block"] == "air"
    assert {"log", "leaves"} <= aimed


def test_looking_at_what_pixels_show_changes_neither_picture_nor_game():
    env, watched = envs.make_env("VoxelTreechop-v0"), envs.make_env("VoxelTreechop-v0")
    env.reset(seed=3), watched.reset(seed=3)
    env.action_space.seed(1)
    for _ in range(30):
        action = env.action_space.sample()
        plain, seen = env.step(action), watched.step(action)
        watched.segmentation()
        assert np.array_equal(plain[0]["pov"], seen[0]["pov"])
        assert np.array_equal(watched.render(), seen[0]["pov"])
        assert plain[4]["state"] == seen[4]["state"]


@pytest.mark.parametrize(
    ("name", "blocks_met"), [("VoxelTreechop-v0", 3), ("VoxelNavigateDense-v0", 2), ("VoxelForage-v0", 3), ("VoxelFindCave-v0", 2)]
)
def test_the_state_says_what_info_says_in_small_numbers(name, blocks_met):
    kinds = set()
    for env, info in played(name, 300, seed=4, every=5):
        state = info["state"]
        assert env.state_space.contains({key: np.array(value, np.float32) for key, value in state.items()})
        assert math.degrees(math.atan2(state["bearing_sin"], state["bearing_cos"])) == pytest.approx(info["target_bearing"])
        assert state["pitch"] * 90 == pytest.approx(info["pitch"])
        assert state["distance"] == pytest.approx(min(np.log(1 + info["target_distance"]) / np.log(33), 1))
        rise = info["target_position"][1] - info["position"][1] - EYE
        assert state["height"] == pytest.approx(np.clip(rise / 8, -1, 1))
        assert state["block_distance"] == pytest.approx(min(info["aimed_distance"] / REACH, 1))
        shown = [key for key, value in state.items() if key.startswith("block_") and key != "block_distance" and value == 1]
        told_apart = ("air", "log", "leaves", "diamond", *env.task.things)
        expected = info["aimed_block"] if info["aimed_block"] in told_apart else "ground"
        assert shown == [f"block_{expected}"]
        kinds.add(expected)
    assert len(kinds) >= blocks_met


def test_where_nothing_is_left_to_find_the_state_names_no_direction():
    env = envs.make_env("VoxelTreechop-v0")
    env.reset(seed=0)
    for x, y, z in env._world.logs:
        env._world.cells[x, z, y] = kernels.AIR
    *_, info = env.step({})
    state = info["state"]
    assert (state["distance"], state["bearing_sin"], state["bearing_cos"], state["height"]) == (1, 0, 0, 0)
    assert info["seen_distance"] == math.inf


def test_an_observation_has_nothing_of_the_state():
    env = envs.make_env("VoxelNavigate-v0")
    assert set(env.observation_space) == {"pov", "compass", "inventory"}
    assert set(env.reset(seed=0)[0]) == {"pov", "compass", "inventory"}


@pytest.mark.parametrize("name", ["VoxelTreechop-v0", "VoxelNavigate-v0", "VoxelForage-v0"])
def test_the_nearest_target_seen_is_the_nearest_that_pixels_show(name):
    wanted = {"VoxelNavigate-v0": (blocks.DIAMOND,), "VoxelForage-v0": (blocks.FLOWER,)}.get(name, (blocks.OAK_LOG, blocks.BIRCH_LOG))
    seen, hidden = 0, 0
    for env, info in played(name, 700, seed=3, every=20):
        shown = np.argwhere(np.isin(env.segmentation(), wanted))
        if not len(shown):
            assert info["seen_distance"] == math.inf
            assert np.isinf(info["seen_position"]).all()
            hidden += 1
            continue
        seen += 1
        size = env._world.cells.shape[0]
        place = np.floor(info["seen_position"]).astype(int)
        assert env._world.cells[place[0] % size, place[2] % size, place[1]] in wanted
        away = info["seen_position"] - info["position"] - (0, EYE, 0)
        assert info["seen_distance"] == pytest.approx(np.linalg.norm(away))
        bearing = (math.degrees(math.atan2(-away[0], away[2])) - info["yaw"] + 180) % 360 - 180
        assert info["seen_bearing"] == pytest.approx(bearing, abs=1e-6)
        # no shown pixel's block is nearer, by its centre, than by the size of a block
        few = shown[:: max(1, len(shown) // 12)]
        for row, column in few:
            way = direction(info, row, column, 64)
            _, cell = marched(env, info, way)
            if cell is not None:
                to = (np.array(cell) + 0.5 - info["position"] - (0, EYE, 0) + size / 2) % size - size / 2
                to[1] = cell[1] + 0.5 - info["position"][1] - EYE
                if to @ way < 0:
                    # a look so far that it is nearer the other way around the torus
                    continue
                assert info["seen_distance"] < np.linalg.norm(to) + 1.8
    assert seen > 5
    assert hidden > 0
