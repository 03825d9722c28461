"""What Stable-Baselines3 asks of any VecEnv: `RayVecEnv` answers as `DummyVecEnv` does on the same environments."""

import os
import signal
import sys
from types import SimpleNamespace

import gymnasium
import numpy as np
import pytest
import ray
import torch
from gymnasium import spaces
from gymnasium.wrappers import RescaleAction, TimeLimit
from stable_baselines3.common.vec_env import DummyVecEnv

from agents.remote.latents import ArrivingLatent
from agents.remote.vec_env import RayVecEnv
from agents.run.episodes import Episodes
from encoders import Encoder, EncoderArtifact, StoreReference, make_encoder, prepare
from encoders.actions import ActionArray
from encoders.scaling import ReadingStatistics
from foundation.local_ray import local_ray
from wrappers import FrozenEncoder, VecLatent
from wrappers.action_vectors import RecordedActions

COUNT = 3
LENGTH = 4
SHADE = 40


class Counting(gymnasium.Env):
    """Counts its steps; an episode lasts as many as its reset's option says, or 4. It knows what it was asked for."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 20}
    observation_space = spaces.Box(0, 1000, (2,), np.float64)
    action_space = spaces.MultiDiscrete([5, 7])
    render_mode = "rgb_array"
    mark = "unset"

    def __init__(self, number):
        self.number, self.asked = number, 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps, self.last = 0, (options or {}).get("length", LENGTH)
        self.drawn = float(self.np_random.integers(1000)) if seed is not None else 0.0
        return np.array([self.steps, self.drawn]), {"seed": seed, "options": options}

    def step(self, action):
        self.steps += 1
        over = self.steps == self.last
        return np.array([self.steps, self.drawn]), float(action.sum()), over and self.number != 1, over, {"steps": self.steps}

    def ask(self, *what, times=1):
        self.asked += times
        return self.number, self.asked, what

    def render(self):
        return np.full((4, 4, 3), self.number, np.uint8)


class Painter(gymnasium.Env):
    """Paints every picture into one array and spoils its actions; step t of an episode shows t x 40."""

    metadata = {"render_fps": 20}
    observation_space = spaces.Box(0, 255, (64, 64, 3), np.uint8)
    action_space = spaces.Box(-10, 10, (2,), np.float32)

    def __init__(self):
        self.picture, self.given = np.zeros((64, 64, 3), np.uint8), []

    def reset(self, *, seed=None, options=None):
        return self.paint(0), {"ticks": np.zeros(1)}

    def step(self, action):
        self.given.append(action.tolist())
        action[:] = 99
        return self.paint(self.ticks + 1), 1.0, self.ticks == LENGTH, False, {"shown": self.picture}

    def paint(self, ticks):
        self.ticks = ticks
        self.picture[:] = SHADE * ticks
        return self.picture


@pytest.fixture(scope="module", autouse=True)
def cluster():
    torch.set_num_threads(1)
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    with local_ray(2):
        yield
    ray.cloudpickle.unregister_pickle_by_value(sys.modules[__name__])


@pytest.fixture
def both():
    """Return the same environments in actors (two, so that indices cross from one to the other) and in this process."""
    makers = [lambda number=number: TimeLimit(Counting(number), 100) for number in range(COUNT)]
    remote = RayVecEnv([lambda counts, make=make: make() for make in makers], 2)
    remote.reset()
    local = DummyVecEnv(makers)
    local.reset()
    yield remote, local
    remote.close()


def assert_alike(found, expected):
    np.testing.assert_equal(found, expected)


def test_calls_reach_the_environments_that_indices_name(both) -> None:
    remote, local = both
    for indices in (None, 1, -1, [0], [0, -1], [-3, 1], [2, 0], [1, 1, -2], range(2), []):
        answers = [
            (
                venv.env_method("ask", "a", "b", indices=indices, times=2),
                venv.get_attr("number", indices),
                venv.get_attr("asked", indices),
                venv.env_is_wrapped(TimeLimit, indices),
                venv.env_is_wrapped(Episodes, indices),
            )
            for venv in both
        ]
        assert_alike(*answers)
    # by hand: [0, -1] of three are the first and the last
    assert remote.get_attr("number", [0, -1]) == [0, 2]
    for number, indices in enumerate((None, -1, [0, -2])):
        for venv in both:
            venv.set_attr("mark", number, indices)
        assert_alike(remote.get_attr("mark"), local.get_attr("mark"))
    assert remote.get_attr("mark") == [2, 2, 1]
    for venv in both:
        for indices in (COUNT, [-COUNT - 1]):
            with pytest.raises(IndexError):
                venv.get_attr("number", indices)


def test_an_attribute_set_by_a_negative_index_outlives_its_actor(both) -> None:
    remote, _ = both
    remote.set_attr("mark", "kept", -1)
    os.kill(remote.places()[-1]["pid"], signal.SIGKILL)
    assert remote.step(np.zeros((COUNT, 2), int))[2][-1]
    assert remote.get_attr("mark") == ["unset", "unset", "kept"]


def test_seeds_and_options_hold_for_one_reset_and_episodes_end_alike(both) -> None:
    for given in ({"length": 2}, [{"length": 1}, {}, {"length": 3}]):
        resets = []
        for venv in both:
            seeds = venv.seed(11)
            venv.set_options(given)
            resets.append((seeds, venv.reset(), venv.reset_infos))
        assert_alike(*resets)
        assert [info["seed"] for info in resets[0][2]] == [11, 12, 13]
        for step in range(6):
            steps = [venv.step(np.full((COUNT, 2), [step % 5, 1])) for venv in both]
            assert_alike(*steps)
        assert_alike(*[venv.reset_infos for venv in both])
    # the second reset has neither
    for venv in both:
        venv.reset()
    assert_alike(*[venv.reset_infos for venv in both])
    assert [info["seed"] for info in both[0].reset_infos] == [None] * COUNT


def test_pictures_are_those_of_the_environments_and_steps_are_not_begun_twice(both) -> None:
    remote, local = both
    assert_alike(remote.get_images(), local.get_images())
    assert_alike(remote.render("rgb_array"), local.render("rgb_array"))
    actions = np.ones((COUNT, 2), int)
    remote.step_async(actions)
    for call in (lambda: remote.step_async(actions), lambda: remote.get_attr("number")):
        with pytest.raises(RuntimeError, match=r"a step is under way: step_wait\(\) comes before"):
            call()
    # and the step that was begun is whole
    assert_alike(remote.step_wait(), local.step(actions))
    remote.step_async(actions)
    assert_alike(remote.reset(), local.reset())


@pytest.fixture(scope="module")
def frozen(tmp_path_factory):
    frames = np.random.default_rng(0).integers(0, 256, (32, 64, 64, 3), np.uint8)
    store = StoreReference(path="gone", fingerprint="0", frames_per_second=20.0, resize="squash")
    folder = tmp_path_factory.mktemp("encoder")
    prepare(make_encoder("debug", frame_shape=[64, 64, 3]), frames, folder, store=store, seed=0)
    return FrozenEncoder(folder)


def in_this_process(make):
    return DummyVecEnv([lambda: Episodes(make(), lambda episode: episode)] * 2)


def in_actors(make):
    return RayVecEnv([lambda counts: Episodes(make(), lambda episode: episode, counts)] * 2, 1)


def in_actors_bare(make):
    return RayVecEnv([lambda counts: make()] * 2, 1)


@pytest.mark.parametrize("made", [in_this_process, in_actors, in_actors_bare])
@pytest.mark.parametrize("latents", [False, True])
def test_an_environment_may_own_all_its_arrays(made, latents, frozen) -> None:
    venv = made(Painter)
    venv = VecLatent(venv, frozen) if latents else venv
    venv.reset()
    chosen = np.array([[0.5, -0.25], [0.25, 1.0]], np.float32)
    for _ in range(LENGTH):
        given = chosen.copy()
        observation, _, dones, infos = venv.step(given)
        np.testing.assert_array_equal(given, chosen)
    assert dones.all()
    last, first = (np.full((1, 64, 64, 3), shade, np.uint8) for shade in (SHADE * LENGTH, 0))
    for row in range(2):
        assert (infos[row]["shown"] == SHADE * LENGTH).all()
        for found, picture in ((infos[row]["terminal_observation"], last), (observation[row], first)):
            expected = frozen.encode(picture)[0] if latents else picture
            np.testing.assert_allclose(found, expected[0], rtol=1e-5, atol=1e-5)
        np.testing.assert_array_equal(venv.get_attr("given")[row], np.tile(chosen[row], (LENGTH, 1)))
    venv.close()


class Told(Encoder):
    """Its latents are what it is told of the action, and how many steps it remembers."""

    def __init__(self):
        super().__init__()
        self.frame_shape, self.latents, self.action_size = (64, 64, 3), {"told": (3,)}, 2

    def initial_state(self, batch_size):
        return {"steps": torch.zeros(batch_size, 1)}

    def encode(self, frames, state, action=None, latents=None):
        return torch.cat([action, state["steps"]], 1), {"steps": state["steps"] + 1}


@pytest.mark.parametrize("encode", ["here", "as it comes", "in the actor"])
def test_an_encoder_is_told_what_recordings_hold_wherever_it_runs(encode) -> None:
    """Agents give halves of a choice that is recorded as from -10 to 10; an actor that dies has done nothing."""
    statistics = {"told": ReadingStatistics(torch.zeros(3), torch.ones(3))}
    info = SimpleNamespace(frames_per_second=20.0, resize="squash", actions=(ActionArray("action", 2),), scale="unit")
    frozen = FrozenEncoder(EncoderArtifact(model=Told(), info=info, statistics=statistics))

    def make(counts=None):
        scaled = RescaleAction(RecordedActions(Painter(), info.actions), np.float32(-1), np.float32(1))
        return Episodes(scaled, lambda episode: episode)

    if encode == "here":
        venv = VecLatent(DummyVecEnv([make] * 2), frozen)
    else:
        venv = RayVecEnv([make] * 2, 2, frozen=frozen if encode == "in the actor" else None, backoff_seconds=0.01)
        venv = ArrivingLatent(venv, frozen) if encode == "as it comes" else venv
    chosen = np.array([[0.5, -0.25], [0.25, 1.0]], np.float32)
    np.testing.assert_array_equal(venv.reset(), np.zeros((2, 3)))
    for step in range(1, LENGTH + 1):
        found, _, dones, infos = venv.step(chosen.copy())
        last = np.stack([info["terminal_observation"] for info in infos]) if dones.all() else found
        np.testing.assert_allclose(last, np.column_stack([10 * chosen, [step, step]]), rtol=1e-5)
    np.testing.assert_array_equal(found, np.zeros((2, 3)))
    if encode != "here":
        os.kill(venv.unwrapped.places()[0]["pid"], signal.SIGKILL)
        found, _, dones, _ = venv.step(chosen.copy())
        assert dones.tolist() == [True, False]
        np.testing.assert_allclose(found, [[0, 0, 0], [2.5, 10, 1]], rtol=1e-5)
        np.testing.assert_allclose(venv.step(chosen.copy())[0], np.column_stack([10 * chosen, [1, 2]]), rtol=1e-5)
    venv.close()


def test_the_picture_of_an_episode_is_not_overdrawn() -> None:
    env = Episodes(Painter(), lambda episode: episode)
    seen = [env.picture for _ in (env.reset(),)]
    for _ in range(LENGTH):
        env.step(np.zeros(2, np.float32))
        seen.append(env.picture)
    assert [int(picture.max()) for picture in seen] == [SHADE * tick for tick in range(LENGTH + 1)]
