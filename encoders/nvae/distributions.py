"""The Gaussians of the latents, and the likelihoods of a frame: a discretised mixture of logistics, or a Gaussian.

Shapes: N frames, C channels, H height, W width, M components of a mixture.
"""

import math
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from encoders.nvae.mixture import MAX_LOG_SCALE, MIN_LOG_SCALE, MixtureLikelihood

CLAMP = 5.0
MIN_STDDEV = 1e-2


class Gaussian(NamedTuple):
    """Independent Gaussians by mean and standard deviation."""

    mean: Tensor
    stddev: Tensor

    @classmethod
    def of(cls, mean: Tensor, log_stddev: Tensor) -> "Gaussian":
        """Make Gaussians of what a network says, softly kept within e^5 and, by a deviation of at least 0.01, off a point."""
        return cls(soft_clamp(mean), soft_clamp(log_stddev).exp() + MIN_STDDEV)

    def draw(self, temperature: float = 1.0) -> Tensor:
        return self.mean + temperature * self.stddev * torch.randn_like(self.mean)

    def log_prob(self, z: Tensor) -> Tensor:
        """Return the log density at z in nats, elementwise."""
        return -((z - self.mean) / self.stddev).square() / 2 - self.stddev.log() - math.log(2 * math.pi) / 2

    def kl(self, prior: "Gaussian") -> Tensor:
        """Return KL(self || prior) in nats, elementwise."""
        shift, ratio = (self.mean - prior.mean) / prior.stddev, self.stddev / prior.stddev
        return (shift.square() + ratio.square() - 1) / 2 - ratio.log()


class MixtureOfLogistics:
    """A discretised mixture of logistics a pixel (Salimans et al. 2017, arXiv 1701.05517), of values in [-1, 1].

    The channels of a pixel share the component; the means of green and blue follow from the channels before, with coefficients of
    the component. `parameters` is float (N, 10 M, H, W), M logits and then M means, log-scales and coefficients for each channel.
    """

    def __init__(self, parameters: Tensor, bits: int) -> None:
        mixtures = parameters.shape[1] // 10
        self.parameters, self.half_bin = parameters, 1 / (2**bits - 1)
        self.logits_NMHW, of_channels = parameters.split([mixtures, 9 * mixtures], 1)
        self.of_channels_N33MHW = of_channels.unflatten(1, (3, 3, mixtures))

    @cached_property
    def means_N3MHW(self) -> Tensor:
        return self.of_channels_N33MHW[:, :, 0]

    @cached_property
    def log_scales_N3MHW(self) -> Tensor:
        return self.of_channels_N33MHW[:, :, 1].clamp(MIN_LOG_SCALE, MAX_LOG_SCALE)

    @cached_property
    def coefficients_N3MHW(self) -> Tensor:
        return self.of_channels_N33MHW[:, :, 2].tanh()

    def log_prob(self, x_N3HW: Tensor) -> Tensor:
        """Return the log probability of values in [-1, 1] in nats a frame (N,); gradients reach the parameters only."""
        return MixtureLikelihood.apply(self.parameters, x_N3HW, self.half_bin)

    def expected(self) -> Tensor:
        """Return the expected image (N, 3, H, W): means and coefficients averaged over the components, channel after channel clamped.

        It is not the mixture's mean exactly, since each channel is clamped before the next follows from it.
        """
        weights_N1MHW = self.logits_NMHW.softmax(1)[:, None]
        return _conditioned((weights_N1MHW * self.means_N3MHW).sum(2), (weights_N1MHW * self.coefficients_N3MHW).sum(2))

    def draw(self, temperature: float = 1.0) -> Tensor:
        """Draw an image (N, 3, H, W). A lower temperature sharpens the choice of the component and narrows each logistic."""
        gumbel = -torch.log(-torch.log(_uniform(self.logits_NMHW)))
        chosen_N1HW = (self.logits_NMHW / max(temperature, 1e-5) + gumbel).argmax(1, keepdim=True)
        index_N31HW = chosen_N1HW[:, None].expand(-1, 3, -1, -1, -1)
        means, log_scales, coefficients = (
            part.gather(2, index_N31HW).squeeze(2) for part in (self.means_N3MHW, self.log_scales_N3MHW, self.coefficients_N3MHW)
        )
        uniform = _uniform(means)
        logistic = torch.log(uniform) - torch.log1p(-uniform)
        return _conditioned(means + temperature * log_scales.exp() * logistic, coefficients)


class PixelGaussian:
    """A Gaussian for every value in [-1, 1]; `parameters` is float (N, 2 C, H, W), means and then log-deviations."""

    def __init__(self, parameters: Tensor) -> None:
        self.gaussian = Gaussian.of(*parameters.chunk(2, 1))

    def log_prob(self, x_NCHW: Tensor) -> Tensor:
        """Return the log density of values in [-1, 1] in nats a frame (N,)."""
        return self.gaussian.log_prob(x_NCHW).sum((1, 2, 3))

    def expected(self) -> Tensor:
        return self.gaussian.mean.clamp(-1, 1)

    def draw(self, temperature: float = 1.0) -> Tensor:
        return self.gaussian.draw(temperature).clamp(-1, 1)


def soft_clamp(x: Tensor) -> Tensor:
    return CLAMP * torch.tanh(x / CLAMP)


def at_least_float32(x: Tensor) -> Tensor:
    """Leave what autocast computed in 16 bits behind: likelihoods and divergences need the precision."""
    return x.float() if x.dtype in (torch.bfloat16, torch.float16) else x


def _conditioned(values_N3HW: Tensor, coefficients_N3HW: Tensor) -> Tensor:
    """Let green and blue follow from the channels before them, each in [-1, 1]."""
    (red, green, blue), (c0, c1, c2) = values_N3HW.unbind(1), coefficients_N3HW.unbind(1)
    red = red.clamp(-1, 1)
    green = (green + c0 * red).clamp(-1, 1)
    return torch.stack([red, green, (blue + c1 * red + c2 * green).clamp(-1, 1)], 1)


def _uniform(like: Tensor) -> Tensor:
    return torch.empty_like(like).uniform_(1e-5, 1 - 1e-5)
