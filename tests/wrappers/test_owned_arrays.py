"""An environment may draw every picture into the same array, and change the actions that it is given."""

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from stable_baselines3.common.vec_env import DummyVecEnv

from envs.pictures import PictureObservation
from wrappers import DiscreteActions, FlatObservation, FrameSkip, LatentObservation, VecLatent
from wrappers.resized_picture import ResizedPicture

LENGTH = 4
SHADE = 40


class OneBuffer(gymnasium.Env):
    """Every step's picture is 40 x tick, the numbers beside it are the tick; both are written into the same arrays for ever.

    Actions are spoilt after their use.
    """

    metadata = {"render_fps": 5}
    action_space: spaces.Space = spaces.Box(-1, 1, (3,), np.float32)
    picture_space = spaces.Box(0, 255, (8, 8, 3), np.uint8)

    def __init__(self, dictionary=True):
        numbers = spaces.Box(0, 100, (2,), np.float32)
        self.observation_space = spaces.Dict({"pov": self.picture_space, "number": numbers}) if dictionary else self.picture_space
        self.shown = {"pov": np.zeros((8, 8, 3), np.uint8), "number": np.zeros(2, np.float32)}
        self.dictionary, self.given = dictionary, []

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self.draw(0), {}

    def step(self, action):
        self.given.append(np.array(action["camera"] if isinstance(action, dict) else action))
        for array in action.values() if isinstance(action, dict) else [action]:
            if isinstance(array, np.ndarray):
                array[...] = 99
        return self.draw(self.ticks + 1), 1.0, self.ticks == LENGTH, False, {}

    def draw(self, ticks):
        self.ticks = ticks
        self.shown["pov"][:], self.shown["number"][:] = SHADE * ticks, ticks
        return self.shown if self.dictionary else self.shown["pov"]


class Keyed(OneBuffer):
    action_space = spaces.Dict({"attack": spaces.Discrete(2), "camera": spaces.Box(-180, 180, (2,), np.float32)})


def terminal(venv):
    """Step through an episode; return its `terminal_observation` as a dictionary."""
    venv.reset()
    for _ in range(LENGTH):
        observation, _, dones, infos = venv.step(np.zeros((venv.num_envs, 3), np.float32))
    assert dones.all()
    first = {key: value[0] for key, value in observation.items()} if isinstance(observation, dict) else {"pov": observation[0]}
    last = infos[0]["terminal_observation"]
    return last if isinstance(last, dict) else {"pov": last}, first


def made(layers, dictionary=True):
    def make():
        env = PictureObservation(OneBuffer(dictionary))
        for layer in layers:
            env = layer(env)
        return env

    return make


@pytest.mark.parametrize("dictionary", [False, True])
@pytest.mark.parametrize(
    "layers",
    [[], [FlatObservation], [lambda env: FrameSkip(env, 1)], [lambda env: ResizedPicture(env, (8, 8))]],
    ids=["bare", "flat", "skip", "resized"],
)
def test_the_last_observation_of_an_episode_is_not_the_first_of_the_next(layers, dictionary):
    last, first = terminal(DummyVecEnv([made(layers, dictionary)]))
    assert (last["pov"] == SHADE * LENGTH).all()
    assert (first["pov"] == 0).all()
    if dictionary:
        assert (np.asarray(last["number"]) != np.asarray(first["number"])).all()


def test_latents_are_those_of_the_last_picture_and_numbers_stay(freeze):
    frozen = freeze(memory=False)
    venv = VecLatent(DummyVecEnv([made([FlatObservation])]), frozen)
    single = DummyVecEnv([lambda: LatentObservation(OneBuffer(), frozen)])
    ended = [terminal(venv), terminal(single)]
    for last, _ in ended:
        np.testing.assert_allclose(last["latent"], np.full(3, SHADE * LENGTH / 255), rtol=1e-6)
    np.testing.assert_allclose(ended[1][0]["number"], [LENGTH, LENGTH])
    np.testing.assert_allclose(ended[1][1]["number"], [0, 0])


def test_an_encoder_is_told_the_action_that_was_chosen_though_the_environment_spoils_it(freeze):
    frozen, chosen = freeze(latents="all"), np.array([0.5, -0.25, 1.0], np.float32)
    venv = VecLatent(DummyVecEnv([lambda: OneBuffer(dictionary=False)]), frozen)
    single = LatentObservation(OneBuffer(dictionary=False), frozen)
    venv.reset()
    single.reset()
    many = venv.step(chosen[None].copy())[0][0]
    one = single.step(chosen.copy())[0]
    # the memory's entries for actions: half of the zeros before, and what was chosen
    np.testing.assert_allclose(many[3:6], chosen)
    np.testing.assert_allclose(one[3:6], chosen)


def test_every_tick_of_a_frame_skip_gets_the_action_that_was_chosen():
    env = FrameSkip(OneBuffer(), 3)
    env.reset()
    chosen = np.array([0.5, -0.25, 1.0], np.float32)
    env.step(chosen)
    np.testing.assert_array_equal(env.unwrapped.given, [[0.5, -0.25, 1.0]] * 3)
    np.testing.assert_array_equal(chosen, [0.5, -0.25, 1.0])


def test_a_list_of_actions_is_not_changed_by_the_environment():
    env = DiscreteActions(Keyed(), ["camera_right", "attack"], camera_degrees=10)
    env.reset()
    for _ in range(3):
        env.step(0)
    np.testing.assert_array_equal(env.unwrapped.given, [[0, 10]] * 3)
