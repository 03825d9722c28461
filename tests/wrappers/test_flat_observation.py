import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from foundation.errors import UserError
from wrappers import FlatObservation
from wrappers.latents import in_place_of_picture, with_latents

POV = spaces.Box(0, 255, (4, 4, 3), np.uint8)


class Fixed(gymnasium.Env):
    action_space = spaces.Discrete(2)

    def __init__(self, space, observation):
        self.observation_space = space
        self.value = observation

    def reset(self, *, seed=None, options=None):
        return self.value, {}


def test_navigate_becomes_flat_with_numbers_of_one_size():
    space = spaces.Dict(
        {
            "pov": POV,
            "compass": spaces.Dict({"angle": spaces.Box(-180.0, 180.0, (), np.float32)}),
            "inventory": spaces.Dict({"dirt": spaces.Box(0, 2304, (), np.int64)}),
            "mode": spaces.Discrete(3),
        }
    )
    picture = np.full((4, 4, 3), 7, np.uint8)
    value = {"pov": picture, "compass": {"angle": np.float32(90)}, "inventory": {"dirt": np.int64(1152)}, "mode": 2}
    env = FlatObservation(Fixed(space, value))
    flat, _ = env.reset()
    assert set(flat) == {"pov", "compass/angle", "inventory/dirt", "mode"}
    np.testing.assert_array_equal(flat["pov"], picture)
    np.testing.assert_allclose(flat["compass/angle"], [1, 0], atol=1e-6)
    np.testing.assert_allclose(flat["inventory/dirt"], [0])
    np.testing.assert_allclose(flat["mode"], [0, 0, 1])
    assert env.observation_space.contains(flat)


def test_a_picture_alone_becomes_the_picture():
    env = FlatObservation(Fixed(spaces.Dict({"pov": POV}), {"pov": np.zeros((4, 4, 3), np.uint8)}))
    assert env.observation_space == POV
    assert env.reset()[0].shape == (4, 4, 3)


def test_what_is_no_number_is_refused_by_name():
    with pytest.raises(UserError, match="observation 'chat'"):
        FlatObservation(Fixed(spaces.Dict({"pov": POV, "chat": spaces.Text(5)}), None))
    with pytest.raises(UserError, match="needs a dictionary"):
        FlatObservation(Fixed(POV, None))


def test_a_number_that_is_called_as_latents_are_stands_beside_them():
    space = spaces.Dict({"pov": POV, "latent": spaces.Box(0, 8, (2,), np.float32)})
    env = FlatObservation(Fixed(space, {"pov": np.zeros((4, 4, 3), np.uint8), "latent": np.array([6.0, 2.0], np.float32)}))
    flat, _ = env.reset()
    np.testing.assert_allclose(flat["latent_"], [0.5, -0.5])
    read = spaces.Box(-np.inf, np.inf, (5,), np.float32)
    assert set(in_place_of_picture(env.observation_space, read).spaces) == {"latent", "latent_"}
    assert set(with_latents(flat, np.ones(5))) == {"latent", "latent_"}
    with pytest.raises(UserError, match="an entry 'latent' of its own: rename it"):
        in_place_of_picture(space, read)
