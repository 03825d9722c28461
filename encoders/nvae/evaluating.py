"""What a trained NVAE is judged by: a tighter bound than the ELBO, and what its groups of latents carry.

Shapes: B batch, T frames of a clip, N = B*T, C channels, H height, W width, Z latent channels, L groups.
"""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from encoders.nvae.model import NVAE

ACTIVE_CHANNEL_NATS = 0.1
_INFORMATIVE_SHARE = 0.5


@dataclass(frozen=True)
class GroupInformation:
    """What a group of latents carries on average over frames."""

    scale: int
    """0 is the coarsest."""
    size: tuple[int, int]
    kl: float
    """Nats a frame."""
    active_channels: int
    """Latent channels whose KL, summed over their pixels, is above 0.1 nats."""
    channels: int


@torch.no_grad()
def importance_weighted_nll(model: "NVAE", frames: Tensor, samples: int) -> Tensor:
    """Return a bound on -log p(x) in nats a frame, float64 (N,), of frames (B, T, C, H, W) by `samples` draws a frame.

    With one sample it is the negative ELBO; with more it is tighter (Burda et al. 2016, arXiv 1509.00519). Raises `ValueError`
    for less than one.
    """
    if samples < 1:
        raise ValueError(f"an importance-weighted bound needs 1 sample or more, got {samples}")
    log_weights_KN = torch.stack([model.log_weight(frames).double() for _ in range(samples)])
    return math.log(samples) - torch.logsumexp(log_weights_KN, 0)


def group_information(model: "NVAE", pooled_kl: Tensor) -> list[GroupInformation]:
    """Return what every group carries, coarsest first, from the KL of the channels (L*Z,): the reading `pooled` of `kl_per_unit`."""
    h = model.hyperparameters
    kl_LZ = pooled_kl.view(-1, h.latent_channels)
    return [
        GroupInformation(at.scale, at.size, float(kl_Z.sum()), int((kl_Z > ACTIVE_CHANNEL_NATS).sum()), h.latent_channels)
        for at, kl_Z in zip(h.plan, kl_LZ, strict=True)
    ]


def informative_reading(model: "NVAE", pooled_kl: Tensor) -> str:
    """Return the smallest of the readings `top`, `coarse` and `pooled` with half of its latent channels active; else `pooled`."""
    groups = group_information(model, pooled_kl)
    for name in ("top", "coarse"):
        held = groups[: model.group_counts[name]]
        if sum(group.active_channels for group in held) >= _INFORMATIVE_SHARE * sum(group.channels for group in held):
            return name
    return "pooled"
