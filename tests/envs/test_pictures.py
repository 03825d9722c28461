"""Any environment with a picture comes out in MineRL's form."""

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

import envs
from envs.pictures import PictureObservation
from foundation.errors import UserError

PICTURE = spaces.Box(0, 255, (16, 20, 3), np.uint8)
NUMBERS = spaces.Box(-1, 1, (4,), np.float32)


class Fake(gymnasium.Env):
    """Shows samples of any observation space; renders a grey picture when asked to."""

    def __init__(self, space, rendered=None):
        self.observation_space = space
        self.action_space = spaces.Discrete(3)
        self.rendered = rendered

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.last = self.observation_space.sample()
        return self.last, {}

    def step(self, action):
        self.last = self.observation_space.sample()
        return self.last, 1.0, False, False, {}

    def render(self):
        return self.rendered


def test_a_picture_becomes_the_pov():
    env = PictureObservation(Fake(PICTURE))
    observation, _ = env.reset(seed=0)
    np.testing.assert_array_equal(observation["pov"], env.unwrapped.last)
    assert env.observation_space == spaces.Dict({"pov": PICTURE})
    assert env.action_space == spaces.Discrete(3)
    np.testing.assert_array_equal(env.step(0)[0]["pov"], env.unwrapped.last)


def test_the_only_picture_of_a_dictionary_is_found_and_the_rest_stays():
    env = PictureObservation(Fake(spaces.Dict({"camera": PICTURE, "speed": NUMBERS})))
    observation, _ = env.reset(seed=0)
    assert set(observation) == {"pov", "speed"}
    np.testing.assert_array_equal(observation["pov"], env.unwrapped.last["camera"])
    assert env.observation_space.contains(observation)


def test_one_of_several_pictures_is_chosen_by_name():
    space = spaces.Dict({"left": PICTURE, "right": PICTURE})
    with pytest.raises(UserError, match=r"several pictures .* left, right"):
        PictureObservation(Fake(space))
    env = PictureObservation(Fake(space), "right")
    observation, _ = env.reset(seed=0)
    np.testing.assert_array_equal(observation["pov"], env.unwrapped.last["right"])
    assert set(observation) == {"pov", "left"}


def test_what_is_rendered_replaces_numbers():
    env = PictureObservation(Fake(NUMBERS, np.full((24, 32, 3), 7, np.uint8)), "render")
    observation, _ = env.reset(seed=0)
    assert set(observation) == {"pov"}
    assert observation["pov"].shape == (24, 32, 3)
    assert env.observation_space.contains(observation)


@pytest.mark.parametrize(
    ("space", "picture", "rendered", "message"),
    [
        (NUMBERS, None, None, "picture='render'"),
        (spaces.Box(0, 255, (3, 16, 16), np.uint8), None, None, "no RGB picture"),
        (spaces.Dict({"camera": PICTURE}), "camra", None, "did you mean 'camera'"),
        (spaces.Dict({"camera": PICTURE, "speed": NUMBERS}), "speed", None, "not an RGB picture"),
        (spaces.Dict({"camera": PICTURE, "pov": NUMBERS}), None, None, "'pov'"),
        (NUMBERS, "render", None, "does not render"),
    ],
)
def test_a_missing_or_unclear_picture_is_an_error_that_says_what_to_choose(space, picture, rendered, message):
    with pytest.raises(UserError, match=message):
        PictureObservation(Fake(space, rendered), picture)


def test_a_registered_environment_goes_through_make_env():
    gymnasium.register("FakePicture-v0", entry_point=lambda: Fake(PICTURE))
    try:
        observation, _ = envs.make_env("FakePicture-v0").reset(seed=0)
    finally:
        del gymnasium.registry["FakePicture-v0"]
    assert observation["pov"].shape == (16, 20, 3)


def test_a_missing_package_for_rendering_is_named():
    class Unrenderable(Fake):
        def render(self):
            raise gymnasium.error.DependencyNotInstalled("pygame is not installed")

    with pytest.raises(UserError, match="pygame is not installed"):
        PictureObservation(Unrenderable(NUMBERS), "render")
