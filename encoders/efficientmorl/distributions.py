"""Gaussians of slots, and where their noise comes from. Needs nothing but torch.

Shapes: N frames, K slots, D numbers of a slot.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

LARGEST_SOFTPLUS, LEAST_VARIANCE = 80.0, 1e-5


class Slots(NamedTuple):
    """A Gaussian of every slot: its means, and the variances before softplus, each (N, K, D)."""

    mean: Tensor
    raw: Tensor

    @property
    def variance(self) -> Tensor:
        return F.softplus(self.raw.clamp(max=LARGEST_SOFTPLUS)) + LEAST_VARIANCE

    @property
    def deviation(self) -> Tensor:
        return self.variance.sqrt()

    def draw(self, noise: "Noise") -> Tensor:
        return self.mean + self.deviation * noise(self.mean)

    def kl(self, prior: "Slots | None") -> Tensor:
        """Return KL(self || prior) in nats a number (N, K, D); None is N(0, 1)."""
        variance = self.variance
        if prior is None:
            return (self.mean.square() + variance - 1 - variance.log()) / 2
        ratio = variance / prior.variance
        return ((self.mean - prior.mean).square() / prior.variance + ratio - 1 - ratio.log()) / 2


class Noise(Protocol):
    def __call__(self, like: Tensor) -> Tensor:
        """Return standard normal noise of the shape and type of `like`."""


def drawn(like: Tensor) -> Tensor:
    """Return fresh noise."""
    return torch.randn_like(like)


def given(noises: Iterable[Tensor]) -> Noise:
    """Return noise that is known beforehand, in the order in which it is used: z0, the layers, the prior top down, the refinements."""
    left: Iterator[Tensor] = iter(noises)
    return lambda like: next(left).view_as(like)


def none(like: Tensor) -> Tensor:
    """Return zeros: means in place of draws."""
    return torch.zeros_like(like)
