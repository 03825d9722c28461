"""A search in the tiny world, which all tests of searches begin with."""

import pytest

from agents.learning.on_policy import PPOSettings
from agents.run.config import EvaluationConfig
from agents.run.environment_config import EnvironmentConfig
from search.config import SearchConfig
from search.search import Search
from tests.search.made import SPACE


@pytest.fixture
def searching(tmp_path, worlds):
    """Return a function that makes a search in the tiny world, of agents on pixels."""
    path = tmp_path / "space.yaml"

    def make(space: str = SPACE, **changes) -> Search:
        path.write_text(space)
        settings = {
            "environment": EnvironmentConfig(name="Bright", frame_skip=4),
            "evaluation": EvaluationConfig(every=32, episodes=2, final_episodes=3),
            "algorithm": PPOSettings(n_envs=2, n_steps=16, batch_size=32, n_epochs=1, net_arch=(8,)),
            "steps": 128,
            "control": "pixels",
            "device": "cpu",
            "space": str(path),
            "trials": 3,
            "run": tmp_path / "search",
        }
        return Search(SearchConfig(**{**settings, **changes}))

    return make
