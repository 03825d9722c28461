from dataclasses import dataclass
from types import SimpleNamespace

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces

from encoders import Encoder, EncoderArtifact
from encoders.scaling import ReadingStatistics
from wrappers import FrozenEncoder

ACTIONS = 3


@dataclass
class Sizes:
    size: int = 8


class Remembering(Encoder):
    """Latents: the frame's mean colours, plus a fading memory of all colours and actions before, plus the frame count."""

    Hyperparameters = Sizes

    def __init__(self, hyperparameters=None, memory=True):
        super().__init__()
        self.hyperparameters = hyperparameters or Sizes()
        self.frame_shape = (self.hyperparameters.size, self.hyperparameters.size, 3)
        self.latents = {"colour": (3,), "all": (3 + ACTIONS + 1,)}
        self.memory, self.action_size = memory, ACTIONS if memory else 0

    def initial_state(self, batch_size):
        if not self.memory:
            return {}
        return {"sum": torch.zeros(batch_size, 3 + ACTIONS), "count": torch.ones(batch_size, 1)}

    def encode(self, frames, state, action=None, latents=None):
        colours = frames.mean((2, 3))
        if not self.memory:
            return colours, {}
        seen = torch.cat([colours, action], 1)
        total = 0.5 * state["sum"] + seen
        following = {"sum": total, "count": state["count"] + 1}
        return (total[:, :3] if self.reading(latents) == "colour" else torch.cat([total, state["count"]], 1)), following


class Pictures(gymnasium.Env):
    """Random pictures; an episode's length and pictures follow from the seed alone."""

    metadata = {"render_fps": 5}
    action_space = spaces.Discrete(ACTIONS)

    def __init__(self, seed=0, dictionary=False, size=8):
        picture = spaces.Box(0, 255, (size, size, 3), np.uint8)
        self.dictionary = dictionary
        self.picture_shape = picture.shape
        number = spaces.Box(-1, 1, (2,), np.float32)
        self.observation_space = spaces.Dict({"pov": picture, "number": number}) if dictionary else picture
        self.random = np.random.default_rng(seed)

    def _observation(self):
        picture = self.random.integers(0, 256, self.picture_shape, np.uint8)
        return {"pov": picture, "number": self.random.uniform(-1, 1, 2).astype(np.float32)} if self.dictionary else picture

    def reset(self, *, seed=None, options=None):
        self.left = int(self.random.integers(1, 6))
        return self._observation(), {}

    def step(self, action):
        self.left -= 1
        return self._observation(), float(action), self.left == 0, False, {}


@pytest.fixture
def pictures_env():
    return Pictures


@pytest.fixture
def freeze():
    def make(memory=True, latents=None, mean=0.0, deviation=1.0, frames_per_second=5.0, **options):
        model = Remembering(memory=memory)
        shapes = model.latents.items()
        statistics = {name: ReadingStatistics(torch.full(shape, mean), torch.full(shape, deviation)) for name, shape in shapes}
        info = SimpleNamespace(frames_per_second=frames_per_second, resize="squash", actions=None, scale="unit")
        return FrozenEncoder(EncoderArtifact(model=model, info=info, statistics=statistics), latents=latents, **options)

    return make
