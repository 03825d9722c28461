import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from stable_baselines3.common.vec_env import DummyVecEnv

from agents.learning.on_policy import PPOSettings

PICTURE = spaces.Box(0, 255, (64, 64, 3), np.uint8)
NUMBER = spaces.Box(-1.0, 1.0, (2,), np.float32)


class Still(gymnasium.Env):
    action_space = spaces.Discrete(2)

    def __init__(self, space):
        self.observation_space = space

    def reset(self, *, seed=None, options=None):
        return self.observation_space.sample(), {}


def policy_on(space):
    settings = PPOSettings(n_envs=1, n_steps=4, batch_size=4, net_arch=())
    return settings.make(DummyVecEnv([lambda: Still(space)]), seed=0, device="cpu").policy


def test_a_picture_in_a_dictionary_goes_through_the_same_cnn_as_a_picture_alone():
    alone, beside = policy_on(PICTURE), policy_on(spaces.Dict({"pov": PICTURE, "compass/angle": NUMBER}))
    cnn = {name: tuple(p.shape) for name, p in alone.features_extractor.named_parameters()}
    assert cnn == {name: tuple(p.shape) for name, p in beside.features_extractor.extractors["pov"].named_parameters()}
    assert beside.features_dim == alone.features_dim + 2


@pytest.mark.parametrize("space", [NUMBER, spaces.Dict({"latent": NUMBER, "compass/angle": NUMBER})])
def test_a_policy_without_pictures_stays_on_the_cpu(space, monkeypatch):
    devices = []
    monkeypatch.setattr(PPOSettings, "algorithm_class", lambda *_: lambda *_, device, **__: devices.append(device) or _NoLogger())
    PPOSettings(n_envs=1, n_steps=4, batch_size=4).make(DummyVecEnv([lambda: Still(space)]), seed=0, device="cuda")
    assert devices == ["cpu"]


class _NoLogger:
    def set_logger(self, logger):
        pass
