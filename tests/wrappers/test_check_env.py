"""Every wrapper keeps to gymnasium's rules of an environment, as its own checker has them."""

import warnings

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.utils.env_checker import check_env

import envs
from envs.pictures import PictureObservation
from wrappers import ContinuousActions, DiscreteActions, FlatObservation, FrameSkip, LatentObservation, PlainActions
from wrappers.action_vectors import RecordedActions
from wrappers.obfuscated_actions import ObfuscatedActions
from wrappers.resized_picture import ResizedPicture


class Seeded(gymnasium.Env):
    """Pictures and numbers that follow from the seed and the actions."""

    metadata = {"render_fps": 5, "render_modes": []}
    render_mode = None
    action_space: spaces.Space = spaces.Discrete(3)
    observation_space = spaces.Dict({"pov": spaces.Box(0, 255, (8, 8, 3), np.uint8), "number": spaces.Box(-1, 1, (2,), np.float32)})

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self.draw(), {}

    def step(self, action):
        return self.draw(), 0.0, False, False, {}

    def draw(self):
        picture = self.np_random.integers(0, 256, (8, 8, 3), np.uint8)
        return {"pov": picture, "number": self.np_random.uniform(-1, 1, 2).astype(np.float32)}


class Vectors(Seeded):
    action_space = spaces.Dict({"vector": spaces.Box(-1, 1, (4,), np.float32)})


CENTRES = np.linspace(-1, 1, 8).astype(np.float32).reshape(2, 4)


def voxel():
    return envs.make_env("VoxelNavigate-v0", frame_size=16)


WRAPPED = {
    "PictureObservation": lambda freeze: PictureObservation(Seeded()),
    "LatentObservation": lambda freeze: LatentObservation(Seeded(), freeze(memory=False)),
    "LatentObservation with memory": lambda freeze: LatentObservation(Seeded(), freeze(latents="all")),
    "FlatObservation": lambda freeze: FlatObservation(voxel()),
    "ResizedPicture": lambda freeze: ResizedPicture(Seeded(), (4, 6)),
    "FrameSkip": lambda freeze: FrameSkip(voxel(), 4),
    "FrameSkip of single ticks": lambda freeze: FrameSkip(Seeded(), 2),
    "DiscreteActions": lambda freeze: DiscreteActions(voxel(), "navigate", sticky_attack=3),
    "ContinuousActions": lambda freeze: ContinuousActions(voxel(), "navigate"),
    "PlainActions": lambda freeze: PlainActions(voxel()),
    "RecordedActions": lambda freeze: RecordedActions(voxel()),
    "ObfuscatedActions": lambda freeze: ObfuscatedActions(Vectors(), CENTRES),
}


@pytest.mark.parametrize("name", WRAPPED)
def test_gymnasium_accepts_what_a_wrapper_makes(name, freeze):
    env = WRAPPED[name](freeze)
    with warnings.catch_warnings():
        # to check the outermost layer is what is meant, and an observation of unbounded numbers is no fault
        warnings.simplefilter("ignore")
        check_env(env, skip_render_check=True)
    first, second = env.reset(seed=7)[0], env.reset(seed=7)[0]
    for key in first if isinstance(first, dict) else ():
        np.testing.assert_equal(first[key], second[key])
