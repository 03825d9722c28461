from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import DummyVecEnv

from encoders import Encoder, EncoderArtifact
from encoders.scaling import ReadingStatistics
from foundation.errors import UserError
from wrappers import FlatObservation, FrozenEncoder, MaskedPicture


@dataclass
class Sizes:
    size: int = 8


class RedThings(Encoder):
    """Marks what is red, as red as it is."""

    Hyperparameters = Sizes

    def __init__(self, size=8):
        super().__init__()
        self.hyperparameters, self.frame_shape, self.latents = Sizes(size), (size, size, 3), {"redness": (1,)}

    def encode(self, frames, state, action=None, latents=None):
        return frames[:, :1].mean((2, 3)), state

    def masks(self, frames):
        return frames[:, :, 0]


def artifact(model):
    statistics = {name: ReadingStatistics(torch.zeros(shape), torch.ones(shape)) for name, shape in model.latents.items()}
    return EncoderArtifact(model, SimpleNamespace(name="red", frames_per_second=5, resize="squash", actions=None, scale="unit"), statistics)


@pytest.mark.parametrize("dictionary", [False, True])
def test_the_mask_is_a_fourth_channel(dictionary, pictures_env):
    plain, env = pictures_env(dictionary=dictionary), MaskedPicture(pictures_env(dictionary=dictionary), artifact(RedThings()))
    before, after = (one.reset(seed=3)[0] for one in (plain, env))
    assert env.observation_space.contains(after)
    picture, shown = (before["pov"], after["pov"]) if dictionary else (before, after)
    assert np.array_equal(shown[..., :3], picture)
    assert np.array_equal(shown[..., 3], picture[..., 0])
    before, after = (one.step(1)[0] for one in (plain, env))
    assert np.array_equal((after["pov"] if dictionary else after)[..., 3], (before["pov"] if dictionary else before)[..., 0])
    if dictionary:
        assert np.array_equal(after["number"], before["number"])


def test_what_is_not_marked_darkens(pictures_env):
    plain, env = pictures_env(), MaskedPicture(pictures_env(), FrozenEncoder(artifact(RedThings())), how="darken")
    picture, shown = plain.reset(seed=3)[0], env.reset(seed=3)[0]
    assert env.observation_space == plain.observation_space
    brightness = 0.25 + 0.75 * picture[..., :1] / 255
    assert np.abs(shown - picture * brightness).max() <= 0.51


def test_an_agent_learns_from_pictures_with_masks(pictures_env):
    env = MaskedPicture(pictures_env(size=36), artifact(RedThings(36)))
    agent = PPO("CnnPolicy", env, n_steps=8, batch_size=8, n_epochs=1, device="cpu").learn(8)
    assert agent.policy.features_extractor.cnn[0].in_channels == 4


def test_masks_survive_a_flat_observation(pictures_env):
    env = FlatObservation(MaskedPicture(pictures_env(dictionary=True), artifact(RedThings())))
    assert env.reset(seed=0)[0]["pov"].shape == (8, 8, 4)


def test_an_encoder_without_masks_is_refused(pictures_env):
    class Plain(Encoder):
        Hyperparameters = Sizes

        def __init__(self):
            super().__init__()
            self.hyperparameters, self.frame_shape, self.latents = Sizes(), (8, 8, 3), {"nothing": (1,)}

    with pytest.raises(UserError, match="'red' gives no masks"):
        MaskedPicture(pictures_env(), artifact(Plain()))


def test_pictures_of_another_size_are_refused(pictures_env):
    with pytest.raises(UserError, match=r"frames of \(8, 8, 3\), got \(16, 16, 3\)"):
        MaskedPicture(pictures_env(size=16), artifact(RedThings()))


def test_pictures_that_were_resized_in_another_way_are_refused(pictures_env):
    env = pictures_env()
    env.picture_resize = "crop"
    with pytest.raises(UserError, match="resize them by 'squash'"):
        MaskedPicture(env, artifact(RedThings()))


def test_what_has_no_picture_is_refused(pictures_env):
    env = pictures_env(dictionary=True)
    env.observation_space = spaces.Dict({"number": env.observation_space["number"]})
    with pytest.raises(UserError, match="RGB picture"):
        MaskedPicture(env, artifact(RedThings()))


def test_another_way_to_show_a_mask_is_refused(pictures_env):
    with pytest.raises(UserError, match="'channel'"):
        MaskedPicture(pictures_env(), artifact(RedThings()), how="brighten")


def test_masks_of_another_size_than_the_picture_are_refused(pictures_env):
    with pytest.raises(UserError, match="masks are of 8x8 pixels, the picture of 16x16"):
        MaskedPicture(pictures_env(size=16), FrozenEncoder(artifact(RedThings()), resize=True))


def test_the_last_picture_of_an_episode_in_parallel_environments_has_its_mask(pictures_env):
    venv = DummyVecEnv([lambda: MaskedPicture(pictures_env(), artifact(RedThings()))] * 2)
    seen, infos = venv.reset(), [{}]
    while not any("terminal_observation" in info for info in infos):
        seen, _, _, infos = venv.step(np.array([1, 1]))
    last = np.stack([info["terminal_observation"] for info in infos if "terminal_observation" in info])
    assert last.shape[1:] == seen.shape[1:] == (8, 8, 4)
    for pictures in (seen, last):
        assert np.array_equal(pictures[..., 3], pictures[..., 0])
