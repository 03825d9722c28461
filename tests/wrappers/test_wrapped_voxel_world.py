"""The wrappers as an agent wears them, on the environments the product ships."""

import numpy as np
import pytest
from stable_baselines3.common.env_checker import check_env

from encoders import StoreReference, make_encoder, prepare
from envs import make_env
from wrappers import DiscreteActions, FlatObservation, FrameSkip, FrozenEncoder, LatentObservation


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
