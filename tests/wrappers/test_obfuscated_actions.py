import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from foundation.errors import UserError
from wrappers.obfuscated_actions import ObfuscatedActions

CENTRES = np.random.default_rng(0).uniform(-1, 1, (5, 64)).astype(np.float32)


class Obfuscated(gymnasium.Env):
    """Keeps the last action, then spoils it, as some environments do."""

    observation_space = spaces.Dict({"pov": spaces.Box(0, 255, (8, 8, 3), np.uint8)})

    def __init__(self, **actions: spaces.Space) -> None:
        self.action_space = spaces.Dict(actions or {"vector": spaces.Box(-1.05, 1.05, (64,), np.float32)})

    def reset(self, *, seed=None, options=None):
        return {"pov": np.zeros((8, 8, 3), np.uint8)}, {}

    def step(self, action):
        self.last = action["vector"].copy()
        assert self.action_space.contains(action)
        action["vector"][:] = 0
        return {"pov": np.zeros((8, 8, 3), np.uint8)}, 0.0, False, False, {}


def test_a_choice_is_the_centre_of_that_number_however_often_it_is_made():
    env = ObfuscatedActions(Obfuscated(), CENTRES)
    assert env.action_space == spaces.Discrete(5)
    env.reset()
    for choice in (3, 0, 3):
        env.step(np.int64(choice))
        assert np.array_equal(env.env.last, CENTRES[choice])


def test_a_centre_beyond_the_bounds_is_cut_off_at_them():
    env = ObfuscatedActions(Obfuscated(), np.full((2, 64), 1.2, np.float32))
    env.reset()
    env.step(1)
    np.testing.assert_allclose(env.env.last, 1.05)


def test_centres_of_another_length_are_refused():
    with pytest.raises(UserError, match=r"shape \(32,\) do not fit this environment's \(64,\)"):
        ObfuscatedActions(Obfuscated(), CENTRES[:, :32])


def test_an_environment_with_keys_is_refused():
    with pytest.raises(UserError, match="whose action is one vector"):
        ObfuscatedActions(Obfuscated(forward=spaces.Discrete(2)), CENTRES)
