"""Masks of held-out frames, with what they are compared with: read once, for the scores and the pictures.

Shapes: M frames, H height, W width.
"""

from dataclasses import dataclass

import numpy as np
import torch

from encoders.encoder import Encoder, GivesMasks
from encoders.heads import value_giver
from evaluation.evaluation import Evaluation
from evaluation.mask_scores import saliency
from evaluation.sampled import Sampled
from frames import FrameStore

_AT_ONCE = 128


@dataclass(frozen=True)
class Masked:
    """Masks of frames, float32 (M, H, W); `saliency` (M, H, W) and `value` (M,) of a model that values frames."""

    indices: np.ndarray
    masks: np.ndarray
    saliency: np.ndarray | None
    value: np.ndarray | None


def masked(model: Encoder, frames: Sampled, out: Evaluation) -> Masked:
    """Return the masks of frames, taken one by one."""
    assert isinstance(model, GivesMasks)
    giver = None if model.initial_state(1) else value_giver(model)
    masks, salient = [], []
    with out.progress("masking", len(frames.indices), "frames") as advance:
        for batch in frames.batches(out.device, _AT_ONCE):
            with torch.no_grad():
                masks.append(model.masks(batch.frames).flatten(0, 1).float().cpu().numpy())
            salient.append(None if giver is None else saliency(giver, batch.frames))
            advance(len(masks[-1]))
    pairs = [pair for pair in salient if pair is not None]
    if len(pairs) < len(masks):
        return Masked(frames.indices, np.concatenate(masks), None, None)
    return Masked(frames.indices, np.concatenate(masks), *(np.concatenate(parts) for parts in zip(*pairs, strict=True)))


def single_frames(store: FrameStore, indices: np.ndarray, out: Evaluation) -> Sampled:
    """Return frames by index as a model sees them that has no memory."""
    return Sampled(store, indices, 1, out.stride(store), False)
