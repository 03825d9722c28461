"""train_encoder.py: from a store to an encoder, and every mistake in one line."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from encoders import load_encoder
from frames import build_store

Command = Callable[..., int]


def short(store: Path, run: Path, preset: str = "debug") -> list[object]:
    return ["train_encoder.py", preset, "--store", store, "--run", run, "--threads", 1, "--device", "cpu"]


def test_an_encoder_is_trained_and_the_next_command_is_named(
    command: Command, video_store: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    run = tmp_path / "run"
    assert command(*short(video_store, run), "--steps", 12, "--model.latent-dim", 5) == 0
    assert "next: python evaluate_encoder.py" in capsys.readouterr().err
    assert load_encoder(run).info.latents == {"mean": [5]}
    assert command("evaluate_encoder.py", run, "--store", video_store, "--threads", 1, "--judges", "reconstruction") == 0
    report = json.loads((run / "evaluation.json").read_text())
    assert len(report["reconstruction"]["kl_per_unit"]["mean"]) == 5


@pytest.mark.parametrize(
    ("preset", "options", "said"),
    [
        ("pca", ["--weights", "OTHER"], "--weights: a 'pca' is computed, not trained; leave it out"),
        ("pca", ["--compile", "True"], "--compile: a 'pca' is computed, not trained; leave it out"),
        ("nvae_debug", ["--training.batch-size", 1], "batch normalisation needs 2 frames a batch or more in training, got 1"),
        ("nvae_debug", ["--model.frame-shape", 32, 32, 3], "its frames are (64, 64, 3), the encoder takes (32, 32, 3)"),
        ("nvae_debug", ["--workers", 3], "choose a multiple of 3"),
        ("nvae_debug", ["--workers", 2, "--steps", 0], "--steps 0: must be 1 or more"),
    ],
)
def test_what_cannot_be_trained_is_one_line_and_leaves_nothing_behind(
    command: Command, video_store: Path, tmp_path: Path, capsys: pytest.CaptureFixture, preset: str, options: list[object], said: str
) -> None:
    assert command(*short(video_store, tmp_path / "run", preset), *options) == 2
    printed = capsys.readouterr().err.strip()
    assert said in printed
    assert "\n" not in printed
    assert not (tmp_path / "run" / "config.yaml").exists()


@pytest.mark.parametrize("workers", [[], ["--workers", 2]])
def test_a_store_without_val_is_told_what_training_needs(
    command: Command, video_store: Path, tmp_path: Path, capsys: pytest.CaptureFixture, workers: list[object]
) -> None:
    build_store(video_store.parent, tmp_path / "store", split="train")
    capsys.readouterr()
    assert command(*short(tmp_path / "store", tmp_path / "run"), *workers) == 2
    said = "has no recordings in split 'val', and an encoder is validated on such; build one with --val 0.1, or merge it with a store that"
    assert said in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "run" / "config.yaml").exists()


def test_training_is_the_same_wherever_its_frames_are_kept(command: Command, video_store: Path, tmp_path: Path) -> None:
    weights = []
    for kept in ("file", "memory", "device"):
        assert command(*short(video_store, tmp_path / kept), "--steps", 6, "--frames-in", kept) == 0
        weights.append((tmp_path / kept / "encoder.safetensors").read_bytes())
    assert weights[0] == weights[1] == weights[2]


def test_mirrored_clips_train_another_encoder_and_are_the_same_wherever_they_are_kept(
    command: Command, video_store: Path, tmp_path: Path
) -> None:
    weights = []
    for name, *more in (("plain",), ("file", "--training.flip", "True"), ("device", "--training.flip", "True", "--frames-in", "device")):
        assert command(*short(video_store, tmp_path / name), "--steps", 6, *more) == 0
        weights.append((tmp_path / name / "encoder.safetensors").read_bytes())
    assert weights[0] != weights[1] == weights[2]


def test_an_artifact_names_its_store_from_anywhere(
    command: Command, video_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(video_store.parent)
    assert command(*short(Path("store"), tmp_path / "pca", "pca")[:6], "--model.latent-dim", 4) == 0
    assert load_encoder(tmp_path / "pca").info.store.path == str(video_store)


def test_principal_components_need_no_steps(command: Command, video_store: Path, tmp_path: Path) -> None:
    assert command(*short(video_store, tmp_path / "pca", "pca")[:6], "--model.latent-dim", 4) == 0
    artifact = load_encoder(tmp_path / "pca")
    assert (artifact.info.name, artifact.info.steps) == ("pca", 0)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["train_encoder.py", "conv_vae_smal", "--store", "STORE", "--run", "RUN"], "did you mean 'conv_vae_small'"),
        (["train_encoder.py", "debug", "--store", "NOWHERE", "--run", "RUN"], "NOWHERE"),
        (["train_encoder.py", "debug", "--store", "STORE", "--run", "RUN", "--model.frame-shape", "32", "32", "3"], "(64, 64, 3)"),
        (["train_encoder.py", "debug", "--store", "STORE", "--run", "RUN", "--training.learning-rate", "-1"], "learning_rate"),
        (["train_encoder.py", "debug", "--store", "STORE", "--run", "RUN", "--model.encoder", "8x4"], "'8x4'"),
    ],
)
def test_a_mistake_is_one_line_with_status_2_and_writes_nothing(
    command: Command, video_store: Path, tmp_path: Path, capsys: pytest.CaptureFixture, arguments: list[str], said: str
) -> None:
    places = {"STORE": video_store, "RUN": tmp_path / "run", "NOWHERE": tmp_path / "NOWHERE"}
    assert command(*(places.get(argument, argument) for argument in arguments)) == 2
    printed = capsys.readouterr().err.strip()
    assert printed.startswith("error: ")
    assert said in printed
    assert "\n" not in printed
    assert not (tmp_path / "run").exists()


def test_cuda_without_cuda_is_one_line_with_status_2(
    command: Command, video_store: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has a CUDA device")
    assert command(*short(video_store, tmp_path / "run")[:-1], "cuda") == 2
    assert "PyTorch finds no CUDA device here" in capsys.readouterr().err


def test_principal_components_take_no_other_encoders_place(
    command: Command, video_store: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    assert command(*short(video_store, tmp_path / "run"), "--steps", 2) == 0
    (tmp_path / "run" / "resume.pt").unlink()
    before = (tmp_path / "run" / "encoder.json").read_bytes()
    assert command(*short(video_store, tmp_path / "run", "pca")[:6], "--model.latent-dim", 4) == 2
    assert "holds an encoder of another kind (conv_vae)" in capsys.readouterr().err
    assert (tmp_path / "run" / "encoder.json").read_bytes() == before
