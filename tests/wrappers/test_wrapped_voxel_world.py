"""The wrappers as an agent wears them, on the environments the product ships."""

import numpy as np
import pytest
from stable_baselines3.common.env_checker import check_env

from encoders import StoreReference, make_encoder, prepare
from envs import make_env
from envs.voxel import blocks
from tests.envs.test_voxel_tasks import asked_for
from wrappers import ContinuousActions, DiscreteActions, FlatObservation, FrameSkip, FrozenEncoder, LatentObservation


@pytest.fixture(scope="module")
def frozen(tmp_path_factory):
    frames = np.random.default_rng(0).integers(0, 256, (16, 64, 64, 3), np.uint8)
    reference = StoreReference(path="", fingerprint="", frames_per_second=20.0, resize="squash")
    return FrozenEncoder(prepare(make_encoder("debug"), frames, tmp_path_factory.mktemp("encoder"), store=reference, seed=0))


@pytest.mark.parametrize("name", ["VoxelTreechop-v0", "VoxelNavigate-v0", "VoxelNavigateDense-v0"])
@pytest.mark.parametrize("latents", [False, True])
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_stable_baselines3_accepts_the_wrapped_environment(name, latents, frozen):
    actions = "treechop" if "Treechop" in name else "navigate_place"
    env = FlatObservation(DiscreteActions(FrameSkip(make_env(name, episode_ticks=200), 4), actions))
    check_env(LatentObservation(env, frozen) if latents else env)


def test_one_skipped_step_sees_what_four_ticks_end_with():
    action = {"forward": 1, "camera": np.array([0.0, 8.0], np.float32)}
    skipping, ticking = FrameSkip(make_env("VoxelTreechop-v0"), 4), make_env("VoxelTreechop-v0")
    idle = {key: 0 for key in ticking.action_space.spaces if key != "camera"}
    skipping.reset(seed=5)
    ticking.reset(seed=5)
    observation, *_ = skipping.step({**idle, **action})
    for _ in range(4):
        expected, *_ = ticking.step({**idle, **action, "camera": action["camera"] / 4})
    np.testing.assert_array_equal(observation["pov"], expected["pov"])


@pytest.mark.parametrize("name", ["VoxelTreechop-v0", "VoxelNavigate-v0"])
@pytest.mark.parametrize("frame_skip", [1, 4])
def test_the_pitch_counted_is_the_pitch_seen(name, frame_skip):
    env = DiscreteActions(FrameSkip(make_env(name, frame_size=8), frame_skip), "treechop", 15.0, pitch_limit=40.0)
    env.reset(seed=1)
    env.action_space.seed(1)
    counted, pitches = 0.0, set()
    for action in (env.action_space.sample() for _ in range(300)):
        counted = min(max(counted + {"camera_up": -15.0, "camera_down": 15.0}.get(env.names[action], 0.0), -40.0), 40.0)
        assert env.step(action)[4]["pitch"] == counted
        pitches.add(counted)
    assert {-40.0, 40.0} <= pitches


def turns_by_number(env):
    return ContinuousActions(env, "walk"), lambda pitch: np.array([pitch, 0, -1, -1, -1], np.float32)


def turns_by_choice(env):
    return DiscreteActions(env, ["camera_up", "noop", "camera_down"]), lambda pitch: 1 + pitch


@pytest.mark.parametrize("made", [turns_by_number, turns_by_choice])
def test_how_one_looked_at_the_walls_of_recall_is_no_memory_of_their_colour(made):
    env, turn = made(FrameSkip(make_env("VoxelRecall-v0"), 4))
    env.reset(seed=0)
    saved, seen = env.unwrapped.save_state(), []
    for colour, looks in zip(blocks.BEACONS, (-1, 0, 1), strict=True):
        env.reset(seed=0)
        env.unwrapped.restore_state(asked_for(saved, colour))
        for _ in range(10):
            *_, info = env.step(turn(looks))
        assert info["pitch"] == 0
        after = [env.step(turn(later)) for later in (1, 1, 1, 1, 1, 1, -1, -1, 0, 1)]
        seen.append([(step[0]["pov"].tobytes(), step[4]["pitch"], step[4]["yaw"]) for step in after])
        assert max(step[4]["pitch"] for step in after) == 60
    assert seen[0] == seen[1] == seen[2]
