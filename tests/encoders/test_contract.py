"""Every encoder keeps the contract, and check_encoder notices one that does not."""

import pytest
import torch
from torch import Tensor

from encoders import Batch, check_encoder, make_encoder
from encoders.conv_vae import ConvVAE, ConvVAEHyperparameters

TINY = ConvVAEHyperparameters(frame_shape=(16, 16, 3), latent_dim=4, encoder="4k4s2", decoder="4 k4s2")


@pytest.mark.parametrize("preset", ["conv_vae_small", "conv_vae_tiny", "debug", "pca"])
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
        (Unbounded, r"\[0, 1\]"),
    ],
)
def test_an_encoder_that_breaks_a_promise_is_told_which(kind: type[ConvVAE], promise: str) -> None:
    torch.manual_seed(0)
    with pytest.raises(AssertionError, match=promise):
        check_encoder(kind(TINY))
