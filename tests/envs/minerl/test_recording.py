"""Frames recorded through the real client, into a store, from the voxel server."""

import numpy as np
import pytest

import envs
import frames
from envs.minerl import installation

pytestmark = pytest.mark.skipif(not installation.is_installed(), reason="minerl is not installed: make minerl")


def test_what_is_recorded_through_the_client_is_what_its_actions_do_in_the_voxel_world(tmp_path):
    with envs.make_env("MineRLTreechop-v0", server="voxel") as env:
        player = frames.WanderingPlayer(env.action_space)
        frames.record(lambda: env, player, tmp_path / "store", frames=40, episode_frames=40, seed=3, name="through the client")
        assert env.unwrapped.game.processes() == []
    store = frames.FrameStore(tmp_path / "store")
    recorded, names = store.frames(range(40)), store.action_names
    world = int(np.random.SeedSequence([3, 0]).generate_state(1)[0]) % 2**30
    voxel = envs.make_env("VoxelTreechop-v0")
    played = [voxel.reset(seed=world)[0]["pov"].copy()]
    actions = {name.removeprefix("action."): store.array(0, name) for name in names}
    for tick in range(39):
        played.append(voxel.step({key: values[tick] for key, values in actions.items()})[0]["pov"].copy())
    assert np.array_equal(recorded, np.stack(played))
    assert store.array(0, "reward").shape == (39,)
