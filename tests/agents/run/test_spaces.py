"""Whatever spaces an environment has, agents and the random player act in them and see them, or one line says why not."""

from dataclasses import replace

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces

from agents.learning.algorithms import refuse_misfit
from agents.learning.off_policy import DQNSettings, SACSettings, TD3Settings
from agents.learning.on_policy import A2CSettings, PPOSettings, RecurrentPPOSettings
from agents.run.environment import agent_environment, check_environment, training_environments
from agents.run.environment_config import EnvironmentConfig
from agents.run.evaluation import play_random
from foundation.errors import UserError
from frames.rollouts import RandomPlayer

POV = spaces.Box(0, 255, (36, 36, 3), np.uint8)
PPO = PPOSettings(n_envs=2, n_steps=16, batch_size=32, n_epochs=1, net_arch=(8,))
A2C = A2CSettings(n_envs=2, n_steps=16, net_arch=(8,))
LSTM = RecurrentPPOSettings(n_envs=2, n_steps=16, batch_size=32, n_epochs=1, net_arch=(8,), lstm_hidden_size=8)
DQN = DQNSettings(n_envs=2, buffer_size=64, learning_starts=8, batch_size=8, net_arch=(8,))
SAC = SACSettings(n_envs=2, buffer_size=64, learning_starts=8, batch_size=8, net_arch=(8,))
TD3 = TD3Settings(n_envs=2, buffer_size=64, learning_starts=8, batch_size=8, net_arch=(8,))

CHOICE = {
    "from 1": spaces.Discrete(5, start=1),
    "from -2": spaces.Discrete(3, start=-2),
    "one entry": spaces.Dict({"turn": spaces.Discrete(3, start=-1)}),
    "one of several": spaces.MultiDiscrete([4], start=[2]),
}
CHOICES = {
    "several": spaces.MultiDiscrete([2, 3]),
    "several from": spaces.MultiDiscrete([2, 3], start=[1, -1]),
    "a table": spaces.MultiDiscrete([[2, 3], [4, 2]], start=[[0, 5], [-1, 0]]),
    "bits": spaces.MultiBinary(3),
    "a table of bits": spaces.MultiBinary((2, 2)),
    "MineRL's words": spaces.Dict({name: spaces.Discrete(3) for name in ("attack", "camera", "craft", "place")}),
    "nested": spaces.Dict({"move": spaces.Discrete(3, start=-1), "hands": spaces.Tuple((spaces.Discrete(2), spaces.MultiBinary(2)))}),
}
NUMBERS = {
    "plain": spaces.Box(-1, 1, (2,), np.float32),
    "a table of numbers": spaces.Box(-1, 1, (2, 2), np.float32),
    "far from 0": spaces.Box(100, 200, (2,), np.float32),
    "each its own": spaces.Box(np.array([-1, 0, 0]), np.array([1, 1, 30]), dtype=np.float64),
    "of no axis": spaces.Box(0, 5, (), np.float32),
    "whole": spaces.Box(0, 4, (2,), np.int64),
    "bytes": spaces.Box(0, 255, (1,), np.uint8),
    "a camera of another kind": spaces.Dict({"camera": spaces.Box(0, 1, (3,), np.float32), "attack": spaces.Discrete(2)}),
    "a stick of that name": spaces.Dict({"camera": spaces.Box(-1, 1, (2,), np.float32), "attack": spaces.Discrete(2)}),
    "one that cannot move": spaces.Box(np.array([3, 0]), np.array([3, 1]), dtype=np.float32),
    "with choices": spaces.Dict({"steer": spaces.Box(-30, 30, (1,), np.float32), "gear": spaces.Discrete(3, start=1)}),
    "tuple": spaces.Tuple((spaces.Box(0, 1, (2,), np.float32), spaces.Box(-5, 5, (1,), np.float32))),
}


class Spaces(gymnasium.Env):
    """Ends after 5 steps; keeps the actions it was given, each of which must be in its space."""

    metadata = {"render_fps": 20}

    def __init__(self, actions, observations=None, given=None):
        self.action_space = actions
        self.observation_space = spaces.Dict({"pov": POV, **(observations or {})})
        self.given = [] if given is None else given

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.observation_space.seed(seed)
        self.steps = 0
        return self.observation_space.sample(), {}

    def step(self, action):
        assert self.action_space.contains(action), (action, self.action_space)
        self.given.append(action)
        self.steps += 1
        return self.observation_space.sample(), 1.0, self.steps == 5, False, {}


@pytest.fixture
def world(monkeypatch):
    """Return a function that puts an environment of given spaces in the place of all, and returns the list of actions it gets."""
    torch.set_num_threads(1)

    def put(actions, observations=None):
        given = []
        monkeypatch.setattr("envs.make_env", lambda name, **options: Spaces(actions, observations, given), raising=False)
        return given

    return put


CONFIG = EnvironmentConfig(name="Spaces", frame_skip=1)


def learn(settings, steps=64):
    venv = training_environments(CONFIG, settings.n_envs, 0, None)
    settings.make(venv, 0, "cpu").learn(steps)


def flat(action):
    """Return all numbers of an action, in the order of its entries."""
    if isinstance(action, dict):
        return np.concatenate([flat(one) for one in action.values()])
    if isinstance(action, tuple):
        return np.concatenate([flat(one) for one in action])
    return np.asarray(action, np.float64).reshape(-1)


@pytest.mark.parametrize(
    ("space", "settings"),
    [(name, settings) for name in CHOICE for settings in (PPO, DQN)]
    + [(name, settings) for name in CHOICES for settings in (PPO, A2C)]
    + [(name, settings) for name in NUMBERS for settings in (PPO, SAC)]
    + [("from 1", A2C), ("nested", LSTM), ("whole", TD3)],
    ids=lambda value: value if isinstance(value, str) else value.kind,
)
def test_agents_act_in_any_space(world, space, settings) -> None:
    given = world({**CHOICE, **CHOICES, **NUMBERS}[space])
    learn(settings)
    assert len(given) >= 64


@pytest.mark.parametrize("name", ["MineRL's words", "a camera of another kind", "a stick of that name"])
def test_names_of_minerls_keep_the_meaning_of_their_own_package(world, name) -> None:
    space = {**CHOICES, **NUMBERS}[name]
    given = world(space)
    venv = training_environments(replace(CONFIG, frame_skip=3), PPO.n_envs, 0, None)
    PPO.make(venv, 0, "cpu").learn(32)
    assert len(given) > 64
    player = RandomPlayer(space)
    player.reset(0)
    assert all(space.contains(player(None, {})) for _ in range(50))


@pytest.mark.parametrize("name", [*CHOICE, *CHOICES])
def test_the_random_player_chooses_everything_as_often(world, name) -> None:
    given = world({**CHOICE, **CHOICES}[name])
    play_random(CONFIG, 400, seed=0)
    columns = np.stack([flat(action) for action in given]).T
    sample = np.stack([flat(one) for one in _every(given)]).T
    for column, expected in zip(columns, sample, strict=True):
        values, counts = np.unique(column, return_counts=True)
        np.testing.assert_array_equal(values, np.unique(expected))
        assert counts.min() > 0.8 * len(column) / len(values)


def _every(given):
    """Draw from the environment's own space, which gymnasium samples without us."""
    import envs

    space = envs.make_env("Spaces").action_space
    space.seed(0)
    return [space.sample() for _ in range(1000)]


@pytest.mark.parametrize("name", NUMBERS)
def test_the_random_player_goes_from_bound_to_bound(world, name) -> None:
    space = NUMBERS[name]
    given = world(space)
    play_random(CONFIG, 400, seed=0)
    columns = np.stack([flat(action) for action in given]).T
    low, high = np.full(len(columns), np.inf), np.full(len(columns), -np.inf)
    for one in _every(given):
        low, high = np.minimum(low, flat(one)), np.maximum(high, flat(one))
    np.testing.assert_allclose(columns.min(1), low, atol=0.02 * (high - low).max())
    np.testing.assert_allclose(columns.max(1), high, atol=0.02 * (high - low).max())
    np.testing.assert_allclose(columns.mean(1), (low + high) / 2, atol=0.05 * (high - low).max())


def test_the_agents_numbers_are_the_environments(world) -> None:
    """By hand: a quarter of the way from 100 to 200, the middle of three gears, the last of five whole numbers."""
    for space, numbers, expected in (
        (NUMBERS["far from 0"], [-0.5, 1.0], [125, 200]),
        (NUMBERS["with choices"], [0.5, 0.0], {"gear": 2, "steer": [15]}),
        (NUMBERS["whole"], [0.99, -0.3], [4, 1]),
        (CHOICES["a table"], [1, 2, 3, 0], [[1, 7], [2, 0]]),
        (CHOICE["from 1"], 4, 5),
    ):
        given = world(space)
        env = agent_environment(CONFIG)
        env.reset(seed=0)
        # keys of a gymnasium dictionary are sorted: gear, steer
        acted = [numbers[1], numbers[0]] if isinstance(expected, dict) else numbers
        env.step(np.array(acted, env.action_space.dtype))
        if isinstance(expected, dict):
            assert {key: np.asarray(value).tolist() for key, value in given[0].items()} == expected
        else:
            np.testing.assert_allclose(given[0], expected)


@pytest.mark.parametrize(
    ("actions", "settings", "said"),
    [
        (spaces.Box(-np.inf, np.inf, (2,)), PPO, r"the action is Box\(-inf, inf.*declare finite bounds"),
        (spaces.Box(0, np.inf, (2,)), SAC, r"the action is Box\(0.0, inf.*declare finite bounds"),
        (spaces.Box(-3e38, 3e38, (1,)), SAC, "declare finite bounds"),
        (spaces.Box(-(2**31), 2**31 - 1, (1,), np.int32), SAC, "declare finite bounds"),
        (spaces.Dict({"gas": spaces.Box(0, np.inf, ())}), PPO, r"the action 'gas' is Box.*declare finite bounds"),
        (
            spaces.Dict({"hand": spaces.Tuple((spaces.Discrete(2), spaces.Text(5)))}),
            PPO,
            r"the action 'hand/1' is Text.*neither a choice nor",
        ),
        (spaces.Sequence(spaces.Discrete(2)), PPO, r"the action is Sequence.*neither a choice nor numbers"),
        (spaces.Dict({}), PPO, "nothing to choose"),
        (spaces.MultiDiscrete([2, 3]), DQN, r"agent 'dqn' needs a choice.*MultiDiscrete.*agents that fit are ppo, a2c, recurrent_ppo"),
        (spaces.Box(0, 4, (2, 40), np.int64), DQN, r"agent 'dqn' needs a choice"),
        (spaces.Discrete(5, start=1), SAC, r"agent 'sac' needs continuous actions"),
    ],
)
def test_actions_that_cannot_be_are_refused_in_one_line(world, actions, settings, said) -> None:
    world(actions)
    with pytest.raises(UserError, match=said) as refused:
        check_environment(CONFIG, settings)
    assert "\n" not in str(refused.value)


def test_an_algorithm_of_its_own_is_not_given_what_it_would_shift() -> None:
    with pytest.raises(UserError, match=r"agent 'dqn' needs a choice of actions, .*Discrete\(5, start=1\).*wrappers.PlainActions"):
        refuse_misfit(DQN, spaces.Discrete(5, start=1), masks=False)


OBSERVATIONS = {
    "choice": (spaces.Discrete(3, start=-1), -1, [1, 0, 0]),
    "choices": (spaces.MultiDiscrete([2, 3], start=[5, 0]), np.array([6, 2]), [0, 1, 0, 0, 1]),
    "table of choices": (spaces.MultiDiscrete([[2], [2]]), np.array([[1], [0]]), [0, 1, 1, 0]),
    "bits": (spaces.MultiBinary((2, 2)), np.array([[1, 0], [0, 1]], np.int8), [1, 0, 0, 1]),
    "no axis": (spaces.Box(0, 8, (), np.float32), np.float32(6), [0.5]),
    "whole": (spaces.Box(-10, 10, (2,), np.int64), np.array([5, -10]), [0.5, -1]),
    "whole and wide": (spaces.Box(0, 2**40, (1,), np.int64), np.array([300]), [300]),
    "whole type": (spaces.Box(0, 2**31 - 1, (1,), np.int32), np.array([300], np.int32), [300]),
    "flags": (spaces.Box(0, 1, (2,), np.bool_), np.array([True, False]), [1, -1]),
    "no bounds": (spaces.Box(-np.inf, np.inf, (2,), np.float32), np.array([3, -4], np.float32), [3, -4]),
    "largest numbers": (spaces.Box(-3.4e38, 3.4e38, (1,), np.float32), np.array([7], np.float32), [7]),
    "one bound": (spaces.Box(0, np.inf, (1,), np.float32), np.array([7], np.float32), [7]),
    "tuple": (
        spaces.Tuple((spaces.Discrete(2, start=4), spaces.Box(0, 1, (1,), np.float32))),
        (4, np.array([1.0])),
        {"0": [1, 0], "1": [1]},
    ),
}


@pytest.mark.parametrize("name", OBSERVATIONS)
def test_observations_become_numbers_of_one_size_and_agents_learn_from_them(world, name) -> None:
    space, value, expected = OBSERVATIONS[name]
    world(spaces.Discrete(2), {"seen": space})
    env = agent_environment(CONFIG)
    env.unwrapped.observation_space.sample = lambda: {"pov": np.zeros(POV.shape, np.uint8), "seen": value}
    seen, _ = env.reset(seed=0)
    for key, numbers in (expected if isinstance(expected, dict) else {"": expected}).items():
        full = f"seen/{key}" if key else "seen"
        np.testing.assert_allclose(seen[full], numbers, rtol=1e-6)
        assert env.observation_space[full].contains(seen[full])
    if name not in ("whole and wide", "whole type", "no bounds", "largest numbers", "one bound"):
        learn(PPO, 32)


@pytest.mark.parametrize(
    ("observations", "said"),
    [
        ({"chat": spaces.Text(5)}, r"observation 'chat' is Text.*neither numbers nor a choice; leave it out"),
        ({"map": spaces.Graph(spaces.Box(-1, 1, (2,)), None)}, r"observation 'map' is Graph.*neither numbers"),
        ({"bag": spaces.Dict({"all": spaces.Sequence(spaces.Discrete(2))})}, r"observation 'bag/all' is Sequence"),
        ({"word": spaces.Discrete(50_000)}, r"observation 'word' is Discrete\(50000\): too many choices"),
        ({"a": spaces.Dict({"b": spaces.Discrete(2)}), "a/b": spaces.Discrete(2)}, "two observations would be called 'a/b'"),
        ({"pov": spaces.Box(0, 1, (36, 36, 3), np.float32)}, r"observation 'pov' is Box\(0.0, 1.0.*no picture, uint8.*scale it"),
        ({"pov": spaces.Box(0, 1, (36, 36, 3), np.uint8)}, "multiply by 255"),
    ],
)
def test_observations_that_cannot_be_are_refused_in_one_line(world, observations, said) -> None:
    world(spaces.Discrete(2), observations)
    with pytest.raises(UserError, match=said) as refused:
        check_environment(CONFIG, PPO)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("space", "value", "said"),
    [
        (spaces.Box(-1, 1, (2,), np.float32), np.array([0, np.nan], np.float32), r"observation 'seen' is \[ 0. nan\], no finite number"),
        (spaces.Box(-np.inf, np.inf, (1,), np.float32), np.array([np.inf], np.float32), "no finite number"),
        (spaces.Discrete(3, start=1), 0, r"observation 'seen' is 0, which is not in Discrete\(3, start=1\)"),
        (spaces.MultiDiscrete([2, 2]), np.array([0, 2]), r"which is not in MultiDiscrete"),
    ],
)
def test_values_that_a_space_does_not_have_are_named(world, space, value, said) -> None:
    world(spaces.Discrete(2), {"seen": space})
    env = agent_environment(CONFIG)
    env.unwrapped.observation_space.sample = lambda: {"pov": np.zeros(POV.shape, np.uint8), "seen": value}
    with pytest.raises(UserError, match=said):
        env.reset(seed=0)


def test_a_picture_of_narrower_bounds_is_still_one_to_the_policy(world) -> None:
    world(spaces.Discrete(2), {"pov": spaces.Box(16, 235, (36, 36, 3), np.uint8)})
    venv = training_environments(CONFIG, 2, 0, None)
    assert type(PPO.make(venv, 0, "cpu").policy.features_extractor).__name__ == "NatureCNN"


def test_names_that_torch_has_for_itself_go_with_a_policy(world) -> None:
    choices = {name: spaces.Discrete(2) for name in ("keys", "arm.left", "training", "latent")}
    world(spaces.Discrete(2), {**choices, "type": spaces.Box(0, 1, (2,), np.float32)})
    learn(PPO, 32)
