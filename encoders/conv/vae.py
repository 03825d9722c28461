"""Convolutional beta-VAE: one scale, diagonal Gaussian latents, squared error (Higgins et al. 2017).

Shapes: B batch, T frames of a clip, N = B*T, C channels, H height, W width, D latents.

The encoder's stack (`encoders/conv/stack.py`) strides down, the decoder's strides up through the same sizes in reverse; its last
layer, back to C channels, is the word `k3s1` (a kernel and a stride, no channels).
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from encoders.conv.hyperparameters import ConvVAEHyperparameters
from encoders.conv.stack import convolutions, finest_first, initialise_as_keras, parse_stack, shrinks, stack, transposed
from encoders.conv.where import Where
from encoders.encoder import Batch, Encoder, State

LOG_VARIANCE_BOUND = 10.0


class ConvVAE(Encoder):
    """Encode a frame into the mean of a Gaussian; on demand also into points or a map of evidence, which only heads train.

    The loss a frame is SSE/2 + beta KL, with SSE summed over pixels and channels in [0, 1]. Divided by the final beta, this is
    the negative ELBO of a Gaussian likelihood of variance beta, up to that likelihood's constant: `negative_elbo` (nats, with
    the constant) and `bits_per_dim` (of 8-bit values, the density times the bin's width) are of that model.
    """

    Hyperparameters = ConvVAEHyperparameters
    hyperparameters: ConvVAEHyperparameters

    def __init__(self, hyperparameters: ConvVAEHyperparameters | None = None) -> None:
        super().__init__()
        self.hyperparameters = h = hyperparameters or ConvVAEHyperparameters()
        self.frame_shape = h.frame_shape
        self.latents = {"mean": (h.latent_dim,)}
        self.final_beta = beta_in_elbo_units(h)
        self._check()
        channels = h.frame_shape[2]
        down = parse_stack(h.encoder, channels)
        first, _, rest = h.decoder.partition(" ")
        up = parse_stack(rest, int(first), last=channels)
        self.laid_out = (int(first), *shrinks(down, h.frame_shape))
        positions = math.prod(self.laid_out[1:])
        self.encoder = stack(down, convolutions(down, h.linear_stem))
        self.to_posterior = nn.Linear(down[-1].out_channels * positions, 2 * h.latent_dim)
        self.from_latents = nn.Linear(h.latent_dim, int(first) * positions)
        self.decoder = stack(up, [None, *transposed(up), nn.Sigmoid()])
        self.where = None
        if h.points or h.evidence:
            self.where = Where(down[-1].out_channels, self.laid_out[1:], h.points, h.evidence)
            self.latents |= self.where.latents
        self.apply(initialise_as_keras)

    def loss(self, batch: Batch, step: int) -> dict[str, Tensor]:
        return self.loss_and_latents(batch, step, [])[0]

    def loss_and_latents(self, batch: Batch, step: int, readings: Sequence[str]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        x_NCHW = batch.frames.flatten(0, 1)
        features_NCHW = self.encoder(x_NCHW)
        mean_ND, log_variance_ND = self._posterior(features_NCHW)
        found = {"mean": mean_ND, **self._where(features_NCHW, readings)}
        terms = self._terms(x_NCHW, mean_ND, log_variance_ND, step)
        return terms, {name: found[name].unflatten(0, batch.frames.shape[:2]) for name in readings}

    def _terms(self, x_NCHW: Tensor, mean_ND: Tensor, log_variance_ND: Tensor, step: int) -> dict[str, Tensor]:
        z_ND = mean_ND + torch.exp(log_variance_ND / 2) * torch.randn_like(mean_ND)
        reconstruction = self.decode(z_ND).sub(x_NCHW).square().sum((1, 2, 3)).mean() / 2
        kl = gaussian_kl(mean_ND, log_variance_ND).sum(1).mean()
        h = self.hyperparameters
        beta = self.final_beta * cyclical(step, h.half_cycle_steps, h.freeze_steps)
        dimensions = math.prod(h.frame_shape)
        likelihood_constant = dimensions / 2 * math.log(2 * math.pi * self.final_beta)
        negative_elbo = reconstruction.detach() / self.final_beta + likelihood_constant + kl.detach()
        return {
            "loss": reconstruction + beta * kl,
            "reconstruction": reconstruction.detach(),
            "kl": kl.detach(),
            "beta": torch.tensor(beta),
            "negative_elbo": negative_elbo,
            "bits_per_dim": (negative_elbo / dimensions + math.log(255)) / math.log(2),
        }

    def encode(self, frames: Tensor, state: State, action: Tensor | None = None, latents: str | None = None) -> tuple[Tensor, State]:
        reading = self.reading(latents)
        return self._read(frames, [reading])[reading], state

    def feature_maps(self, frames: Tensor) -> list[Tensor]:
        return finest_first(self.encoder, frames)

    def kl_per_unit(self, frames: Tensor, actions: Tensor | None = None) -> dict[str, Tensor]:
        return {"mean": gaussian_kl(*self.posterior(frames.flatten(0, 1))).mean(0)}

    def reconstruct(self, frames: Tensor, actions: Tensor | None = None) -> Tensor:
        return self.decode(self.posterior(frames.flatten(0, 1))[0]).view_as(frames)

    def sample(self, count: int) -> Tensor:
        z_ND = torch.randn(count, self.hyperparameters.latent_dim, device=self.from_latents.weight.device)
        return self.decode(z_ND).unsqueeze(1)

    def posterior(self, x_NCHW: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and log-variance (N, D), float32 under autocast too: the KL needs the precision."""
        return self._posterior(self.encoder(x_NCHW))

    def _posterior(self, features_NCHW: Tensor) -> tuple[Tensor, Tensor]:
        mean_ND, raw_ND = self.to_posterior(features_NCHW.flatten(1)).float().chunk(2, dim=1)
        # a smooth bound keeps exp finite and, unlike a clamp, always leaves a gradient that leads back
        return mean_ND, LOG_VARIANCE_BOUND * torch.tanh(raw_ND / LOG_VARIANCE_BOUND)

    def _where(self, features_NCHW: Tensor, names: Sequence[str]) -> dict[str, Tensor]:
        return {} if self.where is None else self.where(features_NCHW, list(names))

    def _read(self, x_NCHW: Tensor, names: Sequence[str]) -> dict[str, Tensor]:
        features_NCHW = self.encoder(x_NCHW)
        found = self._where(features_NCHW, names)
        if "mean" in names:
            found["mean"] = self._posterior(features_NCHW)[0]
        return {name: found[name] for name in names}

    def decode(self, z_ND: Tensor) -> Tensor:
        """Turn latents into mean frames (N, C, H, W), float32 in [0, 1]."""
        return self.decoder(self.from_latents(z_ND).unflatten(1, self.laid_out)).float()

    def _check(self) -> None:
        h = self.hyperparameters
        first = h.decoder.partition(" ")[0]
        if not first.isdecimal() or int(first) < 1:
            raise ValueError(f"the decoder begins with a number of channels, as in '128 64k4s2 k4s2', not with '{first}'")
        down, up = parse_stack(h.encoder, h.frame_shape[2]), parse_stack(h.decoder.partition(" ")[2], 1, last=1)
        shrink, grow = math.prod(layer.stride for layer in down), math.prod(layer.stride for layer in up)
        if shrink != grow:
            raise ValueError(f"the encoder strides down {shrink} times and the decoder up {grow} times: make them equal")
        shrinks(down, h.frame_shape)
        if h.beta <= 0 or h.latent_dim < 1 or h.points < 0:
            raise ValueError("beta and latent_dim must be greater than 0, points 0 or more")
        if h.freeze_steps < 0 or (h.half_cycle_steps is not None and h.half_cycle_steps < 1):
            raise ValueError("freeze_steps must be 0 or more, and half_cycle_steps 1 or more, or null for a constant beta")


def cyclical(step: int, half_cycle_steps: int | None, freeze_steps: int) -> float:
    """Return the share of the final beta before optimizer step `step` (Fu et al. 2019, R = 0.5): 0 to 1.

    0 for `freeze_steps`; then cycles that rise from 0 for one half and stay at 1 for the other, counted from the end of the
    freeze. (The reference counts them from step 0, which prolongs a freeze that does not end with a cycle.)
    """
    if step < freeze_steps:
        return 0.0
    if half_cycle_steps is None:
        return 1.0
    return min(1.0, (step - freeze_steps) % (2 * half_cycle_steps) / half_cycle_steps)


def beta_in_elbo_units(h: ConvVAEHyperparameters) -> float:
    """Return the weight of the KL beside SSE/2: the reference's beta times r/(2k), with r = H W and k = D."""
    if h.beta_unit == "elbo":
        return h.beta
    return h.beta * h.frame_shape[0] * h.frame_shape[1] / (2 * h.latent_dim)


def gaussian_kl(mean_ND: Tensor, log_variance_ND: Tensor) -> Tensor:
    """Return KL(N(mean, variance) || N(0, 1)) in nats a unit (N, D)."""
    return (mean_ND.square() + log_variance_ND.exp() - 1 - log_variance_ND) / 2
