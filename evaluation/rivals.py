"""Latents of frames, and those of what an encoder has to beat: pixels' principal components, and the same architecture untrained.

Shapes: M frames, D latents, C channels, H height, W width.
"""

import math

import numpy as np
import torch

from encoders import EncoderArtifact
from encoders.artifact import FIT_FRAMES
from encoders.encoder import Encoder, to_float
from encoders.registry import make_architecture
from evaluation.sampled import Sampled
from foundation.progress import Advance
from frames import FrameStore, sample_frames

WIDEST = 512
"""More latents than this are first turned into as many principal components: probes of more would take too long."""
_COMPONENTS_FRAMES = FIT_FRAMES // 2


@torch.no_grad()
def latents_of(model: Encoder, frames: Sampled, device: torch.device, advance: Advance) -> np.ndarray:
    """Return the default reading of every frame, float32 (M, D)."""
    parts = []
    for batch in frames.batches(device):
        parts.append(model.encode_clip(batch.frames, batch.actions).flatten(0, 1).flatten(1).cpu())
        advance(len(parts[-1]))
    return torch.cat(parts).float().numpy()


def untrained_twin(artifact: EncoderArtifact) -> Encoder | None:
    """Return the encoder's architecture with new weights; None for what is computed from frames rather than trained."""
    if type(artifact.model).fit is not Encoder.fit:
        return None
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        twin = make_architecture(artifact.info.name, artifact.info.hyperparameters)
    twin.prefer(artifact.model.reading(None))
    return twin.eval().requires_grad_(False)


def components_of(store: FrameStore, size: int) -> Encoder:
    """Compute the principal components of training frames' pixels, as many as `size`, or as half of the frames there are."""
    frames = sample_frames(store, "train", _COMPONENTS_FRAMES, seed=0)
    pixels = math.prod(store.frame_shape)
    count = max(1, min(size, len(frames) // 2, pixels - 1))
    model = make_architecture("pca", {"latent_dim": count, "frame_shape": list(store.frame_shape)})
    model.fit(to_float(torch.from_numpy(frames)))
    return model.eval()


def narrowed(latents: np.ndarray) -> np.ndarray:
    """Return latents (M, D) as they are, or their leading principal components where there are more than `WIDEST`."""
    if latents.shape[1] <= WIDEST:
        return latents
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        centred = torch.from_numpy(latents - latents.mean(0))
        return (centred @ torch.pca_lowrank(centred, min(WIDEST, len(centred)), center=False)[2]).numpy()
