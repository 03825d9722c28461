"""The likelihood of a frame given what each slot draws of it. Needs nothing but torch.

Shapes: N frames, K slots, H height, W width.
"""

import math
from typing import NamedTuple

from torch import Tensor


class Drawn(NamedTuple):
    """What slots decode to: colours (N, K, 3, H, W) in [0, 1], and logits (N, K, H, W) whose soft-max over slots is the masks."""

    colours: Tensor
    logits: Tensor

    @property
    def masks(self) -> Tensor:
        return self.logits.softmax(1)

    @property
    def picture(self) -> Tensor:
        """The slots' colours by their masks (N, 3, H, W)."""
        return (self.masks.unsqueeze(2) * self.colours).sum(1)


def gaussian(x_N3HW: Tensor, drawn: Drawn, sigma: float) -> Tensor:
    """Return the negative log-likelihood in nats a frame (N,), without the constant of 2 pi."""
    error = (x_N3HW - drawn.picture).square().sum((1, 2, 3)) / (2 * sigma**2)
    return error + x_N3HW[0].numel() * math.log(sigma)


def mixture(x_N3HW: Tensor, drawn: Drawn, sigma: float) -> Tensor:
    """Return the same of a mixture of the slots' Gaussians, one for each pixel and channel."""
    log_share = drawn.logits.log_softmax(1).unsqueeze(2)
    exponent = log_share - (x_N3HW.unsqueeze(1) - drawn.colours).square() / (2 * sigma**2)
    return x_N3HW[0].numel() * math.log(sigma) - exponent.logsumexp(1).sum((1, 2, 3))


LIKELIHOODS = {"gaussian": gaussian, "mixture": mixture}
LOG_2_PI_HALF = math.log(2 * math.pi) / 2
"""Nats a pixel and channel that both leave out."""
