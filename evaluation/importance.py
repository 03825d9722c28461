"""Importance-weighted bounds on the likelihood (Burda et al. 2016, arXiv 1509.00519).

Shapes: B batch, T frames of a clip, N = B*T, K draws a frame, C channels, H height, W width.
"""

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from encoders.encoder import BoundsLikelihood, to_float
from foundation.progress import Advance

_AT_ONCE = 16


@torch.no_grad()
def log_weights(model: BoundsLikelihood, frames: Tensor, samples: int) -> Tensor:
    """Return log p(x, z) - log q(z | x) in nats, float64 (K, N), of `samples` draws for each of frames (B, T, C, H, W)."""
    if samples < 1:
        raise ValueError(f"an importance-weighted bound needs 1 sample or more, got {samples}")
    return torch.stack([model.log_weight(frames).double() for _ in range(samples)])


def bound(log_weights_KN: Tensor) -> Tensor:
    """Return the importance-weighted bound on -log p(x) in nats a frame (N,); the mean of -`log_weights` is the negative ELBO."""
    return math.log(len(log_weights_KN)) - torch.logsumexp(log_weights_KN, 0)


def importance_weighted_nll(model: BoundsLikelihood, frames: Tensor, samples: int) -> Tensor:
    """Return a bound on -log p(x) in nats a frame, float64 (N,), of frames (B, T, C, H, W) by `samples` draws a frame.

    With one sample it is the negative ELBO; with more it is tighter. Raises `ValueError` for less than one.
    """
    return bound(log_weights(model, frames, samples))


@torch.no_grad()
def bound_likelihood(model: BoundsLikelihood, frames: np.ndarray, samples: int, device: torch.device, advance: Advance) -> dict[str, Any]:
    """Bound the likelihood of frames uint8 (N, H, W, C) by `samples` draws a frame; return bits per dimension of it and of the ELBO.

    Both are of the same draws, so that their difference is no noise between frames.
    """
    torch.manual_seed(0)
    elbo, tighter = 0.0, 0.0
    for start in range(0, len(frames), _AT_ONCE):
        chunk = to_float(torch.from_numpy(frames[start : start + _AT_ONCE]).to(device))[:, None]
        weights_KN = log_weights(model, chunk, samples)
        elbo -= float(weights_KN.mean(0).sum())
        tighter += float(bound(weights_KN).sum())
        advance(len(chunk))
    nats = torch.tensor([elbo, tighter], dtype=torch.float64) / len(frames)
    names = ("elbo_bits_per_dim", "importance_weighted_bits_per_dim")
    return {"frames": len(frames), "samples": samples, **dict(zip(names, model.bits_per_dim(nats).tolist(), strict=True))}
