import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from foundation.errors import UserError
from wrappers import FrameSkip


class Counter(gymnasium.Env):
    metadata = {"render_fps": 20}
    observation_space = spaces.Box(0, 100, (1,), np.float32)
    action_space = spaces.Dict({"camera": spaces.Box(-180, 180, (2,), np.float32)})

    def __init__(self):
        self.turned = np.zeros(2)
        self.ticks = 0

    def reset(self, *, seed=None, options=None):
        self.ticks = 0
        return np.zeros(1, np.float32), {}

    def step(self, action):
        self.ticks += 1
        self.turned += action["camera"]
        return np.array([self.ticks], np.float32), 1.0, self.ticks == 6, False, {}


class OneCall(Counter):
    def step_ticks(self, action, ticks):
        results = [self.step(action) for _ in range(ticks)]
        return results[-1][0], sum(r[1] for r in results), False, False, {"rendered": 1}


def test_rewards_are_summed_and_the_camera_turns_once():
    env = FrameSkip(Counter(), 4)
    env.reset()
    observation, reward, terminated, _, _ = env.step({"camera": np.array([8.0, -4.0])})
    assert (observation[0], reward, terminated) == (4, 4.0, False)
    np.testing.assert_allclose(env.env.turned, [8.0, -4.0])


def test_a_camera_may_be_a_list():
    env = FrameSkip(Counter(), 4)
    env.reset()
    env.step({"camera": [8.0, -4.0]})
    np.testing.assert_allclose(env.env.turned, [8.0, -4.0])


def test_an_episode_that_ends_within_the_skip_is_not_stepped_on():
    env = FrameSkip(Counter(), 4)
    env.reset()
    env.step({"camera": np.zeros(2)})
    observation, reward, terminated, _, _ = env.step({"camera": np.zeros(2)})
    assert (observation[0], reward, terminated) == (6, 2.0, True)


def test_an_environment_that_can_skip_rendering_is_asked_to():
    env = FrameSkip(OneCall(), 4)
    _, reward, _, _, info = env.step({"camera": np.array([4.0, 0.0])})
    assert (reward, info) == (4.0, {"rendered": 1})
    np.testing.assert_allclose(env.env.turned, [4.0, 0.0])


def test_the_frame_rate_follows_the_skip():
    assert FrameSkip(Counter(), 4).metadata["render_fps"] == 5
    with pytest.raises(UserError, match="at least 1 tick"):
        FrameSkip(Counter(), 0)


def test_what_is_crafted_is_crafted_once():
    class Crafting(Counter):
        crafted: tuple = ()

        def step(self, action):
            self.crafted += (action["craft"], action["place"])
            return super().step(action)

    env = FrameSkip(Crafting(), 3)
    env.reset()
    env.step({"camera": np.zeros(2), "craft": "planks", "place": "dirt"})
    assert env.env.crafted == ("planks", "dirt", "none", "dirt", "none", "dirt")
