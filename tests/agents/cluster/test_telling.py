"""What workers and their environment actors have to say reaches the terminal of the command, each line once."""

import os

import numpy as np
import pytest

from agents.cluster.worker import Job
from agents.cluster.workers import run_jobs
from foundation import telling
from foundation.local_ray import local_ray

WET = '''
import gymnasium
import numpy as np
from gymnasium import spaces


class Wet(gymnasium.Env):
    """Warns at every step, and breaks in the third where told to."""

    observation_space, action_space = spaces.Box(0, 255, (40, 40, 3), np.uint8), spaces.Discrete(2)

    def __init__(self, breaks=False):
        self.breaks = breaks

    def reset(self, *, seed=None, options=None):
        self.ticks = 0
        return np.zeros((40, 40, 3), np.uint8), {}

    def step(self, action):
        self.ticks += 1
        gymnasium.logger.warn("the ground is %s", "wet")
        if self.breaks and self.ticks == 3:
            raise KeyError("ground")
        return np.zeros((40, 40, 3), np.uint8), 0.0, False, False, {}


gymnasium.register("Wet-v0", entry_point=Wet, disable_env_checker=True)
'''


@pytest.fixture(scope="module")
def two_cpus(tmp_path_factory):
    """Run a Ray whose workers have a user's package on their path."""
    package = tmp_path_factory.mktemp("package")
    (package / "wet_worlds.py").write_text(WET)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(package), prepend=os.pathsep)
        with local_ray(2):
            yield


@pytest.fixture
def told(monkeypatch):
    """Return the lines that the user is told."""
    lines: list[str] = []
    monkeypatch.setattr(telling, "_receiver", lines.append)
    monkeypatch.setattr(telling, "_told", set())
    return lines


def play_wet(actors, report):
    """Play in worlds that warn at every step; they break where there is an actor."""
    from agents.remote.config import RemoteConfig
    from agents.run.environment import evaluation_environments
    from agents.run.environment_config import EnvironmentConfig
    from foundation.telling import tell

    tell(f"the worker of {actors} actors")
    config = EnvironmentConfig("wet_worlds:Wet-v0", {"breaks": actors > 0}, frame_skip=1, episode_steps=5)
    venv = evaluation_environments(config, 2, None, RemoteConfig(actors=actors))
    try:
        venv.reset()
        for _ in range(6):
            venv.step(np.zeros(2, int))
    finally:
        venv.close()


def test_warnings_come_once_and_failures_of_actors_name_world_and_step(two_cpus, told, tmp_path) -> None:
    outcomes = {}
    jobs = [Job("local", play_wet, 0), Job("remote", play_wet, 1)]
    run_jobs(jobs, 1, lambda one: outcomes.update({one.key: one}), lambda progress: None, retries=0, shared=tmp_path)
    assert sorted(told) == ["gymnasium warns: the ground is wet", "the worker of 0 actors", "the worker of 1 actors"]
    assert outcomes["local"].status == "finished", outcomes["local"]
    failed = outcomes["remote"]
    assert (failed.status, failed.user_error, failed.died) == ("failed", True, False)
    assert failed.message.startswith("wet_worlds:Wet-v0 failed in world 1073741824 at agent step 3 of the episode: KeyError: 'ground' (")
    assert "raise KeyError" in failed.details
