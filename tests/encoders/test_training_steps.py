"""Every step of the training loop beside the same one by hand: rate, clipped gradient, average of the weights, validation."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from encoders import Batch, Encoder, EncoderArtifact, load_encoder, make_encoder
from encoders.training.config import TrainingConfig
from encoders.training.state import read_resume

Train = Callable[..., EncoderArtifact]
Weights = dict[str, Tensor]
STEPS, BATCH = 6, 8
EPSILON, CLIP, EMA = 0.1, 0.5, 0.3
CONFIG = TrainingConfig(
    batch_size=BATCH,
    learning_rate=0.02,
    warmup_steps=2,
    decay_steps=6,
    final_learning_rate=0.002,
    # as large as gradients are: Adam with a small one undoes what clipping does
    adam_epsilon=EPSILON,
    gradient_clip=CLIP,
    ema_decay=EMA,
    validation_every=1,
    checkpoint_every=1,
    log_every=1,
)
RATES = [0.01, 0.02, *(0.002 + 0.018 * np.cos(np.pi / 8 * np.arange(4)) ** 2)]
"""A warm-up of two steps and a half cosine of four, by the half angle."""


class Watched:
    """Batches that keep the checkpoint of every step, which is there when the next batch is asked for."""

    def __init__(self, batches: Any, folder: Path) -> None:
        self.batches, self.folder = batches, folder
        self.checkpoints: list[dict[str, Any]] = []

    def __next__(self) -> Any:
        if self.batches.position:
            self.checkpoints.append(read_resume(self.folder))
        return next(self.batches)

    def state_dict(self) -> dict[str, Any]:
        return self.batches.state_dict()


@pytest.fixture
def without_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    """Latents are their means: what a step does is a function of its batch."""
    monkeypatch.setattr(torch, "randn_like", torch.zeros_like)


@pytest.fixture
def checkpoints(train_small: Train, tmp_path: Path, frames: np.ndarray, fake_batches: Any, without_noise: None) -> list[dict[str, Any]]:
    """Those of a run of `STEPS` steps in `tmp_path`."""
    watched = Watched(fake_batches(frames[:192], BATCH), tmp_path)
    train_small(tmp_path, STEPS, CONFIG, batches=watched)
    return [*watched.checkpoints, read_resume(tmp_path)]


@pytest.fixture
def model(tiny: dict[str, Any]) -> Encoder:
    """What a run begins with."""
    torch.manual_seed(CONFIG.seed)
    return make_encoder("conv_vae", **tiny)


def records(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def batch_of(frames: np.ndarray) -> Batch:
    return Batch(torch.from_numpy(frames.astype(np.float32) / 255).movedim(-1, -3).unflatten(0, (-1, 1)), None)


def assert_close(found: Weights, expected: Weights) -> None:
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, rtol=1e-4, atol=1e-6, msg=lambda text, name=name: f"{name}: {text}")


def test_a_step_is_adam_s_with_the_gradient_clipped_and_the_rate_of_the_schedule(
    checkpoints: list[dict[str, Any]], model: Encoder, frames: np.ndarray, fake_batches: Any, tmp_path: Path
) -> None:
    batches = fake_batches(frames[:192], BATCH)
    optimizer = torch.optim.Adam(model.parameters(), eps=EPSILON)
    norms = []
    for rate, checkpoint in zip(RATES, checkpoints, strict=True):
        optimizer.param_groups[0]["lr"] = float(rate)
        optimizer.zero_grad()
        model.loss(batch_of(next(batches).frames[:, 0]), 0)["loss"].backward()
        norms.append(float(torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)))
        optimizer.step()
        assert checkpoint["optimizer"]["param_groups"][0]["lr"] == pytest.approx(rate)
        assert_close(checkpoint["model"], model.state_dict())
    assert min(norms) > 2 * CLIP
    assert [record["train/gradient_norm"] for record in records(tmp_path)] == pytest.approx(norms, rel=1e-3)
    assert [record["train/learning_rate"] for record in records(tmp_path)] == pytest.approx(RATES)


def test_the_average_follows_the_weights_the_faster_the_earlier(checkpoints: list[dict[str, Any]], model: Encoder) -> None:
    averaged = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    # (1 + step) / (10 + step), up to the decay that was asked for
    decays = [2 / 11, 3 / 12, EMA, EMA, EMA, EMA]
    for decay, checkpoint in zip(decays, checkpoints, strict=True):
        for name, average in averaged.items():
            average += (1 - decay) * (checkpoint["model"][name] - average)
        assert_close(checkpoint["averaged"], averaged)


def test_what_is_validated_and_kept_are_the_averaged_weights(
    checkpoints: list[dict[str, Any]], model: Encoder, frames: np.ndarray, tmp_path: Path
) -> None:
    validated, held_out = [], batch_of(frames[192:])
    for checkpoint in checkpoints:
        model.load_state_dict(checkpoint["averaged"])
        with torch.no_grad():
            validated.append(float(model.loss(held_out, 0)["negative_elbo"]))
    assert [record["validation/negative_elbo"] for record in records(tmp_path)] == pytest.approx(validated, rel=1e-5)
    best = int(np.argmin(validated))
    artifact = load_encoder(tmp_path)
    assert artifact.info.validation["step"] == best + 1
    for name, tensor in artifact.model.state_dict().items():
        assert torch.equal(tensor, checkpoints[best]["averaged"][name]), name


def test_the_seed_is_that_of_the_noise_of_the_latents_too(train_small: Train, tmp_path: Path) -> None:
    train_small(tmp_path / "first", 1, CONFIG)

    def loss(seed: int, name: str) -> float:
        """Return that of the first step from the same weights on the same frames."""
        train_small(tmp_path / name, 1, dataclasses.replace(CONFIG, seed=seed), weights=tmp_path / "first")
        return records(tmp_path / name)[0]["train/loss"]

    one, again, other = loss(1, "one"), loss(1, "again"), loss(2, "other")
    assert one == again
    assert one != other
