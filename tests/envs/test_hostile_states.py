"""A saved state comes from a file that somebody else may have made: what compiled code would trip over is refused at the door."""

import numpy as np
import pytest

import envs
from envs.voxel import kernels
from foundation.errors import UserError

TREECHOP, NAVIGATE = "VoxelTreechop-v0", "VoxelNavigate-v0"
FORAGE, FIND_CAVE, RECALL = "VoxelForage-v0", "VoxelFindCave-v0", "VoxelRecall-v0"


def saved(name=TREECHOP, ticks=30):
    env, player = envs.make_env(name), envs.scripted_player(name, noise=0.3)
    observation, info = env.reset(seed=0)
    player.reset(0)
    for _ in range(ticks):
        observation, _, _, _, info = env.step(player(observation, info))
    return env, env.save_state()


def set_to(name, place, value):
    def change(state):
        state[name][place] = value

    return change


def replaced(name, make):
    def change(state):
        state[name] = make(state[name])

    return change


HOSTILE = {
    "far above": set_to("player", kernels.Y, 1e9),
    "below": set_to("player", kernels.Y, -1.0),
    "not a number": set_to("player", kernels.X, np.nan),
    "endless": set_to("player", kernels.VX, np.inf),
    "too fast": set_to("player", kernels.VY, 1e12),
    "flying off": set_to("player", kernels.VY, 3.0),
    "no such block aimed at": set_to("player", kernels.AIM_BLOCK, 200.0),
    "half a block aimed at": set_to("player", kernels.AIM_BLOCK, 0.5),
    "beyond the cracks": set_to("player", kernels.PROGRESS, 40.0),
    "player too short": replaced("player", lambda player: player[:3]),
    "player in single precision": replaced("player", lambda player: player.astype(np.float32)),
    "top of one column": replaced("top", lambda top: top[:1, :1]),
    "top above the world": set_to("top", (0, 0), 200),
    "cells of 255": set_to("cells", slice(None), 255),
    "a block of number 0": set_to("cells", (3, 3, 3), 0),
    "a block of number 90": set_to("cells", (3, 3, 3), 90),
    "a ceiling": set_to("cells", (slice(None), slice(None), 31), 1),
    "cells of another type": replaced("cells", lambda cells: cells.astype(np.int64)),
    "logs outside": set_to("logs", (0, 0), 10**6),
    "logs below 0": set_to("logs", (0, 1), -5),
    "logs of two numbers": replaced("logs", lambda logs: logs[:, :2]),
    "a sky of three": replaced("sky", lambda sky: sky[:3]),
    "a burning sky": set_to("sky", kernels.DRIFT, 1e300),
    "no ticks": replaced("ticks", lambda ticks: ticks[:0]),
    "ticks below 0": set_to("ticks", 0, -1),
    "random of three": replaced("random", lambda random: random[:3]),
    "random with a flag of 7": set_to("random", 4, 7),
    "text": replaced("tint", lambda _: "green"),
    "none": lambda state: state.pop("start"),
}


@pytest.mark.parametrize("change", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_state_is_refused_in_one_line(change):
    env, state = saved()
    change(state)
    with pytest.raises(UserError) as refused:
        env.restore_state(state)
    assert "saved state" in str(refused.value)
    assert "\n" not in str(refused.value)


HOSTILE_OF_A_TASK = {
    "no flowers": (FORAGE, lambda state: state.pop("places")),
    "flowers outside": (FORAGE, set_to("places", (0, 2), 128)),
    "flowers below 0": (FORAGE, set_to("places", (0, 1), -1)),
    "a mouth without a cave": (FIND_CAVE, replaced("places", lambda places: places[:-1])),
    "caves of floats": (FIND_CAVE, replaced("places", lambda places: places.astype(np.float64))),
    "no beacon": (RECALL, replaced("goal", lambda goal: goal[:0])),
    "a beacon in the ground": (RECALL, set_to("goal", 1, 2.0)),
    "a beacon outside": (RECALL, set_to("goal", 0, 128.0)),
    "a beacon nowhere": (RECALL, set_to("goal", 2, np.nan)),
    "a start above the world": (RECALL, set_to("start", 1, 31.0)),
    "a state of Treechop's": (FORAGE, lambda state: state.update(saved(TREECHOP, 1)[1], places=np.empty((0, 3), np.int32))),
}


@pytest.mark.parametrize(("name", "change"), HOSTILE_OF_A_TASK.values(), ids=HOSTILE_OF_A_TASK)
def test_so_is_one_that_is_hostile_to_one_task(name, change):
    env, state = saved(name)
    change(state)
    with pytest.raises(UserError, match="saved state") as refused:
        env.restore_state(state)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("state", [None, [], {}, {"cells": 3}])
def test_what_is_no_state_at_all_is_refused(state):
    with pytest.raises(UserError, match="saved state"):
        envs.make_env(TREECHOP).restore_state(state)


@pytest.mark.parametrize("name", [TREECHOP, NAVIGATE, FORAGE, FIND_CAVE, RECALL])
def test_what_is_let_in_can_be_played_however_it_was_changed(name):
    # entries of the player drawn anew, over their own bounds and far beyond: refused, or played for a while
    env, good = saved(name)
    random, played = np.random.default_rng(0), 0
    for _ in range(60):
        state = {key: array.copy() for key, array in good.items()}
        entry = random.integers(kernels.PLAYER_SIZE)
        state["player"][entry] = random.choice([0.0, 1.0, 4.0, 28.9, random.normal(0, 20), random.normal(0, 1e6)])
        places = tuple(random.integers(0, size, 500) for size in (*good["cells"].shape[:2], 26))
        state["cells"][places] = random.choice(np.r_[1:19, 128:192], 500)
        try:
            env.restore_state(state)
        except UserError:
            continue
        played += 1
        for _ in range(15):
            keys = dict(zip(("forward", "jump", "attack"), random.integers(0, 2, 3), strict=True))
            env.step({**keys, "camera": random.normal(0, 40, 2)})
    assert 5 < played < 60


@pytest.mark.parametrize("name", [TREECHOP, NAVIGATE, FORAGE, FIND_CAVE, RECALL])
def test_every_state_on_a_players_way_is_let_in_again(name):
    env, player = envs.make_env(name), envs.scripted_player(name, noise=0.5)
    observation, info = env.reset(seed=3)
    player.reset(3)
    for tick in range(400):
        if tick % 20 == 0:
            env.restore_state(env.save_state())
        observation, _, terminated, _, info = env.step(player(observation, info))
        if terminated:
            break


def test_an_array_in_columns_is_let_in_as_rows():
    env, state = saved()
    wanted = env.step({})[0]["pov"]
    state["cells"], state["top"] = np.asfortranarray(state["cells"]), np.asfortranarray(state["top"])
    env.restore_state(state)
    assert np.array_equal(env.step({})[0]["pov"], wanted)
