"""An environment of a user's package, added as that package would: no file of ours knows of it."""

import sys

import gymnasium
import numpy as np
import pytest
from gymnasium.vector import AsyncVectorEnv

import envs
import frames
from envs.registry import is_environment_id, split_id
from foundation.errors import UserError
from wrappers import FlatObservation, FrameSkip

PACKAGE = '''
"""A picture whose first pixel counts the steps, drawn into one array for ever."""

import gymnasium
import numpy as np
from gymnasium import spaces


class Corridor(gymnasium.Env):
    metadata = {"render_fps": 10}
    action_space = spaces.Discrete(3)

    def __init__(self, size=16, beside=False):
        picture = spaces.Box(0, 255, (size, size, 3), np.uint8)
        self.observation_space = spaces.Dict({"view": picture, "speed": spaces.Box(-1, 1, (2,), np.float32)}) if beside else picture
        self.picture, self.speed, self.beside = np.zeros((size, size, 3), np.uint8), np.zeros(2, np.float32), beside

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self.draw(0), {}

    def step(self, action):
        return self.draw(self.ticks + 1), float(action), self.ticks == 7, False, {}

    def draw(self, ticks):
        self.ticks = ticks
        self.picture[:] = 30 * ticks
        self.speed[:] = ticks / 10
        return {"view": self.picture, "speed": self.speed} if self.beside else self.picture


gymnasium.register("Corridor-v0", entry_point=Corridor)
gymnasium.register("far/Corridor-v2", entry_point="corridors.worlds:Corridor", kwargs={"beside": True})
'''


@pytest.fixture
def package(tmp_path, monkeypatch):
    """Put a package that registers two environments on the path, as installing it would."""
    (tmp_path / "corridors").mkdir()
    (tmp_path / "corridors" / "__init__.py").write_text("")
    (tmp_path / "corridors" / "worlds.py").write_text(PACKAGE)
    (tmp_path / "corridors" / "lame.py").write_text("import no_such_game\n")
    (tmp_path / "corridors" / "torn.py").write_text("import gymnasium\nraise RuntimeError('no licence\\nfound')\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield
    for name in [name for name in sys.modules if name.split(".")[0] == "corridors"]:
        del sys.modules[name]
    for name in ("Corridor-v0", "far/Corridor-v2"):
        gymnasium.registry.pop(name, None)


def test_the_module_before_an_id_is_imported_and_the_picture_stands_under_pov(package):
    env = envs.make_env("corridors.worlds:Corridor-v0", size=20)
    observation, _ = env.reset(seed=3)
    assert observation["pov"].shape == (20, 20, 3)
    assert env.spec.id == "Corridor-v0"
    spaced = envs.make_env("corridors.worlds:far/Corridor-v2")
    assert set(spaced.reset(seed=0)[0]) == {"pov", "speed"}


def test_processes_started_anew_import_the_module_too(package):
    venv = AsyncVectorEnv([lambda: envs.make_env("corridors.worlds:Corridor-v0")] * 2, context="spawn")
    observation, _ = venv.reset(seed=0)
    venv.step(np.zeros(2, int))
    venv.close()
    assert observation["pov"].shape == (2, 16, 16, 3)


def test_wrappers_and_recordings_take_it(package, tmp_path):
    flat = FlatObservation(FrameSkip(envs.make_env("corridors.worlds:far/Corridor-v2"), 3))
    flat.reset(seed=0)
    observation, reward, *_ = flat.step(2)
    assert (observation["pov"][0, 0, 0], reward) == (90, 6.0)
    np.testing.assert_allclose(observation["speed"], [0.3, 0.3], rtol=1e-6)
    frames.record(lambda: envs.make_env("corridors.worlds:Corridor-v0"), None, tmp_path / "store", frames=20, frame_size=(16, 16), val=0.4)
    store = frames.FrameStore(tmp_path / "store")
    lengths = [episode.length for episode in store.episodes]
    assert lengths == [8, 8, 4]
    assert store.frames(range(20))[:, 0, 0, 0].tolist() == [30 * tick for length in lengths for tick in range(length)]
    assert {episode.task for episode in store.episodes} == {"Corridor-v0"}


def test_observations_stay_what_they_were_when_the_environment_draws_on(package):
    env = envs.make_env("corridors.worlds:far/Corridor-v2")
    env.reset(seed=0)
    last = env.step(1)[0]
    kept = {key: value.copy() for key, value in last.items()}
    env.reset(seed=1)
    for key, value in kept.items():
        np.testing.assert_array_equal(last[key], value)
    assert last["pov"][0, 0, 0] == 30


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("corridorss.worlds:Corridor-v0", r"'corridorss.worlds' cannot be imported \(ModuleNotFoundError.*PYTHONPATH"),
        ("corridors.world:Corridor-v0", r"'corridors.world' cannot be imported .*PYTHONPATH"),
        ("corridors.lame:Corridor-v0", r"No module named 'no_such_game'\); install the package that has 'no_such_game'"),
        ("corridors.torn:Corridor-v0", r"RuntimeError: no licence found\); python -c 'import corridors.torn' shows where"),
        ("corridors.worlds:Corridr-v0", "was imported and does not register it; did you mean 'Corridor-v0'"),
        ("corridors.worlds:Other", "does not register it; it registers: Corridor-v0, far/Corridor-v2$"),
        ("corridors:Corridor-v1", "does not register it"),
        ("ALE/Breakout-v5", "such as ale_py:ALE/Breakout-v5$"),
        ("VizdoomBasic-v1", "such as vizdoom.gymnasium_wrapper:VizdoomBasic-v1$"),
        ("MiniGrid-Empty-5x5-v0", "such as minigrid:MiniGrid-Empty-5x5-v0$"),
        ("Hallway-v9", "such as my_package:Hallway-v9$"),
    ],
)
def test_what_cannot_be_made_is_one_line_with_the_remedy(package, name, said, monkeypatch):
    # another test of this process may have imported the package that registers it
    monkeypatch.delitem(gymnasium.registry, name, raising=False)
    with pytest.raises(UserError, match=said) as caught:
        envs.make_env(name)
    assert "\n" not in str(caught.value)


def test_at_most_five_near_names_are_told_none_twice():
    with pytest.raises(UserError) as caught:
        envs.make_env("CartPol-v1")
    named = [part for part in str(caught.value).split("'") if part.endswith(("v0", "v1"))][1:]
    assert "CartPole-v1" in named
    assert len(named) == len(set(named)) <= 5


@pytest.mark.parametrize(
    ("text", "is_one", "parts"),
    [
        ("VoxelTreechop-v0", True, (None, "VoxelTreechop-v0")),
        ("ALE/Breakout-v5", True, (None, "ALE/Breakout-v5")),
        ("ale_py:ALE/Breakout-v5", True, ("ale_py", "ALE/Breakout-v5")),
        ("vizdoom.gymnasium_wrapper:VizdoomBasic-v1", True, ("vizdoom.gymnasium_wrapper", "VizdoomBasic-v1")),
        ("my_package:Corridor", True, ("my_package", "Corridor")),
        ("recordings", False, (None, "recordings")),
        ("data/MineRLTreechop-v0/films", False, (None, "data/MineRLTreechop-v0/films")),
        ("http://host/Corridor-v0", False, (None, "http://host/Corridor-v0")),
        ("7up:Corridor-v0", False, (None, "7up:Corridor-v0")),
        ("a:b:Corridor-v0", False, (None, "a:b:Corridor-v0")),
        ("", False, (None, "")),
    ],
)
def test_names_of_environments_are_told_from_other_sources(text, is_one, parts):
    assert is_environment_id(text) == is_one
    assert split_id(text) == parts
