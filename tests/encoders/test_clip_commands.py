"""train_encoder.py and evaluate_encoder.py with a model of clips: memory, prediction, actions, frame rates."""

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
from frames.curation.splits import assign_splits
from frames.storage.writer import store_writer

Command = Callable[..., int]
SPLITS = {"long": "train", "longer": "train", "short": "train", "held out": "val", "moving": "test", "still": "test"}
LENGTHS = {"long": 40, "longer": 60, "short": 5, "held out": 50, "moving": 44, "still": 40}


def write_clips(path: Path, action_size: int = 0) -> Path:
    """Write a store of squares that wander, in recordings of several lengths; with actions if any are asked for."""
    with store_writer(path, {"source": "a test"}, (16, 16, 3)) as writer:
        for number, (name, length) in enumerate(LENGTHS.items()):
            random = np.random.default_rng(number)
            pictures = np.full((length, 16, 16, 3), random.integers(0, 256, 3), np.uint8)
            for index, picture in enumerate(pictures):
                place = 0 if name == "still" else index % 12
                picture[place : place + 4, 4:8] = 255 - picture[0, 0]
            acted = random.normal(size=(length - 1, action_size)).astype(np.float32)
            arrays = {"action.camera": acted} if action_size else {}
            writer.add(name, pictures, source=name, frames_per_second=20.0, arrays=lambda arrays=arrays: arrays)
        writer.finish(lambda names: assign_splits(names, given=SPLITS), {"resize": "squash", "left_out": []})
    return path


@pytest.fixture(scope="module")
def clip_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clips(tmp_path_factory.mktemp("clips") / "store")


@pytest.fixture(scope="module")
def action_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clips(tmp_path_factory.mktemp("actions") / "store", action_size=2)


def training(store: Path, run: Path, *more: object) -> list[object]:
    sizes = ["--model.frame-shape", 16, 16, 3, "--model.encoder-kernels", 4, 4, "--model.decoder-kernels", 6, 6]
    return ["train_encoder.py", "cwvae_debug", "--store", store, "--run", run, "--threads", 1, "--device", "cpu", *sizes, *more]


def judging(run: Path, store: Path, *more: object) -> list[object]:
    return ["evaluate_encoder.py", run, "--store", store, "--threads", 1, "--device", "cpu", *more]


def last_line(capsys: pytest.CaptureFixture) -> str:
    """Return the error of a command; what it said before were whole lines of their own."""
    return capsys.readouterr().err.strip().splitlines()[-1]


def test_a_model_of_clips_is_trained_and_its_predictions_are_judged(
    command: Command, clip_store: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    run = tmp_path / "run"
    assert command(*training(clip_store, run)) == 0
    assert "1 of 6 episodes (5 frames) are shorter than a clip of 8 frames and are not used" in capsys.readouterr().err
    options = ["--context", 8, "--predict", 12, "--samples", 2, "--use-obs", "TTF", "--clips", 3]
    assert command(*judging(run, clip_store, *options)) == 0
    printed = capsys.readouterr().out
    report = json.loads((run / "evaluation.json").read_text())
    # 5 whole clips of each of the two recordings
    assert report["frames"] == 80
    named = [f"{term}_{level}" for term in ("kl", "entropy_prior", "entropy_posterior") for level in range(3)]
    assert all(np.isfinite(report["terms"][name]) for name in named)
    assert report["terms"]["kl"] == pytest.approx(sum(report["terms"][f"kl_{level}"] for level in range(3)))
    open_loop = report["open_loop"]
    assert [open_loop[key] for key in ("context", "horizon", "samples", "use_obs", "data_range")] == [8, 12, 2, "TTF", 1.0]
    assert set(open_loop["groups"]) == {"moving clips, 20 frames/s", "frozen clips, 20 frames/s"}
    assert sum(group["clips"] for group in open_loop["groups"].values()) == 3
    rows = open_loop["groups"]["moving clips, 20 frames/s"]["rows"]
    assert {"model", "best sample by PSNR", "best sample by SSIM", "repeat the last frame", "mean frame", "best blend of both"} <= set(rows)
    assert all(len(curve) == 12 for row in rows.values() for curve in row["curves"].values())
    assert "Open loop after 8 frames" in printed
    pictures = {path.name for path in (run / "pictures").iterdir()}
    assert {"open_loop_curves.png", "open_loop_0.png", "open_loop_0.gif", "open_loop_2.gif", "reconstructions.png"} <= pictures


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
    assert command(*judging(run, clip_store, "--context", 4, "--predict", 100)) == 0
    assert "no recording in 'test' has 104 frames, half of them have 20: 16 are predicted" in capsys.readouterr().err
    groups = json.loads((run / "evaluation.json").read_text())["open_loop"]["groups"]
    assert {name: group["clips"] for name, group in groups.items()} == {"moving clips, 10 frames/s": 1, "frozen clips, 10 frames/s": 1}


@pytest.fixture(scope="module")
def trained(clip_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make an encoder with fresh weights, to be judged."""
    from encoders import StoreReference, make_encoder, prepare

    torch.manual_seed(0)
    model = make_encoder("cwvae_debug", frame_shape=[16, 16, 3], encoder_kernels=[4, 4], decoder_kernels=[6, 6])
    store = frames.FrameStore(clip_store)
    seen = frames.sample_sequences(store, "train", 100, 0)
    folder = tmp_path_factory.mktemp("trained")
    prepare(model, seen.frames, folder, store=StoreReference(str(clip_store), store.fingerprint, 20.0, "squash"))
    return folder


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--context", 6], r"a context of 6 frames (open_loop_ctx) must be divisible by factor^(levels-1) = 4"),
        (["--context", 8, "--use-obs", "TT"], "use_obs names 2 levels, the model has 3"),
        (["--context", 8, "--use-obs", "TXF"], "a T or an F for every level"),
        (["--context", 48], "no recording in 'test' is longer than the context of 48 frames; lower --context"),
        (["--context", 8, "--samples", 0], "--samples 0: must be 1 or more"),
        (["--context", 8, "--perceptual", "nowhere"], "--perceptual nowhere: is no folder"),
    ],
)
def test_a_prediction_that_cannot_be_made_is_one_line_before_anything_is_computed(
    command: Command, clip_store: Path, trained: Path, capsys: pytest.CaptureFixture, options: list[object], said: str
) -> None:
    assert command(*judging(trained, clip_store, *options)) == 2
    printed = capsys.readouterr().err.strip()
    assert printed.startswith("error: ")
    assert "\n" not in printed
    assert said in printed
    assert not (trained / "evaluation.json").exists()
    assert not (trained / "pictures").exists()


def test_frames_of_another_rate_are_told(command: Command, clip_store: Path, trained: Path, tmp_path: Path, capsys) -> None:
    for name in ("encoder.json", "encoder.safetensors"):
        (tmp_path / name).write_bytes((trained / name).read_bytes())
    info = json.loads((tmp_path / "encoder.json").read_text())
    info["store"]["frames_per_second"] = 30.0
    (tmp_path / "encoder.json").write_text(json.dumps(info))
    assert command(*judging(tmp_path, clip_store, "--context", 8, "--predict", 4, "--limit", 16)) == 0
    assert "gives 20 frames/s, the encoder was trained at 30; judged at 20" in capsys.readouterr().err


def test_actions_reach_everything_a_model_is_judged_by(
    command: Command, action_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    assert command(*training(action_store, run, "--model.action-size", 2, "--steps", 4)) == 0
    recorded, reports = frames.FrameStore.action_windows, []
    for share in (1, 0):
        monkeypatch.setattr(frames.FrameStore, "action_windows", lambda *chosen, share=share: recorded(*chosen) * np.float32(share))
        assert command(*judging(run, action_store, "--context", 8, "--predict", 12)) == 0
        reports.append(json.loads((run / "evaluation.json").read_text()))
    heard, deaf = reports
    for part in ("terms", "reconstruction", "kl_per_unit"):
        assert heard[part] != deaf[part]
    rows, without = (report["open_loop"]["groups"]["moving clips, 20 frames/s"]["rows"] for report in reports)
    assert rows["mean frame"] == without["mean frame"]
    assert rows["model"] != without["model"]


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
    assert command(*judging(tmp_path / "other", clip_store, "--context", 8)) == 2
    assert "has no actions, the encoder takes actions of 2; name a store built like" in last_line(capsys)


def test_validation_frames_are_frames_for_clips_too(
    command: Command, clip_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[int] = []
    in_order = frames.in_order

    def counted(*arguments: object, **options: object) -> Iterator[frames.FrameBatch]:
        batches = list(in_order(*arguments, **options))  # type: ignore[arg-type]
        read.append(sum(batch.frames.shape[0] * batch.frames.shape[1] for batch in batches))
        return iter(batches)

    monkeypatch.setattr(frames, "in_order", counted)
    assert command(*training(clip_store, tmp_path / "some", "--steps", 2, "--training.validation-frames", 30)) == 0
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
    assert said == ["torch.compile does not work here (no C++ compiler): going on without it"]


def test_a_model_without_a_recurrence_has_nothing_to_compile(
    command: Command, clip_store: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    more = ["--model.frame-shape", 16, 16, 3, "--steps", 2, "--compile", "True"]
    assert command("train_encoder.py", "debug", "--store", clip_store, "--run", tmp_path / "run", "--device", "cpu", *more) == 2
    assert "--compile: a 'conv_vae' has no recurrence to compile; leave it out" in last_line(capsys)
    assert not (tmp_path / "run").exists()
