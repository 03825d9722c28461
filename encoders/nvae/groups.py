"""One group of latents: its prior, its posterior, and how it changes the top-down state.

Shapes: N frames, C channels, Z latent channels, H height, W width.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from encoders.nvae.cells import top_down_cell
from encoders.nvae.distributions import Gaussian, at_least_float32
from encoders.nvae.flows import Flow
from encoders.nvae.hyperparameters import GroupPlan, NVAEHyperparameters
from encoders.nvae.layers import WeightNormConv2d


class Inferred(NamedTuple):
    """A group's latents given a frame, all float (N, Z, H, W) but the state (N, C, H, W)."""

    state: Tensor
    """The top-down state that the latents were inferred from, before they change it."""
    prior: Gaussian
    posterior: Gaussian
    """Before the flows."""
    base: Tensor
    """What was drawn from it, or its mean."""
    z: Tensor
    """The same after the flows."""

    def log_ratio(self) -> Tensor:
        """Return log q(z | x) - log p(z) of this sample in nats, elementwise; the flows keep the volume."""
        return self.posterior.log_prob(self.base) - self.prior.log_prob(self.z)

    def kl(self) -> Tensor:
        """Return KL(q || p) in nats, elementwise: exactly, but with flows estimated by this sample, which may be negative."""
        return self.posterior.kl(self.prior) if self.z is self.base else self.log_ratio()


class Group(nn.Module):
    """A group of latents. The first has a standard normal prior; `state_channels` is 0 where there is no top-down state."""

    def __init__(self, h: NVAEHyperparameters, plan: GroupPlan, first: bool, state_channels: int) -> None:
        super().__init__()
        channels, latents = plan.decoder_channels, h.latent_channels
        self.size, self.latent_channels, self.residual = plan.size, latents, h.residual_posterior
        self.posterior_head = WeightNormConv2d(plan.encoder_channels, 2 * latents, 3)
        self.combine_state = WeightNormConv2d(state_channels + latents, channels, 1)
        self.flows = nn.Sequential(*(Flow(latents) for _ in range(h.flows)))
        self.cells, self.prior_head, self.combine_features = nn.Sequential(), None, None
        if not first:
            growing = [top_down_cell(h, 2 * channels, double=True)] if plan.opens_scale else []
            self.cells = nn.Sequential(*growing, *(top_down_cell(h, channels) for _ in range(h.decoder_cells)))
            self.prior_head = nn.Sequential(nn.ELU(), WeightNormConv2d(channels, 2 * latents, 1))
            self.combine_features = WeightNormConv2d(channels, plan.encoder_channels, 1)

    def infer(self, state: Tensor, features: Tensor, draw: bool) -> Inferred:
        """Infer the latents from the state, after `cells`, and the bottom-up features; `draw` or take the mean."""
        parameters = self._prior_parameters(state)
        prior = Gaussian.of(*parameters) if parameters is not None else self._standard(state)
        if self.combine_features is not None:
            features = features + self.combine_features(state)
        mean, log_stddev = at_least_float32(self.posterior_head(features)).chunk(2, 1)
        if parameters is not None and self.residual:
            mean, log_stddev = parameters[0] + mean, parameters[1] + log_stddev
        posterior = Gaussian.of(mean, log_stddev)
        base = posterior.draw() if draw else posterior.mean
        return Inferred(state, prior, posterior, base, self.flows(base) if len(self.flows) else base)

    def prior(self, state: Tensor) -> Gaussian:
        """Return the prior of the latents, given the state after `cells`."""
        parameters = self._prior_parameters(state)
        return self._standard(state) if parameters is None else Gaussian.of(*parameters)

    def merge(self, state: Tensor, z: Tensor) -> Tensor:
        """Return the state that knows of the latents."""
        return self.combine_state(torch.cat([state, z.to(state.dtype)], 1))

    def _prior_parameters(self, state: Tensor) -> tuple[Tensor, Tensor] | None:
        if self.prior_head is None:
            return None
        mean, log_stddev = at_least_float32(self.prior_head(state)).chunk(2, 1)
        return mean, log_stddev

    def _standard(self, state: Tensor) -> Gaussian:
        zeros = at_least_float32(state).new_zeros(len(state), self.latent_channels, *self.size)
        return Gaussian(zeros, torch.ones_like(zeros))
