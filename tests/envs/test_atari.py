"""A real package's environments, by name alone, through every command: ale-py brings the games in its wheel."""

import json

import pytest

from agents.command import train as train_agent
from agents.playing import play
from collecting.command import make as make_frames
from foundation.errors import UserError
from frames import FrameStore
from pretraining.encoder_command import train as train_encoder

BREAKOUT = "ale_py:ALE/Breakout-v5"
SHORT = ["--environment.episode-steps", "40", "--evaluation.episodes", "1", "--evaluation.final-episodes", "2"]


def test_frames_encoder_agent_remote_actor_and_film_of_breakout(tmp_path, capfd) -> None:
    store, encoder, run = (str(tmp_path / name) for name in ("store", "encoder", "agent"))
    assert make_frames(["build", "--source", BREAKOUT, "--debug", "--store", store]) == 0
    recorded = FrameStore(store)
    assert {(episode.task, episode.frames_per_second) for episode in recorded.episodes} == {("ALE/Breakout-v5", 30.0)}
    assert "train_agent.py atari_breakout --encoder RUN --run RUN2" in capfd.readouterr().out
    assert train_encoder(["debug", "--store", store, "--run", encoder, "--steps", "4", "--threads", "1"]) == 0

    words = ["atari_breakout", "--agent", "debug", "--encoder", encoder, "--run", run, "--device", "cpu", *SHORT]
    assert train_agent([*words, "--steps", "500"]) == 0
    assert _result(run)["remote"] is None
    # the environments of the same run in an actor: it goes on
    assert train_agent([*words, "--steps", "576", "--remote.actors", "1"]) == 0
    result = _result(run)
    assert (result["steps"], result["remote"]["actors"], result["restarts"]) == (576, 1, 0)

    with pytest.raises(UserError, match=f"imports the Python module 'ale_py'.*add --environment {BREAKOUT}"):
        play([run])
    capfd.readouterr()
    assert play([run, "--environment", BREAKOUT, "--video", str(tmp_path / "film.mp4")]) == 0
    assert "in 40 steps" in capfd.readouterr().out


def _result(run: str) -> dict:
    with open(f"{run}/result.json") as file:
        return json.load(file)
