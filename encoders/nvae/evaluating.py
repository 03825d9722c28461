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


@dataclass(frozen=True)
class ReadingInformation:
    """What the groups that a reading depends on carry on average over frames."""

    name: str
    size: int
    """Numbers that an agent gets."""
    groups: int
    kl: float
    """Nats a frame."""
    active_channels: int
    channels: int

    @property
    def is_informative(self) -> bool:
        """At least half of the channels are active."""
        return self.active_channels >= _INFORMATIVE_SHARE * self.channels


@torch.no_grad()
def log_weights(model: "NVAE", frames: Tensor, samples: int) -> Tensor:
    """Return log p(x, z) - log q(z | x) in nats, float64 (K, N), of `samples` draws for each of frames (B, T, C, H, W)."""
    if samples < 1:
        raise ValueError(f"an importance-weighted bound needs 1 sample or more, got {samples}")
    return torch.stack([model.log_weight(frames).double() for _ in range(samples)])


def bound(log_weights_KN: Tensor) -> Tensor:
    """Return the importance-weighted bound on -log p(x) in nats a frame (N,); the mean of -`log_weights` is the negative ELBO."""
    return math.log(len(log_weights_KN)) - torch.logsumexp(log_weights_KN, 0)


def importance_weighted_nll(model: "NVAE", frames: Tensor, samples: int) -> Tensor:
    """Return a bound on -log p(x) in nats a frame, float64 (N,), of frames (B, T, C, H, W) by `samples` draws a frame.

    With one sample it is the negative ELBO; with more it is tighter (Burda et al. 2016, arXiv 1509.00519). Raises `ValueError`
    for less than one.
    """
    return bound(log_weights(model, frames, samples))


def group_information(model: "NVAE", pooled_kl: Tensor) -> list[GroupInformation]:
    """Return what every group carries, coarsest first, from the KL of the channels (L*Z,): the reading `pooled` of `kl_per_unit`."""
    h = model.hyperparameters
    kl_LZ = pooled_kl.view(-1, h.latent_channels)
    return [
        GroupInformation(at.scale, at.size, float(kl_Z.sum()), int((kl_Z > ACTIVE_CHANNEL_NATS).sum()), h.latent_channels)
        for at, kl_Z in zip(h.plan, kl_LZ, strict=True)
    ]


def reading_information(model: "NVAE", pooled_kl: Tensor) -> list[ReadingInformation]:
    """Return what each reading can tell an agent, from the KL of the channels; `top_down` follows from the coarsest size's groups."""
    groups = group_information(model, pooled_kl)
    found = []
    for name in ("top", "coarse", "pooled", "top_down"):
        held = groups[: model.group_counts[name]]
        active, channels = sum(group.active_channels for group in held), sum(group.channels for group in held)
        found.append(ReadingInformation(name, model.latents[name][0], len(held), sum(group.kl for group in held), active, channels))
    return found


def informative_reading(model: "NVAE", pooled_kl: Tensor) -> str:
    """Return the first of the readings `top`, `coarse` and `pooled` with half of its latent channels active; else `pooled`."""
    candidates = [reading for reading in reading_information(model, pooled_kl) if reading.name != "top_down"]
    return next((reading.name for reading in candidates if reading.is_informative), "pooled")


def information_verdict(model: "NVAE", pooled_kl: Tensor) -> str:
    """Say which reading is recommended and why, and which one agents get."""
    readings = {reading.name: reading for reading in reading_information(model, pooled_kl)}
    recommended, default = readings[informative_reading(model, pooled_kl)], model.reading(None)
    reason = "the first of top, coarse and pooled with at least half of its channels active"
    if not recommended.is_informative:
        reason = "for want of a reading with at least half of its channels active"
    said = f"Recommended for agents: '{recommended.name}' ({recommended.active_channels} of {recommended.channels} channels), {reason};"
    if recommended.name == default:
        return f"{said} they get it by default."
    return f"{said} they get '{default}' by default: give train_agent.py --latents {recommended.name}."
