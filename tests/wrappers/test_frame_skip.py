import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from envs.minerl.spaces import Enum
from foundation.errors import UserError
from foundation.ticks import join_ticks, joining
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
    nameless = Counter()
    nameless.metadata = {}
    # as a recording of it takes it for Minecraft's
    assert FrameSkip(nameless, 4).metadata["render_fps"] == 5
    with pytest.raises(UserError, match="at least 1 tick"):
        FrameSkip(Counter(), 0)


def test_what_is_crafted_is_crafted_once():
    class Crafting(Counter):
        crafted: tuple = ()
        action_space = spaces.Dict({**Counter.action_space.spaces, "craft": Enum(["none", "planks"]), "place": Enum(["none", "dirt"])})

        def step(self, action):
            self.crafted += (action["craft"], action["place"])
            return super().step(action)

    env = FrameSkip(Crafting(), 3)
    env.reset()
    env.step({"camera": np.zeros(2), "craft": "planks", "place": "dirt"})
    assert env.env.crafted == ("planks", "dirt", "none", "dirt", "none", "dirt")


@pytest.mark.parametrize(
    ("space", "action"),
    [
        (spaces.Dict({"camera": spaces.Discrete(4), "craft": spaces.Discrete(3)}), {"camera": 3, "craft": 2}),
        (spaces.Dict({"camera": spaces.Box(0, 8, (2,), np.int64)}), {"camera": np.array([3, 8])}),
    ],
)
def test_what_another_package_calls_by_the_same_name_is_repeated_as_it_is(space, action):
    class Other(Counter):
        action_space, given = space, ()

        def step(self, action):
            self.given += (action,)
            return np.zeros(1, np.float32), 1.0, False, False, {}

    env = FrameSkip(Other(), 3)
    env.step(action)
    assert len(env.env.given) == 3
    for given in env.env.given:
        assert space.contains(given)
        assert all(np.array_equal(given[key], action[key]) for key in action)


@pytest.mark.parametrize(
    "space",
    [
        spaces.Box(-180, 180, (2,), np.float32),
        spaces.Box(-1, 1, (2,), np.float32),
        spaces.Box(-1, 1, (3,), np.float64),
        spaces.Box(0, 8, (2,), np.int64),
        spaces.Discrete(4, start=1),
        spaces.MultiBinary(3),
    ],
)
def test_an_actions_ticks_joined_again_are_the_action_whatever_a_camera_is(space):
    """What an encoder with actions is told of a step is what it was trained on: the joined ticks of a recording of that step."""

    class Recorded(Counter):
        action_space = spaces.Dict({"camera": space})
        given: tuple = ()

        def step(self, action):
            self.given += (np.asarray(action["camera"]),)
            return np.zeros(1, np.float32), 1.0, False, False, {}

    env = FrameSkip(Recorded(), 4)
    env.action_space.seed(0)
    for _ in range(5):
        action = env.action_space.sample()
        env.env.given = ()
        env.step(action)
        ticks = np.stack(env.env.given)
        joined = join_ticks(ticks, np.array([0]), joining("action.camera", np.asarray(action["camera"]).dtype))
        np.testing.assert_allclose(joined[0], action["camera"], rtol=1e-6)
