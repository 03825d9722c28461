"""What is said of a hierarchical VAE beyond what all encoders are judged by: groups, readings, a tighter bound on the likelihood.

Shapes: N frames, K draws a frame, H height, W width, C channels.
"""

import math
from dataclasses import asdict
from typing import Any

import numpy as np
import torch

from encoders.encoder import to_float
from encoders.nvae import NVAE
from encoders.nvae.evaluating import bound, group_information, information_verdict, informative_reading, log_weights, reading_information
from foundation.progress import Advance

_AT_ONCE = 16


def judge_groups(model: NVAE, channel_kl: np.ndarray) -> dict[str, Any]:
    """Return what the groups of latents carry, coarsest first, given the mean KL of every channel in nats, and which readings to use."""
    kl = torch.from_numpy(channel_kl)
    readings = reading_information(model, kl)
    return {
        "groups": [{**asdict(group), "bits": group.kl / math.log(2)} for group in group_information(model, kl)],
        "readings": {reading.name: {**asdict(reading), "informative": reading.is_informative} for reading in readings},
        "recommended_latents": informative_reading(model, kl),
        "default_latents": model.reading(None),
        "verdict": information_verdict(model, kl),
    }


@torch.no_grad()
def judge_likelihood(model: NVAE, frames: np.ndarray, samples: int, device: torch.device, advance: Advance) -> dict[str, Any]:
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
