"""What is not finite is named, and neither weights nor statistics of it are kept; other runs' weights are a new start."""

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from encoders import EncoderArtifact, Placement, TrainingData, load_encoder, make_encoder, train
from encoders.artifact import Ancestor
from encoders.conv.vae import ConvVAE
from encoders.training.config import TrainingConfig
from encoders.training.state import read_resume
from encoders.training.transfer import adopt
from encoders.training.validation import match_statistics, validate
from foundation.errors import UserError

Train = Callable[..., EncoderArtifact]
Frames = np.ndarray
CPU = torch.device("cpu")
STEPS = 10


def spoil(monkeypatch: pytest.MonkeyPatch, change: Callable[[ConvVAE, dict, int], None]) -> None:
    """Have `change` spoil the terms of the conv VAE's loss."""
    honest = ConvVAE.loss

    def loss(self: ConvVAE, batch: Any, step: int) -> dict:
        terms = honest(self, batch, step)
        change(self, terms, step)
        return terms

    monkeypatch.setattr(ConvVAE, "loss", loss)


def kl_is_nan(from_step: int) -> Callable[[ConvVAE, dict, int], None]:
    def change(model: ConvVAE, terms: dict, step: int) -> None:
        if model.training and step >= from_step:
            terms["kl"] = terms["kl"] * float("nan")
            terms["loss"] = terms["loss"] + terms["kl"]

    return change


def test_a_run_that_diverges_names_the_term_and_keeps_its_last_good_checkpoint(
    train_small: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    spoil(monkeypatch, kl_is_nan(from_step=12))
    with pytest.raises(UserError, match=r"steps 13 to 32 were all skipped: .*'kl' is nan.*step 15 is kept.*--weights") as raised:
        train_small(tmp_path, 60)
    assert "training.learning_rate" in str(raised.value)
    assert "step 13 skipped" in capsys.readouterr().err
    kept = read_resume(tmp_path)
    assert kept["step"] == 15
    assert all(torch.isfinite(tensor).all() for tensor in kept["model"].values())


def test_a_run_that_is_not_finite_from_the_start_says_which_term(
    train_small: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoil(monkeypatch, kl_is_nan(from_step=0))
    with pytest.raises(UserError, match=r"steps 1 to 20 .*'kl' is nan.*nothing was saved.*training\.learning_rate"):
        train_small(tmp_path, 60, config=TrainingConfig(batch_size=8, checkpoint_every=10, validation_every=100))
    assert not (tmp_path / "resume.pt").exists()


def test_a_gradient_that_is_not_finite_is_named_by_its_parameter(
    train_small: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def infinite_slope(model: ConvVAE, terms: dict, step: int) -> None:
        name, parameter = list(model.named_parameters())[1]
        slopes.add(name)
        terms["loss"] = terms["loss"] + (parameter.sum() * 0).sqrt()

    slopes: set[str] = set()
    spoil(monkeypatch, infinite_slope)
    with pytest.raises(UserError) as raised:
        train_small(tmp_path, 60)
    assert f"the loss is finite, but the gradient of '{slopes.pop()}' is not" in str(raised.value)


def test_a_validation_that_is_not_finite_ends_the_run_before_it_is_saved(
    train_small: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def only_judged(model: ConvVAE, terms: dict, step: int) -> None:
        if not model.training and step >= 20:
            terms["negative_elbo"] = terms["negative_elbo"] * float("inf")

    spoil(monkeypatch, only_judged)
    with pytest.raises(UserError, match=r"validation after step 20 is not finite.*checkpoint of step 15 is kept"):
        train_small(tmp_path, 60)
    assert read_resume(tmp_path)["step"] == 15


@dataclasses.dataclass
class Shown:
    frames: Frames
    actions: None = None


class Killed(Exception):
    """The end of a process that could not save."""


class Blank:
    """Batches of which one in `every` is not finite, and one is never there."""

    def __init__(self, batches: Any, every: int, killed_at: int) -> None:
        self.batches, self.every, self.killed_at = batches, every, killed_at

    def __next__(self) -> Any:
        batch = next(self.batches)
        if self.batches.position == self.killed_at:
            raise Killed
        if self.batches.position % self.every == 0:
            return Shown(np.full(batch.frames.shape, np.nan, np.float32))
        return batch

    def state_dict(self) -> dict:
        return self.batches.state_dict()

    def load_state_dict(self, state: dict) -> None:
        self.batches.load_state_dict(state)


@pytest.fixture
def train_nvae(frames: Frames, store: Any, fake_batches: Any) -> Train:
    """Return a function that trains a tiny NVAE, which has batch normalisation, with averaged weights."""

    def run(folder: Path, steps: int, every: int = 1000, killed_at: int = 0) -> EncoderArtifact:
        config = TrainingConfig(
            batch_size=8, learning_rate=5e-3, optimizer="adamax", ema_decay=0.95, validation_every=5, checkpoint_every=5, log_every=5
        )
        torch.manual_seed(0)
        batches = Blank(fake_batches(frames[:192], 8), every, killed_at)
        data = TrainingData(batches, lambda: held_out(frames), lambda: Shown(seen(frames)), store)  # type: ignore[arg-type]
        return train(nvae(), data, folder, config, steps=steps, placement=Placement(device="cpu", threads=1))

    return run


def nvae() -> Any:
    small = {"encoder_channels": 4, "decoder_channels": 4, "preprocess_cells": 1, "postprocess_cells": 1, "blocks": 1, "groups": 2}
    return make_encoder("nvae", frame_shape=[16, 16, 3], latent_channels=2, mixtures=2, regularisation=0.01, **small)


def held_out(frames: Frames) -> list[Shown]:
    return [Shown(frames[224:][:, None])]


def seen(frames: Frames) -> Frames:
    """Return the training frames that batch statistics are matched to."""
    return frames[:48][:, None]


def test_a_skipped_step_leaves_no_trace_in_batch_statistics(train_nvae: Train, tmp_path: Path) -> None:
    train_nvae(tmp_path, 5, every=2)
    kept = read_resume(tmp_path)
    assert kept["skipped"] == 2
    assert all(torch.isfinite(tensor).all() for tensor in kept["model"].values())
    assert all(int(count) == 3 for name, count in kept["model"].items() if name.endswith("num_batches_tracked"))


def test_averaged_weights_are_judged_and_kept_with_batch_statistics_of_their_own(train_nvae: Train, tmp_path: Path, frames: Frames) -> None:
    artifact = train_nvae(tmp_path, STEPS)
    kept = read_resume(tmp_path)
    averaged = nvae().eval()
    averaged.load_state_dict(kept["averaged"])
    matched = validate(averaged, held_out(frames), STEPS, CPU).terms["negative_elbo"]
    own = dict(kept["model"])
    averaged.load_state_dict({name: own[name] if "running_" in name else tensor for name, tensor in kept["averaged"].items()})
    copied = validate(averaged, held_out(frames), STEPS, CPU).terms["negative_elbo"]
    assert matched < copied
    assert artifact.info.validation["negative_elbo"] <= matched * (1 + 1e-6)
    assert not averaged.training
    match_statistics(averaged, [Shown(batch) for batch in np.split(seen(frames), 6)], STEPS, CPU)
    assert validate(averaged, held_out(frames), STEPS, CPU).terms["negative_elbo"] == pytest.approx(matched, rel=1e-5)


def test_an_nvae_that_is_stopped_and_killed_ends_with_the_same_bits(train_nvae: Train, tmp_path: Path) -> None:
    straight, killed = tmp_path / "straight", tmp_path / "killed"
    train_nvae(straight, STEPS)
    train_nvae(killed, 3)
    with pytest.raises(Killed):
        train_nvae(killed, STEPS, killed_at=8)
    assert read_resume(killed)["step"] == 5
    train_nvae(killed, STEPS)
    one, other = read_resume(straight), read_resume(killed)
    # batch statistics and the vectors of spectral norms are among the model's tensors
    assert {"spectral_norms", "running_mean"} <= {part for name in one["model"] for part in name.split(".")}
    for part in ("model", "averaged", "optimizer", "best"):
        assert_same_bits(one[part], other[part], part)
    assert load_encoder(straight).info == load_encoder(killed).info


def assert_same_bits(one: Any, other: Any, where: str) -> None:
    if isinstance(one, torch.Tensor):
        assert torch.equal(one, other), where
    elif isinstance(one, dict):
        assert one.keys() == other.keys(), where
        for key in one:
            assert_same_bits(one[key], other[key], f"{where} {key}")
    else:
        assert one == other, where


def test_a_new_run_starts_from_the_best_weights_of_another_and_goes_on_without_it(
    train_small: Train, tmp_path: Path, small_config: TrainingConfig
) -> None:
    first = train_small(tmp_path / "first", 20)
    best = read_resume(tmp_path / "first")["best"]
    slow = dataclasses.replace(small_config, learning_rate=1e-12, ema_decay=0.0)
    options: dict[str, Any] = {"config": slow, "weights": tmp_path / "first"}
    train_small(tmp_path / "second", 5, **options)
    begun = read_resume(tmp_path / "second")
    assert begun["step"] == 5
    for name, tensor in best["weights"].items():
        torch.testing.assert_close(begun["model"][name], tensor, rtol=1e-5, atol=1e-6)
    ancestor = {"run": str(tmp_path / "first"), "step": best["step"], "weights_sha256": first.info.weights_sha256, "store": "f1"}
    assert yaml.safe_load((tmp_path / "second" / "config.yaml").read_text())["weights"] == ancestor
    shutil.rmtree(tmp_path / "first")
    prolonged = train_small(tmp_path / "second", 10, **options).info
    assert (prolonged.steps, prolonged.started_from) == (10, Ancestor(**ancestor))
    with pytest.raises(UserError, match=r"weights\.run"):
        train_small(tmp_path / "second", 15, config=slow)


def test_an_encoder_without_its_run_is_a_start_too(train_small: Train, tmp_path: Path, tiny: dict[str, Any]) -> None:
    artifact = train_small(tmp_path / "run", 20)
    shutil.copytree(tmp_path / "run", tmp_path / "shared", ignore=lambda *_: ["resume.pt", "config.yaml", "metrics.jsonl"])
    model = make_encoder("conv_vae", **tiny)
    assert adopt(model, tmp_path / "shared", artifact.info.store).step == artifact.info.validation["step"]
    assert all(torch.equal(tensor, artifact.model.state_dict()[name]) for name, tensor in model.state_dict().items())
    cropped = dataclasses.replace(artifact.info.store, resize="crop")
    with pytest.raises(UserError, match=r"frames were resized by 'squash', those of .* by 'crop'"):
        adopt(model, tmp_path / "shared", cropped)


def test_weights_that_do_not_fit_or_are_not_there_are_refused_before_anything_is_written(train_small: Train, tmp_path: Path) -> None:
    train_small(tmp_path / "first", 5)
    with pytest.raises(UserError, match=r"--weights .*this model's is"):
        train_small(tmp_path / "second", 5, weights=tmp_path / "first", model={"latent_dim": 6})
    with pytest.raises(UserError, match="neither a training run nor an encoder"):
        train_small(tmp_path / "second", 5, weights=tmp_path / "nothing")
    assert not (tmp_path / "second" / "config.yaml").exists()


def test_what_a_run_s_record_does_not_know_had_its_default(train_small: Train, tmp_path: Path, small_config: TrainingConfig) -> None:
    train_small(tmp_path, 5)
    path = tmp_path / "config.yaml"
    record = yaml.safe_load(path.read_text())
    for key in ("optimizer", "weight_decay_kind", "weight_decay_everywhere"):
        del record["training"][key]
    path.write_text(yaml.safe_dump(record))
    with pytest.raises(UserError, match=r"training\.optimizer=adam, now it is adamax"):
        train_small(tmp_path, 10, config=dataclasses.replace(small_config, optimizer="adamax"))
    assert train_small(tmp_path, 10).info.steps == 10
