"""A checkpoint is a file that somebody else may have made: no array of it reaches an environment or a policy unchecked."""

import pytest
import torch

from agents.jobs import Stopped
from agents.learning.on_policy import PPOSettings
from agents.run.config import AgentRun, EvaluationConfig
from agents.run.environment_config import EnvironmentConfig
from agents.run.training import train_agent
from foundation.errors import UserError


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """Return the settings of a stopped run in the voxel world, and what its checkpoint holds."""
    config = AgentRun(
        run=tmp_path_factory.mktemp("runs") / "run",
        control="oracle",
        steps=64,
        environment=EnvironmentConfig("VoxelTreechop-v0", {"frame_size": 16, "episode_ticks": 200}),
        evaluation=EvaluationConfig(every=1000, episodes=1, final_episodes=1),
        algorithm=PPOSettings(n_envs=2, n_steps=8, batch_size=16, n_epochs=1),
    )
    with pytest.raises(Stopped):
        train_agent(config, lambda steps, note: steps >= 16)
    return config, torch.load(config.run / "resume.pt", weights_only=True)


def worlds(content):
    return next(layer for layer in content["worlds"]["layers"][1] if "cells" in layer)


def far_above(content):
    worlds(content)["player"][1] = 1e9


def narrow(content):
    worlds(content)["top"] = torch.zeros((1, 1), dtype=torch.uint8)


def no_arrays(content):
    worlds(content)["cells"] = "cells"


def sparse(content):
    worlds(content)["player"] = worlds(content)["player"].to_sparse()


def fewer_layers(content):
    content["worlds"]["layers"][0] = content["worlds"]["layers"][0][:1]


def negative_episode(content):
    content["worlds"]["layers"][0][0]["episode"][0] = -3


def short_observation(content):
    content["worlds"]["observation"] = content["worlds"]["observation"][:1]


def starts_of_numbers(content):
    content["worlds"]["episode_starts"] = torch.ones(2)


@pytest.mark.parametrize(
    "change", [far_above, narrow, no_arrays, sparse, fewer_layers, negative_episode, short_observation, starts_of_numbers]
)
def test_a_checkpoint_that_was_changed_is_refused_by_name(stopped, change):
    config, content = stopped
    torch.save(content, config.run / "resume.pt")
    changed = torch.load(config.run / "resume.pt", weights_only=True)
    change(changed)
    torch.save(changed, config.run / "resume.pt")
    with pytest.raises(UserError, match=r"resume\.pt: .*damaged") as refused:
        train_agent(config, lambda *_: False)
    assert "\n" not in str(refused.value)
