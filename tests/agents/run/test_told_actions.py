"""While an agent acts, its encoder is told what recordings of the same ticks hold: by name, in the words' numbers of training."""

from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from types import SimpleNamespace

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3.common.vec_env import DummyVecEnv

import frames
from agents.run.environment import agent_environment, training_environments
from agents.run.environment_config import EnvironmentConfig
from encoders import Encoder, EncoderArtifact
from encoders.actions import ActionArray, size_of, stored_actions
from encoders.scaling import ReadingStatistics
from envs.minerl.spaces import Enum
from foundation.errors import UserError
from wrappers import FrozenEncoder, LatentObservation, VecLatent
from wrappers.resized_picture import ResizedPicture

SKIP = 3
LIST = ("attack", "forward", "camera_right", "place_dirt", "camera_up+forward", "noop")


class World(gymnasium.Env):
    """MineRL's actions with words; keeps those of every tick. Ends after so many ticks."""

    metadata = {"render_fps": 20}
    observation_space = spaces.Dict({"pov": spaces.Box(0, 255, (8, 8, 3), np.uint8)})

    def __init__(self, actions, ticks=10**9):
        self.action_space, self.ticks, self.given = actions, ticks, []

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.left = self.ticks
        return {"pov": np.zeros((8, 8, 3), np.uint8)}, {}

    def step(self, action):
        self.given.append(deepcopy(action))
        self.left -= 1
        return {"pov": np.full((8, 8, 3), len(self.given) % 256, np.uint8)}, 0.0, self.left == 0, False, {}


def keyed(words=("cobblestone", "dirt", "none")):
    keys = {key: spaces.Discrete(2) for key in ("attack", "forward")}
    return spaces.Dict({**keys, "camera": spaces.Box(-180, 180, (2,), np.float32), "place": Enum(list(words), default="none")})


@dataclass
class Nothing:
    pass


class Told(Encoder):
    """Its latents are what it is told of the action."""

    Hyperparameters = Nothing

    def __init__(self, size):
        super().__init__()
        self.frame_shape, self.latents, self.action_size = (8, 8, 3), {"told": (size,)}, size

    def initial_state(self, batch_size):
        return {"steps": torch.zeros(batch_size, 1)}

    def encode(self, frames, state, action=None, latents=None):
        return action.clone(), {"steps": state["steps"] + 1}


def told(actions, size=None, rate=20 / SKIP, resize="squash"):
    size = size_of(actions) if size is None else size
    info = SimpleNamespace(frames_per_second=rate, resize=resize, actions=actions, scale="unit")
    statistics = {"told": ReadingStatistics(torch.zeros(size), torch.ones(size))}
    return FrozenEncoder(EncoderArtifact(model=Told(size), info=info, statistics=statistics))


class Replay:
    """Plays given actions again."""

    def __init__(self, actions):
        self.actions = actions

    def reset(self, seed):
        self.left = iter(self.actions)

    def __call__(self, observation, info):
        return next(self.left)


def recorded(path, space, given):
    """Return the store of a recording in which the same actions were played tick by tick."""
    count = len(given) + 1
    frames.record(lambda: World(space), Replay(given), path, frames=count, episode_frames=count, frame_size=(8, 8))
    return frames.FrameStore(path)


@pytest.mark.parametrize("continuous", [False, True])
@pytest.mark.parametrize("vectorised", [False, True])
def test_what_is_told_is_what_a_recording_holds(monkeypatch, tmp_path, continuous, vectorised) -> None:
    world = World(keyed())
    monkeypatch.setattr("envs.make_env", lambda name, **options: world, raising=False)
    config = EnvironmentConfig(name="World", frame_skip=SKIP, actions=LIST, continuous=continuous, camera_degrees=9.0)
    # a first run says what is recorded: only two of the three words
    env = agent_environment(config)
    env.action_space.seed(0)
    chosen = [env.action_space.sample() for _ in range(40)]
    env.reset()
    for action in chosen:
        env.step(action)
    store = recorded(tmp_path / "store", keyed(), world.given)
    assert store.action_texts["action.place"] == ["dirt", "none"]
    expected = store.action_windows([0], len(chosen) + 1, SKIP)[0]
    world.given.clear()
    frozen = told(stored_actions(store))
    acting = VecLatent(DummyVecEnv([lambda: agent_environment(config)]), frozen) if vectorised else LatentObservation(env, frozen)
    latents = [acting.reset() if vectorised else acting.reset()[0]]
    for action in chosen:
        latents.append(acting.step(np.array([action]) if vectorised else action)[0])
    found = np.stack([np.asarray(latent).reshape(-1) for latent in latents])
    np.testing.assert_allclose(found, expected, atol=1e-4)
    # by hand: (attack, pitch and yaw, forward, place), a turn of 9 degrees, words of training
    if not continuous:
        rows = {"attack": [1, 0, 0, 0, 1], "camera_right": [0, 0, 9, 0, 1], "place_dirt": [0, 0, 0, 0, 0], "noop": [0, 0, 0, 0, 1]}
        for name, row in rows.items():
            np.testing.assert_allclose(found[1 + [LIST[one] for one in chosen].index(name)], row, atol=1e-5)


def test_a_choice_that_starts_elsewhere_is_told_as_it_is_recorded(monkeypatch, tmp_path) -> None:
    space, made = spaces.Discrete(5, start=1), []
    monkeypatch.setattr("envs.make_env", lambda name, **options: made.append(World(space, ticks=6)) or made[-1], raising=False)
    given = [np.int64(one) for one in (1, 5, 3, 2, 4, 1)]
    store = recorded(tmp_path / "store", space, given)
    frozen = told(stored_actions(store), rate=20.0)
    venv = training_environments(EnvironmentConfig(name="World", frame_skip=1), 2, 0, frozen)
    latents = [venv.reset()]
    for action in given:
        latent, _, dones, infos = venv.step(np.array([action, action]) - 1)
        latents.append(latent)
    assert dones.all()
    # zeros begin the next episode; what ended this one was told of its own action
    np.testing.assert_array_equal(latents.pop(), np.zeros((2, 1)))
    latents.append(np.stack([info["terminal_observation"] for info in infos]))
    expected = store.action_windows([0], len(given) + 1)[0]
    np.testing.assert_array_equal(np.stack(latents)[:, 0], expected)
    np.testing.assert_array_equal(expected[:, 0], [0, *given])
    assert made[1].given == given


ATTACK, FORWARD, CAMERA = ActionArray("action.attack", 1), ActionArray("action.forward", 1), ActionArray("action.camera", 2)


@pytest.mark.parametrize(
    ("actions", "list_", "said"),
    [
        ((ATTACK, CAMERA, FORWARD, ActionArray("action.place", 1, ("dirt", "none"))), (*LIST, "place_cobblestone"), "may be cobblestone"),
        ((ATTACK, CAMERA, FORWARD), LIST, "'action.place' is besides"),
        ((ATTACK, CAMERA, FORWARD, ActionArray("action.place", 1)), LIST, "given in words in these"),
        ((ActionArray("action", len(LIST)),), LIST, "'action' is missing|is besides"),
    ],
)
def test_an_encoder_of_other_actions_is_refused_though_they_are_as_many(monkeypatch, actions, list_, said) -> None:
    monkeypatch.setattr("envs.make_env", lambda name, **options: World(keyed()), raising=False)
    config = EnvironmentConfig(name="World", frame_skip=SKIP, actions=list_)
    for wrap in (partial(training_environments, config, 2, 0), lambda frozen: LatentObservation(agent_environment(config), frozen)):
        with pytest.raises(UserError, match=said) as refused:
            wrap(told(actions))
        assert "\n" not in str(refused.value)


def test_an_encoder_of_before_is_compared_by_size_and_says_so(monkeypatch, capsys) -> None:
    monkeypatch.setattr("envs.make_env", lambda name, **options: World(keyed()), raising=False)
    config = EnvironmentConfig(name="World", frame_skip=SKIP, actions=LIST)
    env = LatentObservation(agent_environment(config), told(None, size=len(LIST)))
    assert "does not say what the numbers of its actions stand for" in capsys.readouterr().err
    env.reset()
    np.testing.assert_array_equal(env.step(2)[0], np.eye(len(LIST))[2])


def test_recorded_choices_of_one_number_each_stay_so() -> None:
    world = World(spaces.Discrete(3, start=2))
    env = LatentObservation(world, told((ActionArray("action", 3),), rate=20.0))
    env.reset()
    np.testing.assert_array_equal(env.step(3)[0]["latent"], [0, 1, 0])
    env = LatentObservation(world, told((ActionArray("action", 1),), rate=20.0))
    env.reset()
    np.testing.assert_array_equal(env.step(3)[0]["latent"], [3])


class Wide(World):
    observation_space = spaces.Dict({"pov": spaces.Box(0, 255, (8, 16, 3), np.uint8)})


def test_pictures_resized_in_another_way_than_the_encoders_are_refused() -> None:
    frozen = told((ActionArray("action", 1),), rate=20.0)
    world = World(spaces.Discrete(3))
    for wrap in (LatentObservation, lambda env, frozen: VecLatent(DummyVecEnv([lambda: env]), frozen)):
        with pytest.raises(UserError, match="frames were resized by 'squash', the environment's pictures are by 'crop'"):
            wrap(ResizedPicture(Wide(spaces.Discrete(3)), (8, 8), "crop"), frozen)
        wrap(ResizedPicture(Wide(spaces.Discrete(3)), (8, 8), "squash"), frozen)
        # of the same aspect ratio, both are the same
        wrap(ResizedPicture(world, (8, 8), "crop"), frozen)
