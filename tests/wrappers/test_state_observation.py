"""An oracle sees the state that the environment tells, whole, in one order, and nothing of the picture."""

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from foundation.errors import UserError
from wrappers import StateObservation

STATE = {"pitch": -0.5, "bearing_sin": 0.25, "block_log": 1.0}


class Told(gymnasium.Env):
    """A picture, a number beside it, and a state that changes with every step."""

    observation_space = spaces.Dict({"pov": spaces.Box(0, 255, (8, 8, 3), np.uint8), "life": spaces.Box(0, 1, (1,), np.float32)})
    action_space = spaces.Discrete(2)

    def __init__(self) -> None:
        boxes = {"bearing_sin": (-1, 1), "block_log": (0, 1), "pitch": (-1, 1)}
        self.state_space = spaces.Dict({name: spaces.Box(*ends, (), np.float32) for name, ends in boxes.items()})
        self.state = dict(STATE)

    def reset(self, *, seed=None, options=None):
        return {"pov": np.zeros((8, 8, 3), np.uint8), "life": np.ones(1, np.float32)}, {"state": dict(self.state)}

    def step(self, action):
        self.state["pitch"] += 0.5
        return self.reset()[0], 1.0, False, False, {"state": dict(self.state)}


def test_the_state_stands_in_place_of_the_picture_sorted_by_name() -> None:
    env = StateObservation(Told())
    observation, _ = env.reset()
    assert list(observation) == ["latent", "life"]
    assert observation["latent"].tolist() == [0.25, 1.0, -0.5]
    assert env.observation_space.contains(observation)
    assert env.observation_space["latent"].low.tolist() == [-1, 0, -1]
    assert env.step(0)[0]["latent"].tolist() == [0.25, 1.0, 0.0]


def test_a_world_of_pictures_alone_becomes_numbers_alone() -> None:
    world = Told()
    env = StateObservation(gymnasium.wrappers.TransformObservation(world, lambda seen: seen["pov"], world.observation_space["pov"]))
    observation, _ = env.reset()
    assert observation.tolist() == [0.25, 1.0, -0.5]
    assert env.observation_space.contains(observation)


def test_a_world_that_tells_nothing_or_not_all_is_refused() -> None:
    world = Told()
    del world.state["pitch"]
    with pytest.raises(UserError, match="here: its info\\['state'\\] lacks 'pitch'"):
        StateObservation(world, "here").reset()
    world.state_space = spaces.Dict({"map": spaces.Box(0, 1, (8, 8))})
    with pytest.raises(UserError, match=r"state_space\['map'\] is .*must be a Box of a single number"):
        StateObservation(world)
    del world.state_space
    with pytest.raises(UserError, match=r"Nowhere-v0 tells nothing of its state .*'oracle'.*leave it out"):
        StateObservation(world, "Nowhere-v0")
