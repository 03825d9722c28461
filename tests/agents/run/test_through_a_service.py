"""An agent that sees through a service trains as one whose encoder is in a folder: the same result, also killed, resumed, and cut off."""

import json
import threading
from pathlib import Path

import pytest
import torch
import yaml

from agents.films import show
from agents.jobs import Stopped
from agents.learning.on_policy import PPOSettings
from agents.play_config import PlayConfig
from agents.run.config import AgentRun
from agents.run.environment_config import EnvironmentConfig
from agents.run.options import read_command
from agents.run.representation import reading_line
from agents.run.training import train_agent
from foundation.errors import UserError
from foundation.places import Address
from tests.agents.run.test_training import go_on, lines, stop_at, weights

WORLD = EnvironmentConfig(name="Bright", frame_skip=4, frame_size=(16, 16))
TINY = {"frame_shape": [16, 16, 3], "encoder_kernels": [4, 4], "decoder_kernels": [6, 6]}
ABOUT_PLACES = ("encoder_folder", "device")
TIMES = ("seconds", "evaluation_seconds", "attempts")


@pytest.fixture(scope="module")
def encoder(save_encoder, tmp_path_factory) -> Path:
    return save_encoder("cwvae_debug", tmp_path_factory.mktemp("encoder") / "clockwork", **TINY)


@pytest.fixture
def run(small_run, tmp_path):
    """Return a function that makes the settings of a run with 8 environments that sees through an encoder."""

    def make(name: str, encoder, **changes) -> AgentRun:
        settings = {
            "environment": WORLD,
            "algorithm": PPOSettings(n_envs=8, n_steps=8, batch_size=32, n_epochs=1, net_arch=(16,)),
            "steps": 256,
            "checkpoint_every": 64,
            "control": None,
        }
        return small_run(run=tmp_path / name, encoder=encoder, **{**settings, **changes})

    return make


def result(folder: Path):
    found = json.loads((folder / "result.json").read_text())
    places = {name: found.pop(name) for name in ABOUT_PLACES}
    for point in found["curve"]:
        del point["seconds"]
    return {name: value for name, value in found.items() if name not in TIMES}, places


def same_runs(one: Path, other: Path) -> None:
    assert result(one)[0] == result(other)[0]
    assert lines(one) == lines(other)
    for name, expected in weights(one).items():
        assert torch.equal(weights(other)[name], expected), name


def test_the_result_is_that_of_the_encoder_in_a_folder_also_when_it_is_killed_and_resumed(run, serve, encoder, tmp_path) -> None:
    train_agent(run("here", encoder), go_on)
    served = serve(encoder)
    address = Address(served.address())
    train_agent(run("there", address), go_on)
    same_runs(tmp_path / "here", tmp_path / "there")
    assert result(tmp_path / "there")[1] == {"encoder_folder": str(address), "device": {"encoder": "service", "policy": "cpu"}}

    def die(steps: int, note: str) -> bool:
        if steps >= 192:
            raise MemoryError
        return False

    with pytest.raises(Stopped):
        train_agent(run("broken", address), stop_at(64))
    with pytest.raises(MemoryError):
        train_agent(run("broken", address), die)
    train_agent(run("broken", address), go_on)
    same_runs(tmp_path / "here", tmp_path / "broken")


def test_a_service_that_is_restarted_midway_changes_nothing(run, serve, encoder, tmp_path) -> None:
    train_agent(run("here", encoder), go_on)
    served = serve(encoder)

    def restart(steps: int, note: str) -> bool:
        if steps in (64, 128):
            served.stop()
            threading.Timer(0.3, served.start).start()
        return False

    train_agent(run("there", Address(served.address())), restart)
    same_runs(tmp_path / "here", tmp_path / "there")


def test_a_run_does_not_go_on_with_other_weights(run, serve, save_encoder, encoder, tmp_path) -> None:
    folder = save_encoder("cwvae_debug", tmp_path / "served" / "clockwork", **TINY)
    served = serve(folder)
    with pytest.raises(Stopped):
        train_agent(run("there", Address(served.address())), stop_at(64))
    served.stop()
    save_encoder("cwvae_debug", folder, seed=1, **TINY)
    served.start()
    with pytest.raises(UserError, match="holds a run with encoder_sha256"):
        train_agent(run("there", Address(served.address())), go_on)


def test_a_run_goes_from_a_folder_to_a_service_and_back(run, serve, encoder, tmp_path) -> None:
    train_agent(run("here", encoder), go_on)
    address = Address(serve(encoder).address())
    for place, steps in ((encoder, 64), (address, 128), (encoder, 192)):
        with pytest.raises(Stopped):
            train_agent(run("moved", place), stop_at(steps))
    train_agent(run("moved", address), go_on)
    same_runs(tmp_path / "here", tmp_path / "moved")


def test_a_film_is_made_through_a_service_and_no_file_of_a_run_connects_to_one(run, serve, encoder, tmp_path, capsys) -> None:
    served = serve(encoder)
    address = served.address()
    train_agent(run("there", Address(address), steps=64), go_on)
    folder, film = tmp_path / "there", tmp_path / "film.mp4"
    asked = served.count()
    with pytest.raises(UserError, match="the encoder this agent was trained with is missing; give its folder with --encoder"):
        show(str(folder), PlayConfig(), {})
    assert json.loads((folder / "agent.json").read_text())["encoder_folder"] == address
    assert served.count() == asked
    show(str(folder), PlayConfig(encoder=Address(address), video=film), {})
    through_service = capsys.readouterr().out
    assert film.stat().st_size > 0
    show(str(folder), PlayConfig(encoder=encoder, video=film), {})
    assert capsys.readouterr().out == through_service


def test_only_the_command_line_names_a_service(tmp_path) -> None:
    address = "http://127.0.0.1:1/clockwork"
    preset = tmp_path / "mine.yaml"
    preset.write_text(yaml.safe_dump({"environment": {"name": "VoxelTreechop-v0"}, "run": "x", "encoder": address}))
    with pytest.raises(UserError, match=r"no file says whom to connect to: add --encoder yourself"):
        read_command(AgentRun, "", [str(preset)])
    config = read_command(AgentRun, "", [str(preset), "--encoder", address])
    assert isinstance(config.encoder, Address)
    assert isinstance(read_command(AgentRun, "", [str(preset), f"--encoder={tmp_path}"]).encoder, Path)


def test_what_agents_see_of_a_service_is_said(serve, encoder) -> None:
    address = serve(encoder).address()
    assert reading_line(Address(address)) == reading_line(encoder).replace(str(encoder), address)
