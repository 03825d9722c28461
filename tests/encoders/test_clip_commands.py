"""train_encoder.py with a model of clips: memory, actions, frame rates."""

import json
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

import frames
from encoders import load_encoder
from encoders.cwvae.scan import can_compile
from frames.batches import FrameBatches

Command = Callable[..., int]
def training(store: Path, run: Path, *more: object) -> list[object]:
    sizes = ["--model.frame-shape", 16, 16, 3, "--model.encoder-kernels", 4, 4, "--model.decoder-kernels", 6, 6]
    return ["train_encoder.py", "cwvae_debug", "--store", store, "--run", run, "--threads", 1, "--device", "cpu", *sizes, *more]


def judging(run: Path, store: Path, *more: object) -> list[object]:
    return ["evaluate_encoder.py", run, "--store", store, "--threads", 1, "--device", "cpu", *more]


def last_line(capsys: pytest.CaptureFixture) -> str:
    """Return the error of a command; what it said before were whole lines of their own."""
    return capsys.readouterr().err.strip().splitlines()[-1]


def stop_at_read(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """Send SIGTERM to this process when that many batches have been read."""
    read, done = FrameBatches.read, []

    def counted(self: FrameBatches, *arguments: object) -> frames.FrameBatch:
        done.append(1)
        if len(done) == number:
            os.kill(os.getpid(), signal.SIGTERM)
        return read(self, *arguments)

    monkeypatch.setattr(FrameBatches, "read", counted)


def test_a_stopped_run_of_clips_goes_on_bit_for_bit(
    command: Command, action_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    more = ["--model.action-size", 2, "--training.log-every", 1, "--steps", 24]
    assert command(*training(action_store, tmp_path / "straight", *more)) == 0
    with monkeypatch.context() as patched:
        stop_at_read(patched, 12)
        assert command(*training(action_store, tmp_path / "stopped", *more)) == 128 + signal.SIGTERM
    assert not (tmp_path / "stopped" / "encoder.json").exists()
    assert command(*training(action_store, tmp_path / "stopped", *more)) == 0
    straight, stopped = (load_file(tmp_path / name / "encoder.safetensors") for name in ("straight", "stopped"))
    assert straight.keys() == stopped.keys()
    assert all(np.array_equal(straight[name], stopped[name]) for name in straight)
    losses = [
        [json.loads(line)["train/loss"] for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()]
        for name in ("straight", "stopped")
    ]
    assert len(losses[0]) == 24
    assert losses[0] == losses[1]


def test_frames_further_apart_make_an_encoder_of_a_lower_rate(
    command: Command, clip_store: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    run = tmp_path / "run"
    assert command(*training(clip_store, run, "--stride", 2, "--steps", 4)) == 0
    assert "shorter than a clip of 15 frames" in capsys.readouterr().err
    assert load_encoder(run).info.frames_per_second == 10
    assert command(*training(clip_store, run, "--stride", 1, "--steps", 8)) == 2
    assert "this run was started with store.frames_per_second=10" in last_line(capsys)
    assert command(*judging(run, clip_store, "--open-loop.context", 4, "--open-loop.predict", 100)) == 0
    assert "no recording in 'test' has 104 frames, half of them have 20: 16 are predicted" in capsys.readouterr().err
    groups = json.loads((run / "evaluation.json").read_text())["open_loop"]["groups"]
    assert {name: group["clips"] for name, group in groups.items()} == {"moving clips, 10 frames/s": 1, "frozen clips, 10 frames/s": 1}


@pytest.mark.parametrize(
    ("size", "stored", "said"),
    [(2, False, "has no actions, the encoder takes actions of 2"), (3, True, "has actions of 2 numbers, the encoder takes actions of 3")],
)
def test_actions_that_a_store_does_not_have_are_refused_at_the_start(
    command: Command, clip_store: Path, action_store: Path, tmp_path: Path, capsys: pytest.CaptureFixture, size: int, stored: bool, said
) -> None:
    store = action_store if stored else clip_store
    assert command(*training(store, tmp_path / "run", "--model.action-size", size)) == 2
    assert f"{store}: {said}; give --model.frame-shape and --model.action-size as the store has them" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
    assert command(*training(action_store, tmp_path / "other", "--model.action-size", 2, "--steps", 2)) == 0
    assert command(*judging(tmp_path / "other", clip_store)) == 2
    assert "has no actions, the encoder takes actions of 2; name a store built like" in last_line(capsys)


def test_validation_frames_are_frames_for_clips_too_and_short_recordings_are_counted(
    command: Command, clip_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    read: list[int] = []
    in_order = frames.in_order

    def counted(*arguments: object, **options: object) -> Iterator[frames.FrameBatch]:
        batches = list(in_order(*arguments, **options))  # type: ignore[arg-type]
        read.append(sum(batch.frames.shape[0] * batch.frames.shape[1] for batch in batches))
        return iter(batches)

    monkeypatch.setattr(frames, "in_order", counted)
    assert command(*training(clip_store, tmp_path / "some", "--steps", 2, "--training.validation-frames", 30)) == 0
    assert "1 of 6 episodes (5 frames) are shorter than a clip of 8 frames and are not used" in capsys.readouterr().err
    assert set(read) == {24}
    read.clear()
    assert command(*training(clip_store, tmp_path / "least", "--steps", 2, "--training.validation-frames", 3)) == 0
    assert set(read) == {8}


def test_without_a_compiler_one_line_says_so_and_training_goes_on(
    command: Command, clip_store: Path, tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(function: object) -> None:
        raise RuntimeError("no C++ compiler\nwas found")

    monkeypatch.setattr(torch, "compile", missing)
    can_compile.cache_clear()
    assert command(*training(clip_store, tmp_path / "run", "--steps", 2, "--compile", "True")) == 0
    can_compile.cache_clear()
    said = [line for line in capsys.readouterr().err.splitlines() if "torch.compile" in line]
    assert said == ["torch.compile does not work here (no C++ compiler): continuing without it"]


def test_a_model_without_a_recurrence_has_nothing_to_compile(
    command: Command, clip_store: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    more = ["--model.frame-shape", 16, 16, 3, "--steps", 2, "--compile", "True"]
    assert command("train_encoder.py", "debug", "--store", clip_store, "--run", tmp_path / "run", "--device", "cpu", *more) == 2
    assert "--compile: a 'conv_vae' has no recurrence to compile; leave it out" in last_line(capsys)
    assert not (tmp_path / "run").exists()
