"""An agent with a history sees what a loop over its observations puts together."""

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3.common.vec_env import DummyVecEnv, VecFrameStack

from foundation.errors import UserError
from wrappers import SetSpace, VecHistory, VecLatent

ENVIRONMENTS = 4


class Numbers(gymnasium.Env):
    """Draws observations of a space; an episode's length follows from the seed."""

    action_space = spaces.Discrete(2)

    def __init__(self, seed, space):
        self.observation_space, self.random = space, np.random.default_rng(seed)
        space.seed(seed)

    def reset(self, *, seed=None, options=None):
        self.left = int(self.random.integers(1, 7))
        return self.observation_space.sample(), {}

    def step(self, action):
        self.left -= 1
        return self.observation_space.sample(), 0.0, self.left == 0, False, {}


SPACES = {
    "numbers": lambda: spaces.Box(-1, 1, (3,), np.float32),
    "picture": lambda: spaces.Box(0, 255, (10, 11, 3), np.uint8),
    "map": lambda: spaces.Box(-1, 1, (2, 3, 3), np.float32),
    "dictionary": lambda: spaces.Dict({"pov": spaces.Box(0, 255, (10, 11, 3), np.uint8), "compass": spaces.Box(-1, 1, (1,), np.float32)}),
}


def venv(make):
    return DummyVecEnv([lambda seed=seed: Numbers(seed, make()) for seed in range(ENVIRONMENTS)])


def put_together(steps):
    """Stack observations, oldest first: channels of a map are its first axis, else they are the last."""
    if isinstance(steps[0], dict):
        return {key: put_together([one[key] for one in steps]) for key in steps[0]}
    return np.concatenate(steps, axis=0 if steps[0].ndim == 3 and steps[0].dtype != np.uint8 else -1)


def row_of(observation, row):
    return {key: part[row].copy() for key, part in observation.items()} if isinstance(observation, dict) else observation[row].copy()


def same(one, other):
    one, other = (value if isinstance(value, dict) else {"": value} for value in (one, other))
    assert one.keys() == other.keys()
    for key in one:
        np.testing.assert_array_equal(one[key], other[key])
        assert one[key].dtype == other[key].dtype


@pytest.mark.parametrize("kind", SPACES)
@pytest.mark.parametrize("count", [2, 3])
def test_every_row_is_what_a_loop_over_its_episode_stacks(kind, count) -> None:
    stacked, plain = VecHistory(venv(SPACES[kind]), count), venv(SPACES[kind])
    found, observation = stacked.reset(), plain.reset()
    lasts = [[row_of(observation, row)] * count for row in range(ENVIRONMENTS)]
    ended = 0
    for _ in range(30):
        for row in range(ENVIRONMENTS):
            expected = put_together(lasts[row])
            same(row_of(found, row), expected)
            assert stacked.observation_space.contains(row_of(found, row))
        kept = found
        snapshot = [row_of(found, row) for row in range(ENVIRONMENTS)]
        found, _, dones, infos = stacked.step(np.zeros(ENVIRONMENTS, int))
        observation, _, _, plain_infos = plain.step(np.zeros(ENVIRONMENTS, int))
        for row in range(ENVIRONMENTS):
            # what a learner has kept is not changed
            same(row_of(kept, row), snapshot[row])
            if dones[row]:
                ended += 1
                same(infos[row]["terminal_observation"], put_together([*lasts[row][1:], plain_infos[row]["terminal_observation"]]))
                lasts[row] = [row_of(observation, row)] * count
            else:
                lasts[row] = [*lasts[row][1:], row_of(observation, row)]
    assert ended > ENVIRONMENTS


@pytest.mark.parametrize("kind", ["numbers", "picture"])
def test_it_is_the_frame_stack_of_stable_baselines_but_for_the_zeros_before_an_episode(kind) -> None:
    ours, theirs = VecHistory(venv(SPACES[kind]), 2), VecFrameStack(venv(SPACES[kind]), 2)
    assert ours.observation_space == theirs.observation_space
    ours.reset()
    theirs.reset()
    compared = 0
    for _ in range(20):
        found, _, dones, _ = ours.step(np.zeros(ENVIRONMENTS, int))
        expected = theirs.step(np.zeros(ENVIRONMENTS, int))[0]
        for row in np.flatnonzero(~dones):
            compared += 1
            np.testing.assert_array_equal(found[row], expected[row])
    assert compared > 20


def test_the_memory_goes_on_after_a_restore_with_that_of_the_encoder(pictures_env, freeze) -> None:
    def make():
        return VecHistory(VecLatent(DummyVecEnv([lambda: pictures_env(4, dictionary=True)] * 2), freeze(latents="all")), 3)

    one, other = make(), make()
    one.reset()
    one.step(np.ones(2, int))
    state = {name: tensor.clone() for name, tensor in one.encoder_state().items()}
    assert set(state) == {"sum", "count", "history.latent", "history.number"}
    other.reset()
    other.restore_encoder_state(state)
    assert all(torch.equal(state[name], tensor) for name, tensor in other.encoder_state().items())
    with pytest.raises(UserError, match="damaged: the observations of the steps before"):
        other.restore_encoder_state({**state, "history.latent": torch.zeros(2, 4)})


@pytest.mark.parametrize(("shape", "count", "most"), [((64, 64, 3), 22, 21), ((9, 12, 3), 3, 2), ((12, 9, 3), 3, 2), ((2, 5, 3), 2, 1)])
def test_a_picture_keeps_fewer_channels_than_rows_and_columns(shape, count, most) -> None:
    alone = spaces.Box(0, 255, shape, np.uint8)
    for space in (alone, spaces.Dict({"pov": alone, "compass": spaces.Box(-1, 1, (1,), np.float32)})):
        with pytest.raises(UserError, match=rf"has {3 * count} channels.*: lower --environment\.history to {most}"):
            VecHistory(venv(lambda space=space: space), count)
        if most > 1:
            assert VecHistory(venv(lambda space=space: space), most).count == most


def test_sets_have_no_history() -> None:
    with pytest.raises(UserError, match=r"these are a set: use --environment\.history 1"):
        VecHistory(venv(lambda: SetSpace(-1, 1, (4, 3), np.float32)), 2)
