import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from envs.minerl.spaces import Enum
from foundation.errors import UserError
from wrappers import ContinuousActions, DiscreteActions

KEYS = ("attack", "back", "forward", "jump", "left", "right", "sneak", "sprint")


class Recorder(gymnasium.Env):
    """MineRL's Navigate actions; remembers the last one."""

    observation_space = spaces.Box(0, 1, (1,), np.float32)
    action_space = spaces.Dict(
        {
            **{key: spaces.Discrete(2) for key in KEYS},
            "camera": spaces.Box(-180, 180, (2,), np.float32),
            "place": Enum(["dirt", "none"], "none"),
        }
    )

    def reset(self, *, seed=None, options=None):
        return np.zeros(1, np.float32), {}

    def step(self, action):
        self.last = action
        return np.zeros(1, np.float32), 0.0, False, False, {}


def stepped(env, *numbers):
    env.step(np.array(numbers, np.float32))
    return env.env.last


def test_the_keys_are_those_of_the_list_and_pressed_above_zero():
    env = ContinuousActions(Recorder(), "navigate_place")
    assert env.keys == ("forward", "sprint", "jump", "attack", "place_dirt")
    assert env.action_space == spaces.Box(-1, 1, (7,), np.float32)
    env.reset()
    action = stepped(env, 0, 0, 0.1, -0.1, 0.0, 1.0, -1.0)
    assert {key for key in KEYS if action[key]} == {"forward", "attack"}
    assert action["place"] == "none"
    assert stepped(env, 0, 0, -1, -1, -1, -1, 1)["place"] == "dirt"


def test_the_camera_turns_by_a_part_of_its_degrees_and_stops_at_the_limit():
    env = ContinuousActions(Recorder(), camera_degrees=40.0, pitch_limit=60.0)
    env.reset()
    np.testing.assert_allclose(stepped(env, 0.5, -0.25, -1, -1, -1)["camera"], [20, -10])
    np.testing.assert_allclose(stepped(env, 1, 0, -1, -1, -1)["camera"], [40, 0])
    np.testing.assert_allclose(stepped(env, 1, 2, -1, -1, -1)["camera"], [0, 40])
    env.reset()
    np.testing.assert_allclose(stepped(env, -1, 0, -1, -1, -1)["camera"], [-40, 0])


class Telling(Recorder):
    """Has a view that jumps to level when told to, and tells it."""

    def reset(self, *, seed=None, options=None):
        self.view = 0.0
        return np.zeros(1, np.float32), {"pitch": self.view}

    def step(self, action):
        self.view = 0.0 if action["attack"] else min(max(self.view + float(action["camera"][0]), -90.0), 90.0)
        observation, *rest, _ = super().step(action)
        return observation, *rest, {"pitch": self.view}


def test_the_limit_holds_of_the_view_that_the_environment_tells_also_after_a_jump():
    env = ContinuousActions(Telling(), camera_degrees=40.0, pitch_limit=60.0)
    env.reset()
    np.testing.assert_allclose(stepped(env, 1, 0, -1, -1, -1)["camera"], [40, 0])
    stepped(env, 0, 0, 1, -1, -1)
    np.testing.assert_allclose([stepped(env, 1, 0, -1, -1, -1)["camera"][0] for _ in range(3)], [40, 20, 0])
    assert env.env.view == 60


@pytest.mark.parametrize("environment", [Recorder, Telling])
def test_a_limit_beyond_the_games_own_is_the_games_own_and_its_state_comes_back(environment):
    env, again = (ContinuousActions(environment(), camera_degrees=15.0, pitch_limit=120.0) for _ in range(2))
    env.reset(), again.reset()
    for _ in range(7):
        stepped(env, 1, 0, -1, -1, -1)
    assert env.save_state()["pitch"].tolist() == [90.0]
    again.restore_state(env.save_state())
    np.testing.assert_allclose(stepped(again, -1, 0, -1, -1, -1)["camera"], [-15, 0])


def test_a_saved_count_beyond_the_games_own_limit_goes_on_from_that():
    env = ContinuousActions(Recorder(), camera_degrees=15.0, pitch_limit=120.0)
    env.reset()
    env.restore_state({**env.save_state(), "pitch": np.array([105.0])})
    np.testing.assert_allclose(stepped(env, 1, 0, -1, -1, -1)["camera"], [0, 0])
    np.testing.assert_allclose(stepped(env, -1, 0, -1, -1, -1)["camera"], [-15, 0])
    with pytest.raises(UserError, match="'pitch' holds numbers out of range"):
        env.restore_state({**env.save_state(), "pitch": np.array([1e3])})


def test_an_attack_is_held_and_its_rest_goes_into_a_saved_state():
    env, other = (ContinuousActions(Recorder(), sticky_attack=2) for _ in range(2))
    env.reset()
    other.reset()
    assert stepped(env, 0.5, 0, 1, -1, -1)["attack"] == 1
    other.restore_state(env.save_state())
    for one in (env, other):
        assert [stepped(one, 0, 0, -1, -1, -1)["attack"] for _ in range(3)] == [1, 1, 0]


def test_other_environments_and_unknown_keys_are_named():
    class Other(gymnasium.Env):
        action_space = spaces.Discrete(2)

    with pytest.raises(UserError, match=r"MineRL's action dictionary.*Discrete"):
        ContinuousActions(Other())
    with pytest.raises(UserError, match=r"unknown action 'atack'.*'attack'"):
        ContinuousActions(Recorder(), ["atack"])


def test_a_turn_against_the_limit_is_masked_and_nothing_else():
    env = DiscreteActions(Recorder(), ["attack", "camera_up", "camera_down", "camera_up+attack", "noop"], 30.0, pitch_limit=45.0)
    env.reset()
    assert env.action_masks().tolist() == [True, True, True, True, True]
    env.step(1)
    env.step(1)
    assert env.action_masks().tolist() == [True, False, True, True, True]
    env.reset()
    env.step(2)
    env.step(2)
    assert env.action_masks().tolist() == [True, True, False, True, True]


def test_a_view_that_rounding_keeps_off_its_limit_is_at_its_limit():
    env = DiscreteActions(Telling(), ["camera_up", "camera_down"], 7.3, pitch_limit=30.0)
    env.reset()
    for _ in range(5):
        env.step(1)
    # divided by frame skip and added up again
    env.env.view = np.nextafter(np.float32(30), 0)
    env._look({"pitch": env.env.view})
    assert env.action_masks().tolist() == [True, False]
