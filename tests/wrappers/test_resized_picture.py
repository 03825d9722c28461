import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from foundation.errors import UserError
from frames import resize_frames
from wrappers.resized_picture import ResizedPicture

FRAME = np.random.default_rng(0).integers(0, 256, (360, 640, 3), np.uint8)


class Large(gymnasium.Env):
    """MineRL 1.0's frames, with something beside them."""

    observation_space = spaces.Dict({"pov": spaces.Box(0, 255, (360, 640, 3), np.uint8), "life": spaces.Discrete(21)})
    action_space = spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        return {"pov": FRAME, "life": 20}, {}

    def step(self, action):
        return {"pov": FRAME[::-1], "life": 19}, 0.0, False, False, {}


@pytest.mark.parametrize("mode", ["squash", "crop"])
def test_an_agent_sees_the_frame_that_a_store_would_hold(mode):
    env = ResizedPicture(Large(), (64, 64), mode)
    observation, _ = env.reset()
    assert np.array_equal(observation["pov"], resize_frames(FRAME[None], (64, 64), mode)[0])
    assert observation["life"] == 20
    assert env.observation_space.contains(observation)
    assert env.step(0)[0]["pov"].shape == (64, 64, 3)


def test_the_environments_own_observation_stays_as_it_is():
    env = ResizedPicture(Large(), (64, 64))
    env.reset()
    assert FRAME.shape == (360, 640, 3)
    assert env.env.observation_space["pov"].shape == (360, 640, 3)


def test_what_has_no_picture_is_refused():
    env = Large()
    env.observation_space = spaces.Dict({"life": spaces.Discrete(21)})
    with pytest.raises(UserError, match="no picture 'pov'"):
        ResizedPicture(env, (64, 64))


def test_a_size_of_nothing_is_refused():
    with pytest.raises(UserError, match="0x64"):
        ResizedPicture(Large(), (0, 64))
