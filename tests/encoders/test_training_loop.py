"""A run can be stopped, killed, resumed and prolonged, and its result is the same."""

import dataclasses
import json
import os
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from encoders import EncoderArtifact, TrainingData, load_encoder, make_encoder, train
from encoders.conv.vae import ConvVAE
from encoders.training.config import TrainingConfig, ema_decay, learning_rate
from encoders.training.metrics import MetricsLog
from encoders.training.state import read_resume
from encoders.training.validation import to_batch
from foundation.errors import UserError
from foundation.files import exclusive_lock

Train = Callable[..., EncoderArtifact]


def records(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    content = read_resume(folder)
    return {f"{part}.{name}": tensor for part in ("model", "averaged") for name, tensor in content[part].items()}


def assert_same_run(folder: Path, other: Path) -> None:
    for name, tensor in weights(folder).items():
        assert torch.equal(tensor, weights(other)[name]), name
    assert load_encoder(folder).info == load_encoder(other).info
    steps = [record["step"] for record in records(folder)]
    assert steps == sorted(set(steps)) == [record["step"] for record in records(other)]


class StopAt:
    """Batches that send a signal to this process while handing out batch `at`."""

    def __init__(self, batches: Any, at: int, number: int) -> None:
        self.batches, self.at, self.number = batches, at, number

    def __next__(self) -> Any:
        batch = next(self.batches)
        if self.batches.position == self.at:
            os.kill(os.getpid(), self.number)
        return batch

    def state_dict(self) -> dict[str, Any]:
        return self.batches.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.batches.load_state_dict(state)


class Blank:
    """Batches that are not finite: one in `every`."""

    def __init__(self, batches: Any, every: int) -> None:
        self.batches, self.every = batches, every

    def __next__(self) -> Any:
        batch = next(self.batches)
        if self.batches.position % self.every == 0:
            return dataclasses.replace(batch, frames=np.full(batch.frames.shape, np.nan, np.float32))
        return batch

    def state_dict(self) -> dict[str, Any]:
        return self.batches.state_dict()


def test_training_lowers_the_loss_and_leaves_every_file_of_a_run(train_small: Train, tmp_path: Path) -> None:
    artifact = train_small(tmp_path, 30)
    validated = [record["validation/negative_elbo"] for record in records(tmp_path) if "validation/loss" in record]
    assert validated == sorted(validated, reverse=True)
    assert artifact.info.steps == 30
    assert artifact.info.validation["step"] in (10, 20, 30)
    assert artifact.statistics["mean"][1].min() > 0
    names = {path.name for path in tmp_path.iterdir()}
    assert {"encoder.safetensors", "encoder.json", "resume.pt", "config.yaml", "metrics.jsonl", "tensorboard", "pictures"} <= names
    assert {path.name for path in (tmp_path / "pictures").iterdir()} == {"reconstructions.png", "samples.png", "traversals.png"}
    assert not [name for name in names if name.endswith(".tmp")]


def test_the_artifact_is_the_averaged_weights_with_the_lowest_validation_negative_elbo(train_small: Train, tmp_path: Path) -> None:
    artifact = train_small(tmp_path, 30)
    validated = {record["step"]: record["validation/negative_elbo"] for record in records(tmp_path) if "validation/negative_elbo" in record}
    best = min(validated, key=validated.__getitem__)
    assert artifact.info.validation["step"] == best
    assert artifact.info.validation["negative_elbo"] == pytest.approx(validated[best], rel=1e-5)
    stored = read_resume(tmp_path)["best"]["weights"]
    assert all(torch.equal(stored[name], tensor) for name, tensor in artifact.model.state_dict().items())


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_and_the_same_command_goes_on_bit_for_bit(
    train_small: Train, tmp_path: Path, number: int, frames: np.ndarray, fake_batches: Any
) -> None:
    before = signal.getsignal(number)
    with pytest.raises(SystemExit) as stopped:
        train_small(tmp_path / "stopped", 30, batches=StopAt(fake_batches(frames[:192], 8), at=13, number=number))
    assert stopped.value.code == 128 + number
    assert signal.getsignal(number) == before
    assert read_resume(tmp_path / "stopped")["step"] == 13
    train_small(tmp_path / "stopped", 30)
    train_small(tmp_path / "straight", 30)
    assert_same_run(tmp_path / "stopped", tmp_path / "straight")
    assert {record["session"] for record in records(tmp_path / "stopped")} == {1, 2}


def test_a_run_prolonged_equals_one_that_was_never_told_to_stop(train_small: Train, tmp_path: Path) -> None:
    train_small(tmp_path / "prolonged", 17)
    assert load_encoder(tmp_path / "prolonged").info.steps == 17
    train_small(tmp_path / "prolonged", 30)
    train_small(tmp_path / "straight", 30)
    assert_same_run(tmp_path / "prolonged", tmp_path / "straight")


def test_records_written_after_the_last_checkpoint_are_dropped_on_resuming(train_small: Train, tmp_path: Path) -> None:
    train_small(tmp_path, 10)
    with open(tmp_path / "metrics.jsonl", "a") as file:
        file.write('{"step": 11}\n{"step": 12, "tr')
    train_small(tmp_path, 15)
    assert [record["step"] for record in records(tmp_path)] == list(range(1, 16))


def test_a_finished_run_says_so_and_changes_nothing(train_small: Train, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    train_small(tmp_path, 12)
    kept = {path: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    train_small(tmp_path, 12)
    assert "already trained for 12 steps" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()} == kept


def test_a_run_killed_before_its_artifact_was_written_writes_it_when_run_again(train_small: Train, tmp_path: Path) -> None:
    first = train_small(tmp_path, 12)
    (tmp_path / "encoder.json").unlink()
    assert train_small(tmp_path, 12).info == first.info


def test_a_run_of_before_the_store_had_an_identity_goes_on(train_small: Train, tmp_path: Path, store: Any) -> None:
    train_small(tmp_path, 5)
    config = yaml.safe_load((tmp_path / "config.yaml").read_text())
    del config["store"]["identity"]
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    assert train_small(tmp_path, 10, store=dataclasses.replace(store, identity="i1")).info.steps == 10


@pytest.mark.parametrize(
    ("key", "change"),
    [
        ("training.learning_rate", {"config": {"learning_rate": 0.5}}),
        ("training.batch_size", {"config": {"batch_size": 4}}),
        ("model.beta", {"model": {"beta": 0.7}}),
        ("threads", {"threads": 2}),
        ("store.fingerprint", {"store": {"fingerprint": "f2"}}),
        ("store.identity", {"store": {"identity": "i2"}}),
        ("precision", {"precision": "bfloat16-anyway"}),
    ],
)
def test_resuming_with_another_setting_is_refused_with_its_name(
    train_small: Train, tmp_path: Path, small_config: TrainingConfig, store: Any, key: str, change: dict
) -> None:
    store = dataclasses.replace(store, identity="i1")
    train_small(tmp_path, 5, store=store)
    kept = (tmp_path / "config.yaml").read_bytes()
    options = dict(change)
    options["config"] = dataclasses.replace(small_config, **change.get("config", {}))
    options["store"] = dataclasses.replace(store, **change.get("store", {}))
    with pytest.raises(UserError, match=key):
        train_small(tmp_path, 10, **options)
    assert (tmp_path / "config.yaml").read_bytes() == kept


def test_steps_logging_and_the_store_s_place_may_differ_on_resuming(
    train_small: Train, tmp_path: Path, small_config: TrainingConfig, store: Any
) -> None:
    train_small(tmp_path, 5)
    moved = dataclasses.replace(store, path="elsewhere")
    train_small(tmp_path, 10, config=dataclasses.replace(small_config, log_every=5), store=moved, threads=None, device="auto")
    assert yaml.safe_load((tmp_path / "config.yaml").read_text())["steps"] == 10


def test_bfloat16_trains_on_the_cpu_where_asked_for_and_keeps_weights_of_float32(train_small: Train, tmp_path: Path) -> None:
    train_small(tmp_path / "exact", 10)
    train_small(tmp_path / "coarse", 10, precision="bfloat16-anyway")
    exact, coarse = records(tmp_path / "exact")[-1], records(tmp_path / "coarse")[-1]
    assert coarse["validation/negative_elbo"] != exact["validation/negative_elbo"]
    assert coarse["validation/negative_elbo"] == pytest.approx(exact["validation/negative_elbo"], rel=0.02)
    assert {tensor.dtype for name, tensor in weights(tmp_path / "coarse").items() if tensor.is_floating_point()} == {torch.float32}


def test_a_second_process_on_the_same_run_is_refused(train_small: Train, tmp_path: Path) -> None:
    with exclusive_lock(tmp_path, "training"), pytest.raises(UserError, match="another process is training here"):
        train_small(tmp_path, 5)


def test_a_step_that_is_not_finite_is_skipped_and_counted(
    train_small: Train, tmp_path: Path, frames: np.ndarray, fake_batches: Any, capsys: pytest.CaptureFixture
) -> None:
    train_small(tmp_path, 20, batches=Blank(fake_batches(frames[:192], 8), every=5))
    assert records(tmp_path)[-1]["skipped"] == 4
    assert records(tmp_path)[4]["train/loss"] is None
    assert "4 of 20 steps were skipped" in capsys.readouterr().err
    assert all(torch.isfinite(tensor).all() for tensor in weights(tmp_path).values())


def test_a_run_that_is_never_finite_ends_with_advice(train_small: Train, tmp_path: Path, frames: np.ndarray, fake_batches: Any) -> None:
    with pytest.raises(UserError, match=r"training\.learning_rate"):
        train_small(tmp_path, 200, batches=Blank(fake_batches(frames[:192], 8), every=1))


def test_a_seed_may_be_as_large_as_the_time_in_nanoseconds(train_small: Train, small_config: TrainingConfig, tmp_path: Path) -> None:
    train_small(tmp_path / "run", 2, dataclasses.replace(small_config, seed=1_760_000_000_000_000_000))
    assert load_encoder(tmp_path / "run")


def test_cuda_without_cuda_is_refused_before_anything_is_written(train_small: Train, tmp_path: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has a CUDA device")
    with pytest.raises(UserError, match="cuda"):
        train_small(tmp_path / "run", 5, device="cuda")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("wrong", [{"steps": 0}, {"steps": 5, "threads": -1}, {"steps": 5, "device": "meta"}])
def test_a_number_or_device_that_is_none_is_refused_before_anything_is_written(train_small: Train, tmp_path: Path, wrong: dict) -> None:
    with pytest.raises(UserError, match=r"--steps 0|--threads -1|no device 'meta'"):
        train_small(tmp_path / "run", **wrong)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "wrong",
    [
        {"seed": -1},
        {"seed": 2**63},
        {"gradient_clip": -1.0},
        {"learning_rate": float("nan")},
        {"adam_betas": (0.9, 1.0)},
        {"weight_decay": -0.1},
    ],
)
def test_a_setting_that_cannot_train_is_named(wrong: dict) -> None:
    with pytest.raises(UserError, match=rf"training\.{next(iter(wrong))} must be"):
        TrainingConfig(**wrong)


def test_an_encoder_that_came_without_its_run_is_not_overwritten(train_small: Train, tmp_path: Path) -> None:
    train_small(tmp_path / "run", 5)
    shutil.copytree(tmp_path / "run", tmp_path / "shared", ignore=lambda *_: ["resume.pt", "config.yaml", "metrics.jsonl"])
    kept = (tmp_path / "shared" / "encoder.json").read_bytes()
    with pytest.raises(UserError, match="choose another folder"):
        train_small(tmp_path / "shared", 10)
    assert (tmp_path / "shared" / "encoder.json").read_bytes() == kept


def test_tensorboard_drops_what_a_run_killed_before_its_first_checkpoint_wrote(tmp_path: Path) -> None:
    for values in ([1.0, 2.0, 3.0], [4.0, 5.0]):
        log = MetricsLog(tmp_path, 0, 0)
        for step, value in enumerate(values, 1):
            log.write(step, {"train/loss": value})
        log.close()
        time.sleep(1.1)  # event files are ordered by their second
    written = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [(event.step, event.value) for event in written.Scalars("train/loss")] == [(1, 4.0), (2, 5.0)]


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 half a file", b"0", b"\x80\x02a."])
def test_a_damaged_checkpoint_is_named(train_small: Train, tmp_path: Path, content: bytes) -> None:
    train_small(tmp_path, 5)
    (tmp_path / "resume.pt").write_bytes(content)
    with pytest.raises(UserError, match=r"resume\.pt"):
        train_small(tmp_path, 10)


def test_a_checkpoint_that_holds_a_pickled_object_is_never_run(train_small: Train, tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple:
            return (os.mkdir, (str(tmp_path / "exploded"),))

    train_small(tmp_path / "run", 5)
    torch.save({"format": 1, "model": Bomb()}, tmp_path / "run" / "resume.pt")
    with pytest.raises(UserError, match=r"resume\.pt"):
        train_small(tmp_path / "run", 10)
    assert not (tmp_path / "exploded").exists()


def test_a_collapsed_encoder_is_called_collapsed(train_small: Train, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    train_small(tmp_path, 30, model={"beta": 1e5})
    assert "COLLAPSED: only 0 of 4 units" in capsys.readouterr().err


def test_a_model_that_refuses_the_frames_is_one_error_before_anything_is_written(
    train_small: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise ValueError("the clips are too short for me")

    monkeypatch.setattr(ConvVAE, "loss", refuse)
    with pytest.raises(UserError, match="cannot be trained on these frames: the clips are too short for me"):
        train_small(tmp_path / "run", 5)
    assert not (tmp_path / "run").exists()


def test_pca_is_not_trained(tmp_path: Path) -> None:
    data = TrainingData(None, list, lambda: None, None)  # type: ignore[arg-type]
    with pytest.raises(UserError, match="computed, not trained"):
        train(make_encoder("pca"), data, tmp_path / "run", TrainingConfig(), steps=1)
    assert not (tmp_path / "run").exists()


def test_the_learning_rate_rises_falls_and_stays_whatever_the_number_of_steps() -> None:
    config = TrainingConfig(learning_rate=1.0, warmup_steps=10, decay_steps=30, final_learning_rate=0.1)
    assert [learning_rate(config, step) for step in (0, 4, 9, 10)] == pytest.approx([0.1, 0.5, 1.0, 1.0])
    assert learning_rate(config, 20) == pytest.approx(0.55)
    assert learning_rate(config, 30) == learning_rate(config, 1000) == pytest.approx(0.1)
    assert learning_rate(TrainingConfig(learning_rate=0.5), 10_000) == 0.5
    halving = TrainingConfig(learning_rate=1.0, warmup_steps=10, half_life_steps=20)
    assert [learning_rate(halving, step) for step in (4, 10, 30, 70)] == pytest.approx([0.5, 1.0, 0.5, 0.125])
    with pytest.raises(UserError, match=r"training\.decay_steps null beside it"):
        TrainingConfig(decay_steps=30, half_life_steps=20)


def test_arrays_and_tensors_of_uint8_frames_become_the_same_batch(frames: np.ndarray) -> None:
    actions = np.arange(8, dtype=np.float32).reshape(2, 4, 1)
    arrays = SimpleNamespace(frames=frames[:8].reshape(2, 4, 16, 16, 3), actions=actions)
    tensors = SimpleNamespace(frames=torch.from_numpy(arrays.frames), actions=torch.from_numpy(actions))
    one, other = (to_batch(batch, torch.device("cpu")) for batch in (arrays, tensors))
    assert one.frames.shape == (2, 4, 3, 16, 16)
    assert torch.equal(one.frames, other.frames)
    assert torch.equal(one.actions, other.actions)
    assert torch.equal(one.frames[1, 2, :, 5, 6], torch.from_numpy(frames[6, 5, 6]) / 255)


def test_the_average_of_the_weights_is_short_in_the_beginning() -> None:
    config = TrainingConfig(ema_decay=0.99)
    assert ema_decay(config, 1) < 0.2
    assert ema_decay(config, 100_000) == 0.99
    assert ema_decay(TrainingConfig(), 5) == 0
