"""Every encoder keeps the contract, and check_encoder notices one that does not."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from encoders import Batch, BoundsLikelihood, Decodes, Encoder, Generates, HasGroups, HasSlots, Predicts, check_encoder, make_encoder
from encoders.conv.vae import ConvVAE, ConvVAEHyperparameters
from encoders.encoder import DrawsReconstructions, SamplesAtTemperature
from encoders.training.pictures import ShownClips, write_pictures
from encoders.training.validation import to_batch, validate

TINY = ConvVAEHyperparameters(frame_shape=(16, 16, 3), latent_dim=4, encoder="4k4s2", decoder="4 k4s2")


@pytest.mark.parametrize("preset", ["conv_vae_small", "conv_vae_tiny", "debug", "efficientmorl_debug", "pca"])
def test_every_shipped_encoder_keeps_the_contract(preset: str) -> None:
    torch.manual_seed(0)
    check_encoder(make_encoder(preset, frame_shape=[32, 32, 3]))


class Sampled(ConvVAE):
    def encode(self, frames: Tensor, state: dict, action: Tensor | None = None, latents: str | None = None) -> tuple[Tensor, dict]:
        self.reading(latents)
        mean, log_variance = self.posterior(frames)
        return mean + log_variance.exp().sqrt() * torch.randn_like(mean), state


class AcrossTheBatch(ConvVAE):
    def encode(self, frames: Tensor, state: dict, action: Tensor | None = None, latents: str | None = None) -> tuple[Tensor, dict]:
        latent, state = super().encode(frames, state, action, latents)
        return latent - latent.mean(0), state


class AnyReading(ConvVAE):
    def encode(self, frames: Tensor, state: dict, action: Tensor | None = None, latents: str | None = None) -> tuple[Tensor, dict]:
        return self.posterior(frames)[0], state


class NoElbo(ConvVAE):
    def loss(self, batch: Batch, step: int) -> dict[str, Tensor]:
        return {"loss": super().loss(batch, step)["loss"]}


class HiddenState(ConvVAE):
    def __init__(self, hyperparameters: ConvVAEHyperparameters | None = None) -> None:
        super().__init__(hyperparameters)
        self.shift = torch.randn(())

    def encode(self, frames: Tensor, state: dict, action: Tensor | None = None, latents: str | None = None) -> tuple[Tensor, dict]:
        latent, state = super().encode(frames, state, action, latents)
        return latent + self.shift, state


class DeadLayer(ConvVAE):
    def __init__(self, hyperparameters: ConvVAEHyperparameters | None = None) -> None:
        super().__init__(hyperparameters)
        self.unused = torch.nn.Linear(2, 2)


class AnotherPass(ConvVAE):
    def encode_clip(self, frames: Tensor, actions: Tensor | None = None, latents: str | None = None) -> Tensor:
        return super().encode_clip(frames, actions, latents) + 0.1


class Unbounded(ConvVAE):
    def decode(self, z_ND: Tensor) -> Tensor:
        return super().decode(z_ND) * 3


class FarDecoded(ConvVAE):
    def decode(self, z_ND: Tensor) -> Tensor:
        return super().decode(z_ND) + 2

    def reconstruct(self, frames: Tensor, actions: Tensor | None = None) -> Tensor:
        return torch.zeros_like(frames)

    def sample(self, count: int) -> Tensor:
        return torch.zeros(count, 1, 3, 16, 16)


class Critic(Encoder):
    """Tells how bright a frame is: no decoder, no prior."""

    Hyperparameters = ConvVAEHyperparameters

    def __init__(self, hyperparameters: ConvVAEHyperparameters | None = None) -> None:
        super().__init__()
        self.hyperparameters = hyperparameters or TINY
        self.frame_shape = self.hyperparameters.frame_shape
        self.latents = {"brightness": (2,)}
        self.head = torch.nn.Linear(3, 2)

    def loss(self, batch: Batch, step: int) -> dict[str, Tensor]:
        x = batch.frames.flatten(0, 1)
        error = (self.head(x.mean((2, 3))) - x.mean((1, 2, 3))[:, None]).square().mean()
        return {"loss": error, "negative_elbo": error.detach()}

    def encode(self, frames: Tensor, state: dict, action: Tensor | None = None, latents: str | None = None) -> tuple[Tensor, dict]:
        self.reading(latents)
        return self.head(frames.mean((2, 3))), state


def test_an_encoder_that_generates_nothing_keeps_the_contract_too() -> None:
    torch.manual_seed(0)
    check_encoder(Critic())
    assert not isinstance(Critic(), Generates)


def test_what_generates_nothing_is_validated_and_has_no_pictures(tmp_path: Path) -> None:
    model, frames = Critic(TINY), np.random.default_rng(0).integers(0, 256, (4, 1, 16, 16, 3), np.uint8)
    found = validate(model, [ShownClips(frames)], 0, torch.device("cpu"))
    expected = model.loss(to_batch(ShownClips(frames), torch.device("cpu")), 0)["negative_elbo"]
    assert found.terms == pytest.approx({"loss": float(expected), "negative_elbo": float(expected)})
    assert found.activity == {}
    assert write_pictures(tmp_path, model, ShownClips(frames), {}, torch.device("cpu")) == []


@pytest.mark.parametrize(
    ("preset", "offered"),
    [
        ("debug", {Generates, Decodes}),
        ("pca", {Generates, Decodes}),
        ("efficientmorl_debug", {Generates, HasSlots}),
        ("slot_attention_tetrominoes", {HasSlots}),
        ("cwvae_debug", {Generates, Decodes, Predicts}),
        ("nvae_debug", {Generates, HasGroups, BoundsLikelihood, DrawsReconstructions, SamplesAtTemperature}),
    ],
)
def test_a_model_offers_what_its_kind_can_do(preset: str, offered: set[type]) -> None:
    known = {Generates, Decodes, Predicts, HasGroups, HasSlots, BoundsLikelihood, DrawsReconstructions, SamplesAtTemperature}
    assert {protocol for protocol in known if isinstance(make_encoder(preset), protocol)} == offered


@pytest.mark.parametrize(
    ("kind", "promise"),
    [
        (Sampled, "deterministic"),
        (AcrossTheBatch, "other rows"),
        (AnyReading, "ValueError"),
        (NoElbo, "negative_elbo"),
        (HiddenState, "state_dict"),
        (DeadLayer, "unused.weight"),
        (AnotherPass, r"encode_clip\(\)|clip_readings\(\)"),
        (Unbounded, r"reconstruct\(\) must stay in \[0, 1\]"),
        (FarDecoded, r"decode\(\) must stay in \[0, 1\]"),
    ],
)
def test_an_encoder_that_breaks_a_promise_is_told_which(kind: type[ConvVAE], promise: str) -> None:
    torch.manual_seed(0)
    with pytest.raises(AssertionError, match=promise):
        check_encoder(kind(TINY))
