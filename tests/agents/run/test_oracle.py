"""An agent that is told the state trains, resumes, is evaluated and filmed like any other."""

import json
from dataclasses import replace

import cv2
import numpy as np
import pytest

from agents.jobs import Stopped
from agents.learning.on_policy import PPOSettings
from agents.playing import play
from agents.run.config import EvaluationConfig
from agents.run.environment import training_environments
from agents.run.environment_config import EnvironmentConfig
from agents.run.training import train_agent
from agents.running import run_agent
from foundation.errors import UserError

TELLING = EnvironmentConfig(name="Telling", frame_skip=4)


@pytest.fixture
def oracle(small_run):
    """Return a function that makes the settings of a small run that is told the state."""
    return lambda **changes: small_run(**{"control": "oracle", "environment": TELLING, **changes})


def test_it_sees_the_state_of_its_world_the_last_of_an_episode_too(worlds) -> None:
    venv = training_environments(TELLING, 2, 0, "state")
    observation, dones = venv.reset(), np.zeros(2, bool)
    seen = [observation]
    while not dones.any():
        observation, _, dones, infos = venv.step(np.zeros(2, int))
        seen.append(observation)
    light = [1.0 if world.bright else -1.0 for world in worlds.made]
    assert observation[:, 1].tolist() == light
    # names in their order: how much is gone, then the light
    assert [one[0, 0] for one in seen] == pytest.approx([*np.arange(15) * 4 / 60, 0.0])
    assert infos[0]["terminal_observation"][0] == 1.0
    venv.close()


def test_it_learns_what_the_state_says(oracle) -> None:
    learner = PPOSettings(n_envs=2, n_steps=64, batch_size=32, n_epochs=4, net_arch=(16,), learning_rate=3e-3)
    settings = {"algorithm": learner, "evaluation": EvaluationConfig(every=4096, final_episodes=4)}
    result = train_agent(oracle(steps=1024, environment=replace(TELLING, frame_skip=1), **settings), lambda steps, note: False)
    # attacking at random earns nothing on average
    assert result["final_return"] > 10
    assert (result["control"], result["encoder"]) == ("oracle", None)


def test_a_stopped_run_ends_with_the_bits_of_one_that_was_not_and_is_filmed(oracle, tmp_path, capsys) -> None:
    whole = train_agent(oracle(run=tmp_path / "whole", steps=96), lambda steps, note: False)
    with pytest.raises(Stopped):
        train_agent(oracle(run=tmp_path / "broken", steps=96), lambda steps, note: steps >= 32)
    assert train_agent(oracle(run=tmp_path / "broken", steps=96), lambda steps, note: False)["final_returns"] == whole["final_returns"]
    assert (tmp_path / "whole" / "agent.safetensors").read_bytes() == (tmp_path / "broken" / "agent.safetensors").read_bytes()
    assert json.loads((tmp_path / "whole" / "agent.json").read_text())["settings"]["control"] == "oracle"
    assert play([str(tmp_path / "whole"), "--video", str(tmp_path / "episode.mp4")]) == 0
    # the film shows the picture that it did not see
    film = cv2.VideoCapture(str(tmp_path / "episode.mp4"))
    assert (film.get(cv2.CAP_PROP_FRAME_WIDTH), film.get(cv2.CAP_PROP_FRAME_COUNT)) == (256, 15)


def test_where_no_state_is_told_or_an_encoder_is_named_it_is_refused_before_anything_starts(small_run, tmp_path) -> None:
    with pytest.raises(UserError, match="Bright tells nothing of its state"):
        run_agent(small_run(control="oracle"))
    assert not (tmp_path / "run").exists()
    with pytest.raises(UserError, match="--control oracle uses no encoder"):
        small_run(control="oracle", encoder=tmp_path).check()
    with pytest.raises(UserError, match="--control oracle has no latents"):
        small_run(control="oracle", latents="mean").check()
