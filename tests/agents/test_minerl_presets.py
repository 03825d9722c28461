"""How an agent acts in MineRL's environments, in worlds that have their spaces."""

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from agents.run.config import AgentRun
from agents.run.environment import agent_environment, recorded_actions, resolved
from agents.run.environment_config import EnvironmentConfig, environment_preset
from agents.run.identity import refuse_differences
from agents.run.options import read_command
from foundation.errors import UserError
from foundation.presets import preset_names
from frames import record


class Obfuscated(gymnasium.Env):
    """A VectorObf environment; remembers its last action."""

    metadata = {"render_fps": 20}

    def __init__(self, size: tuple[int, int] = (64, 64)) -> None:
        self.size = size
        vector = spaces.Box(-1.2, 1.2, (64,), np.float32)
        self.observation_space = spaces.Dict({"pov": spaces.Box(0, 255, (*size, 3), np.uint8), "vector": vector})
        self.action_space = spaces.Dict({"vector": spaces.Box(-1.05, 1.05, (64,), np.float32)})

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self.look(), {}

    def step(self, action):
        self.last = action["vector"]
        return self.look(), 0.0, False, False, {}

    def look(self):
        return {"pov": np.full((*self.size, 3), 7, np.uint8), "vector": np.zeros(64, np.float32)}


class HumanControl(Obfuscated):
    """BASALT in MineRL 1.0: frames of 360x640, keys with ESC, which ends the episode."""

    def __init__(self) -> None:
        super().__init__((360, 640))
        keys = {key: spaces.Discrete(2) for key in ("ESC", "attack", "forward", "jump", "sprint", "use", "inventory")}
        self.observation_space = spaces.Dict({"pov": spaces.Box(0, 255, (360, 640, 3), np.uint8)})
        self.action_space = spaces.Dict({**keys, "camera": spaces.Box(-180, 180, (2,), np.float32)})

    def step(self, action):
        return self.look(), 0.0, bool(action["ESC"]), False, {}

    def look(self):
        return {"pov": np.full((360, 640, 3), 7, np.uint8)}


@pytest.fixture
def made(monkeypatch):
    """Return the environments that `envs.make_env` made with, and stand in for it."""
    calls = []

    def make_env(name, **options):
        calls.append((name, options))
        return HumanControl() if "Basalt" in name else Obfuscated()

    monkeypatch.setattr("envs.make_env", make_env)
    return calls


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    path = tmp_path_factory.mktemp("vectors") / "store"
    record(Obfuscated, None, path, frames=300, episode_frames=60, frame_size=(8, 8))
    return path


def test_every_minerl_preset_says_where_its_game_runs_and_how_many_run_at_a_time():
    presets = [name for name in preset_names("env") if name.startswith("minerl_")]
    assert len(presets) >= 9
    for name in presets:
        config = environment_preset(name)
        assert config.name.startswith("MineRL")
        assert config.options == {"server": "minecraft"}
        assert config.evaluated_at_once == 2


def test_an_option_of_the_environment_overrides_the_preset():
    argv = ["minerl_treechop", "--control", "pixels", "--run", "r", "--env.server", "voxel", "--env.python=/usr/bin/python3"]
    config = read_command(AgentRun, "", argv)
    assert config.environment.options == {"server": "voxel", "python": "/usr/bin/python3"}
    assert environment_preset("minerl_treechop", {"server": "voxel"}).options == {"server": "voxel"}
    assert environment_preset("minerl_treechop").options == {"server": "minecraft"}


def test_a_run_goes_on_with_games_that_run_elsewhere_or_wait_longer_but_not_with_other_ones(tmp_path):
    def settings(**options):
        return {"environment": {"name": "MineRLTreechop-v0", "options": {"server": "voxel", **options}}}

    begun = settings(python="/old/python", timeout=60, retries=1)
    refuse_differences(begun, settings(timeout=240, start_timeout=900, spare=True, headless=False), tmp_path)
    with pytest.raises(UserError, match=r"environment\.options\.server = voxel, but you asked for minecraft"):
        refuse_differences(begun, settings(server="minecraft"), tmp_path)
    with pytest.raises(UserError, match=r"environment\.options\.episode_ticks"):
        refuse_differences(begun, settings(episode_ticks=400), tmp_path)


def test_an_agent_chooses_among_recorded_vectors(made, store):
    config = EnvironmentConfig("MineRLTreechopVectorObf-v0", action_store=store, action_count=5, frame_skip=2)
    env = agent_environment(config)
    assert env.action_space == spaces.Discrete(5)
    env.reset()
    env.step(3)
    assert np.array_equal(env.unwrapped.last, recorded_actions(config).vectors[3])


def test_without_recorded_vectors_the_option_is_named(made):
    with pytest.raises(UserError, match=r"--environment\.action-store STORE"):
        agent_environment(EnvironmentConfig("MineRLTreechopVectorObf-v0"))


def test_a_run_keeps_to_the_vectors_it_began_with(made, store, tmp_path):
    config = resolved(EnvironmentConfig("MineRLTreechopVectorObf-v0", action_store=store, action_count=4))
    assert config.action_sha256 == recorded_actions(config).sha256
    agent_environment(config).close()
    other = tmp_path / "other"
    record(Obfuscated, None, other, frames=300, episode_frames=60, frame_size=(8, 8), seed=1)
    config.action_store = other
    with pytest.raises(UserError, match="are not those that the agent was trained with"):
        agent_environment(config)


def test_large_frames_become_those_an_encoder_was_trained_on_and_esc_ends_the_episode(made):
    config = environment_preset("minerl_basalt_find_cave")
    env = agent_environment(config)
    assert env.observation_space.shape == (64, 64, 3)
    observation, _ = env.reset()
    assert observation.shape == (64, 64, 3)
    ended = [env.step(action)[2] for action in range(env.action_space.n)]
    assert ended == [False] * (env.action_space.n - 1) + [True]


@pytest.mark.parametrize("field", [{"action_count": 1}, {"action_seed": -1}, {"evaluated_at_once": 0}])
def test_a_setting_out_of_range_is_named(field):
    with pytest.raises(UserError, match=next(iter(field))):
        EnvironmentConfig("MineRLTreechop-v0", **field)
