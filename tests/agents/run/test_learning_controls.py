"""Agents that learn an encoder end to end: runs like any other, that say what they were; an agent on latents is what it was before."""

import json

import numpy as np
import pytest
import torch

from agents.playing import play
from agents.run.agent_files import read_agent
from agents.run.config import AgentRun
from agents.run.options import read_command
from agents.run.representation import reading_line
from agents.run.training import train_agent
from encoders import load_encoder, make_encoder, prepare
from foundation.errors import UserError
from foundation.places import Address
from tests.agents.learning.test_learners import assert_same_run, die_at, encoder, go_on, latent_run, tiny  # noqa: F401
from tests.agents.run.test_representation import mirrored  # noqa: F401
from tests.wrappers.test_learning_encoder import STORE

LEARN = ("pixels_same", "finetuned")


def of_encoder(folder) -> dict[str, torch.Tensor]:
    """The weights that an agent's file holds of the encoder, by the encoder's own names."""
    parameters = torch.load(folder / "resume.pt", weights_only=True)["parameters"]["policy"]
    start = "features_extractor.encoder."
    return {name.removeprefix(start): tensor for name, tensor in parameters.items() if name.startswith(start)}


RUNS = [("ppo", "pixels_same"), ("ppo", "finetuned"), ("dqn", "finetuned"), ("recurrent_ppo", "pixels_same"), ("sac", "finetuned")]


@pytest.mark.parametrize(("kind", "control"), RUNS)
def test_a_run_that_died_ends_with_the_bits_of_one_that_did_not_and_plays(kind, control, latent_run, mirrored, tmp_path, capsys) -> None:  # noqa: F811
    settings = {"control": control, "encoder": mirrored, "steps": 64}
    whole, broken = latent_run(kind, run=tmp_path / "whole", **settings), latent_run(kind, run=tmp_path / "broken", **settings)
    result = train_agent(whole, go_on)
    with pytest.raises(MemoryError):
        train_agent(broken, die_at(64))
    assert train_agent(broken, go_on)["final_returns"] == result["final_returns"]
    assert_same_run(broken.run, whole.run)
    assert (result["control"], result["encoder"]["name"]) == (control, "conv_vae")
    assert result["device"] == {"encoder": None, "policy": "cpu"}
    # of the picture, as it was seen
    assert (whole.run / "pictures" / "episode.webp").is_file()
    video = tmp_path / "episode.mp4"
    assert play([str(broken.run), "--episodes", "2", "--video", str(video)]) == 0
    assert video.is_file()
    assert "mean return" in capsys.readouterr().out


@pytest.mark.parametrize("control", LEARN)
def test_it_begins_with_the_weights_its_name_says_and_changes_them(control, latent_run, mirrored, tmp_path) -> None:  # noqa: F811
    settings = {"control": control, "encoder": mirrored, "steps": 32, "seed": 3}
    still = latent_run("ppo", run=tmp_path / "still", **{**settings, "algorithm": tiny("ppo", learning_rate=0.0)})
    moved = latent_run("ppo", run=tmp_path / "moved", **settings)
    result = train_agent(still, go_on)
    train_agent(moved, go_on)
    begun, learned = of_encoder(still.run), of_encoder(moved.run)
    folder = mirrored if control == "finetuned" else still.run / "encoder"
    assert result["encoder_folder"] == str(folder)
    weights = load_encoder(folder).model.state_dict()
    assert begun
    assert all(torch.equal(tensor, weights[name]) for name, tensor in begun.items())
    assert not any(torch.equal(tensor, learned[name]) for name, tensor in begun.items())
    trained = load_encoder(mirrored).model.state_dict()
    assert all(torch.equal(tensor, trained[name]) for name, tensor in begun.items()) == (control == "finetuned")
    # what an agent's file is known by
    assert read_agent(still.run)["settings"]["encoder_sha256"] == load_encoder(folder).info.weights_sha256


def test_from_random_weights_it_starts_where_the_untrained_control_stays(latent_run, mirrored, tmp_path) -> None:  # noqa: F811
    for control in ("pixels_same", "untrained"):
        train_agent(latent_run("ppo", control=control, encoder=mirrored, run=tmp_path / control, steps=32), go_on)
    one, other = (load_encoder(tmp_path / control / "encoder").info.weights_sha256 for control in ("pixels_same", "untrained"))
    assert one == other


def test_its_environments_show_pictures(latent_run, mirrored) -> None:  # noqa: F811
    seen = latent_run("ppo", control="finetuned", encoder=mirrored, steps=32)
    train_agent(seen, go_on)
    content = torch.load(seen.run / "resume.pt", weights_only=True)
    assert content["worlds"]["observation"].dtype == torch.uint8


def test_an_agent_of_a_lost_or_another_encoder_is_not_played(latent_run, mirrored, tmp_path) -> None:  # noqa: F811
    run = latent_run("ppo", control="finetuned", encoder=mirrored, steps=32)
    train_agent(run, go_on)
    mirrored.rename(tmp_path / "moved")
    with pytest.raises(UserError, match="is missing; give its folder with --encoder"):
        play([str(run.run)])
    assert play([str(run.run), "--encoder", str(tmp_path / "moved")]) == 0


@pytest.mark.parametrize("control", LEARN)
def test_a_service_cannot_be_learned(control) -> None:
    with pytest.raises(UserError, match="keeps its weights"):
        AgentRun(environment=read("debug").environment, run="r", control=control, encoder=Address("http://here:1/RUN")).check()


@pytest.mark.parametrize("control", LEARN)
def test_one_picture_is_learned_from_and_no_history(control) -> None:
    with pytest.raises(UserError, match=rf"control '{control}' learns an encoder.*: use --environment\.history 1"):
        read_command(AgentRun, "", ["debug", "--run", "r", "--control", control, "--encoder", "E", "--environment.history", "2"])


def test_it_is_said_before_ray_starts_that_an_encoder_cannot_learn(tmp_path) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (8, 16, 16, 3), np.uint8)
    prepare(make_encoder("pca", frame_shape=[16, 16, 3], latent_dim=3), frames, tmp_path, store=STORE)
    assert "numbers a frame" in reading_line(tmp_path)
    with pytest.raises(UserError, match="is computed, not trained"):
        reading_line(tmp_path, learns=True)


def read(*words: str):
    return read_command(AgentRun, "", [*words, "--run", "r", "--control", "pixels"])


def test_settings_are_those_on_pixels_but_for_the_layers_behind_the_encoder(tmp_path) -> None:
    preset = tmp_path / "own.yaml"
    preset.write_text(
        "kind: ppo\nn_epochs: 8\nlearning_rate: 1.0e-3\nnet_arch: [64]\ntuning: 20 trials\n"
        "pixels: {n_epochs: 4, net_arch: [], tuning: 12 trials}\nfinetuned: {learning_rate: 1.0e-4}\n"
    )

    def settings(control: str) -> tuple[int, float, tuple[int, ...]]:
        words = ["debug", "--agent", str(preset), "--run", "r", "--control", control, *(["--encoder", "E"] if control in LEARN else [])]
        found = read_command(AgentRun, "", words).algorithm
        return found.n_epochs, found.learning_rate, found.net_arch

    assert settings("pixels") == (4, 1e-3, ())
    assert settings("pixels_same") == (4, 1e-3, (64,))
    assert settings("finetuned") == (4, 1e-4, (64,))
    assert settings("oracle") == (8, 1e-3, (64,))


def test_points_of_a_curve_say_how_long_training_took_until_then(small_run) -> None:
    config = small_run()
    result = train_agent(config, go_on)
    lines = [json.loads(line) for line in (config.run / "metrics.jsonl").read_text().splitlines()]
    rollouts = {line["step"]: line["seconds"] for line in lines if "seconds" in line}
    assert [point["seconds"] for point in result["curve"]] == [rollouts[point["step"]] for point in result["curve"]]
    seconds = [point["seconds"] for point in result["curve"]]
    assert seconds == sorted(seconds)
    assert seconds[-1] == pytest.approx(result["seconds"], abs=0.1)
    assert result["machine"]
    policy = torch.load(config.run / "resume.pt", weights_only=True)["parameters"]["policy"]
    # PPO's policy has no target network: all of it learns
    distinct = {tensor.data_ptr(): tensor.numel() for tensor in policy.values()}
    assert result["learning_parameters"] == result["policy_parameters"] == sum(distinct.values())
