"""What an agent sees: latents scaled in other ways, several encoders side by side, what was seen before; and that a run keeps to it."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from agents.films import show
from agents.jobs import Stopped
from agents.learning.off_policy import DQNSettings
from agents.learning.on_policy import PPOSettings
from agents.play_config import PlayConfig
from agents.run.config import AgentRun
from agents.run.environment import evaluation_environments
from agents.run.environment_config import EnvironmentConfig
from agents.run.options import read_command
from agents.run.representation import reading_line
from agents.run.training import train_agent
from encoders import StoreReference, load_encoder, make_encoder, prepare
from foundation.errors import UserError
from foundation.places import Address, View, Views
from tests.agents.run.test_training import go_on, lines, stop_at, weights
from wrappers import open_encoder

WORLD = EnvironmentConfig(name="Bright", frame_skip=4, frame_size=(16, 16))
TINY = {"frame_shape": [16, 16, 3], "encoder_kernels": [4, 4], "decoder_kernels": [6, 6]}


@pytest.fixture(scope="module")
def clockwork(save_encoder, tmp_path_factory) -> Path:
    return save_encoder("cwvae_debug", tmp_path_factory.mktemp("views") / "clockwork", **TINY)


@pytest.fixture(scope="module")
def plain(tmp_path_factory) -> Path:
    torch.manual_seed(3)
    folder, frames = tmp_path_factory.mktemp("views") / "plain", np.random.default_rng(3).integers(0, 256, (64, 16, 16, 3), np.uint8)
    prepare(make_encoder("debug", frame_shape=[16, 16, 3]), frames, folder, store=StoreReference("a/store", "f", 5.0, "squash"))
    return folder


@pytest.fixture
def run(small_run, tmp_path):
    """Return a function that makes the settings of a run."""

    def make(name: str, encoder, **changes) -> AgentRun:
        algorithm = PPOSettings(n_envs=2, n_steps=16, batch_size=32, n_epochs=1, net_arch=(16,))
        settings = {"environment": WORLD, "algorithm": algorithm, "checkpoint_every": 32, "control": None}
        return small_run(run=tmp_path / name, encoder=encoder, **{**settings, **changes})

    return make


def pair(one, other) -> Views:
    return Views((View(one, "means"), View(other, None, "whiten")))


def same_bits(one: Path, other: Path) -> None:
    for name, expected in weights(one).items():
        assert torch.equal(weights(other)[name], expected), name
    assert lines(one) == lines(other)


def test_a_pair_with_a_history_goes_on_after_an_interruption_as_if_there_had_been_none(run, clockwork, plain, serve, tmp_path) -> None:
    remembered = replace(WORLD, history=2)
    result = train_agent(run("whole", pair(clockwork, plain), environment=remembered), go_on)
    assert result["encoder"]["name"] == "cwvae+conv_vae"
    assert (result["encoder"]["reading"], result["encoder"]["scale"]) == ("means+mean", "unit+whiten")
    assert result["encoder_parameters"] == sum(open_encoder(folder).parameter_count for folder in (clockwork, plain))
    settings = json.loads((tmp_path / "whole" / "agent.json").read_text())["settings"]
    assert settings["encoder_sha256"] == "+".join(load_encoder(folder).info.weights_sha256 for folder in (clockwork, plain))
    for limit in (32, 96):
        with pytest.raises(Stopped):
            train_agent(run("broken", pair(clockwork, plain), environment=remembered), stop_at(limit))
    # from here on, one of both is in a service: nothing changes but where it is
    mixed = pair(clockwork, Address(serve(plain).address()))
    train_agent(run("broken", mixed, environment=remembered), go_on)
    same_bits(tmp_path / "whole", tmp_path / "broken")


@pytest.mark.parametrize("control", ["pixels", None])
def test_a_history_alone_goes_on_too_also_in_a_replay_buffer(run, small_run, clockwork, tmp_path, control) -> None:
    dqn = DQNSettings(n_envs=2, net_arch=(16,), buffer_size=200, learning_starts=16, batch_size=8)
    world = replace(WORLD if control is None else replace(WORLD, frame_size=(36, 36)), history=3)
    changes = {"environment": world, "control": control, "algorithm": dqn, "steps": 96}
    seen = clockwork if control is None else None
    train_agent(run("whole", seen, **changes), go_on)
    with pytest.raises(Stopped):
        train_agent(run("broken", seen, **changes), stop_at(64))
    train_agent(run("broken", seen, **changes), go_on)
    same_bits(tmp_path / "whole", tmp_path / "broken")


def test_what_is_seen_is_recorded_and_a_change_is_refused(run, plain, tmp_path) -> None:
    with pytest.raises(Stopped):
        train_agent(run("run", plain, scale="global"), stop_at(32))
    assert json.loads((tmp_path / "run" / "agent.json").read_text())["encoder"]["scale"] == "global"
    for changes, key in (
        ({}, "scale = global, but you asked for unit"),
        ({"scale": "whiten"}, "scale = global, but you asked for whiten"),
        ({"scale": "global", "environment": replace(WORLD, history=2)}, "environment.history = 1, but you asked for 2"),
    ):
        with pytest.raises(UserError, match=f"holds a run with {key}"):
            train_agent(run("run", plain, **changes), go_on)
    with pytest.raises(UserError, match="holds a run with encoder_sha256"):
        train_agent(run("run", Views((View(plain), View(plain))), scale="global"), go_on)
    train_agent(run("run", Views((View(plain, None, "global"),))), go_on)


def test_a_run_of_before_scales_were_recorded_goes_on_as_unit(run, plain, tmp_path) -> None:
    with pytest.raises(Stopped):
        train_agent(run("run", plain), stop_at(32))
    content = torch.load(tmp_path / "run" / "resume.pt", weights_only=True)
    settings = json.loads(content["settings"])
    del settings["scale"], settings["environment"]["history"]
    torch.save({**content, "settings": json.dumps(settings)}, tmp_path / "run" / "resume.pt")
    train_agent(run("run", plain), go_on)


def test_a_scale_changes_what_an_agent_sees_in_training_in_evaluation_and_in_a_film(run, plain, clockwork, tmp_path, capsys) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3), np.uint8)
    train_agent(run("run", pair(clockwork, plain), steps=32, environment=replace(WORLD, history=2)), go_on)
    folder = tmp_path / "run"
    show(str(folder), PlayConfig(video=tmp_path / "a.mp4"), {})
    played = capsys.readouterr().out
    # whatever is said of a moved encoder's scale, the agent's own holds
    show(str(folder), PlayConfig(video=tmp_path / "a.mp4", encoder=Views((View(clockwork), View(plain, None, "unit")))), {})
    assert capsys.readouterr().out == played
    with pytest.raises(UserError, match="the agent sees 2 encoders side by side, not 1; name as many with --encoder"):
        show(str(folder), PlayConfig(encoder=plain), {})
    with pytest.raises(UserError, match="not the encoder this agent was trained with"):
        show(str(folder), PlayConfig(encoder=Views((View(clockwork), View(clockwork)))), {})
    assert (open_encoder(plain, scale="whiten").encode(frames)[0] != open_encoder(plain).encode(frames)[0]).any()


def test_no_file_of_a_run_connects_to_a_service_of_a_pair(run, plain, clockwork, serve, tmp_path) -> None:
    served = serve(plain)
    train_agent(run("there", pair(clockwork, Address(served.address())), steps=32), go_on)
    asked = served.count()
    with pytest.raises(UserError, match="the encoder this agent was trained with is missing; give its folder with --encoder"):
        show(str(tmp_path / "there"), PlayConfig(), {})
    assert served.count() == asked


def test_evaluation_sees_the_history_that_training_sees(worlds, plain) -> None:
    frozen = open_encoder(plain)
    plain_venv, venv = (evaluation_environments(replace(WORLD, history=count), 2, frozen) for count in (1, 2))
    before, seen = plain_venv.reset(), venv.reset()
    key = next(iter(seen)) if isinstance(seen, dict) else None
    for _ in range(3):
        now = plain_venv.step(np.zeros(2, int))[0]
        seen = venv.step(np.zeros(2, int))[0]
        parts = [one if key is None else one[key] for one in (before, now, seen)]
        np.testing.assert_array_equal(parts[2], np.concatenate(parts[:2], axis=1))
        before = now


def test_commands_name_several_encoders_their_readings_and_scales(tmp_path) -> None:
    words = ["debug", "--run", "x", "--encoder", "runs/a", "http://gpu:8000/b,latents=map,scale=whiten", "--scale", "global"]
    config = read_command(AgentRun, "", words)
    assert str(config.encoder) == "runs/a+http://gpu:8000/b,latents=map,scale=whiten"
    assert config.encoder.parts == (View(Path("runs/a")), View(Address("http://gpu:8000/b"), "map", "whiten"))
    assert config.scale == "global"
    assert read_command(AgentRun, "", ["debug", "--run", "x", "--encoder", "a+b"]).encoder == Views((View(Path("a")), View(Path("b"))))
    with pytest.raises(UserError, match="--control pixels has no latents; leave out --latents and --scale"):
        read_command(AgentRun, "", ["debug", "--run", "x", "--control", "pixels", "--scale", "unit"])
    preset = tmp_path / "mine.yaml"
    preset.write_text("environment: {name: Bright}\nencoder: http://gpu/a+runs/b\nrun: x\n")
    with pytest.raises(UserError, match="no file says whom to connect to: add --encoder yourself"):
        read_command(AgentRun, "", [str(preset), "--agent", "debug"])


def test_a_line_says_what_is_seen(clockwork, plain) -> None:
    line = reading_line(pair(clockwork, plain))
    size = sum(int(np.prod(open_encoder(folder, latents=name).latent_shape)) for folder, name in ((clockwork, "means"), (plain, None)))
    assert f"latents 'means+mean', {size} numbers a frame, as asked for, scale 'unit+whiten'" in line


def test_a_control_mirrors_one_encoder_and_is_scaled_as_asked(run, clockwork, plain, monkeypatch, tmp_path) -> None:
    frames = np.random.default_rng(1).integers(0, 256, (16, 1, 16, 16, 3), np.uint8)
    reference = load_encoder(plain).info.store
    seen = type("Seen", (), {"frames": frames, "actions": None})
    monkeypatch.setattr("pretraining.controls._training_frames", lambda *_: (seen, reference))
    result = train_agent(run("run", plain, control="untrained", scale="whiten", steps=32), go_on)
    assert result["encoder"]["scale"] == "whiten"
    assert json.loads((tmp_path / "run" / "encoder" / "encoder.json").read_text())["scale"] == "unit"
    show(str(tmp_path / "run"), PlayConfig(), {})
    result = train_agent(run("said", Views((View(plain, None, "global"),)), control="untrained", steps=32), go_on)
    assert result["encoder"]["scale"] == "global"
    with pytest.raises(UserError, match="a control mirrors one encoder, and these are 2 side by side; name one alone first"):
        train_agent(run("other", pair(clockwork, plain), control="untrained"), go_on)
