"""Which slot holds an object, frame after frame, and how often it is the one that held it before.

Shapes: B clips, T frames of a clip, N = B, K slots, D numbers of a slot, J objects, C channels, H height, W width.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from encoders.encoder import TracksSlots, to_float
from evaluation.segments import best_pairs, overlaps
from foundation.progress import Advance

Start = Literal["before", "kept", "fresh"]
"""Where the slots of a frame start: from those of the frame before, from the noise that is kept with the weights, from new noise."""

_UNSEEN, _WITHOUT = -2, -1


@dataclass(frozen=True)
class Held:
    """Which slot holds each object of a clip."""

    slots: np.ndarray
    """int64 (T, J): -2 where an object is not to be seen, -1 where no slot has a part of it."""
    iou: np.ndarray
    """Intersection over union of slot and object (T, J); NaN where it is not to be seen."""


@dataclass(frozen=True)
class Kept:
    """How well slots keep to their objects, in shares from 0 to 1; NaN where nothing can be said."""

    next_frame: float
    """Of an object's frames whose frame before shows it too, in how many the same slot holds it as there."""
    first_frame: float
    """Of an object's frames after the first that shows it, in how many the same slot holds it as there."""
    mean_iou: float
    """Of slots and the objects that they hold; 0 where an object has none."""
    count: int
    """Pairs of an object and a frame whose frame before shows it too."""


@torch.no_grad()
def followed(model: TracksSlots, frames: np.ndarray, start: Start, device: torch.device, advance: Advance) -> np.ndarray:
    """Return which slot each pixel of clips uint8 (B, T, H, W, C) belongs to most, int64 (B, T, H, W)."""
    before: Tensor | None = None
    owners = []
    for frame in frames.swapaxes(0, 1):
        starts = model.slot_starts(len(frame), fresh=start == "fresh") if before is None or start != "before" else before
        before, masks_NKHW = model.slots_from(to_float(torch.from_numpy(np.ascontiguousarray(frame))).to(device), starts)
        owners.append(masks_NKHW.argmax(1).cpu().numpy())
        advance(len(frame))
    return np.stack(owners, 1)


def held(objects_TJHW: np.ndarray, owners_THW: np.ndarray, slots: int, least_pixels: int) -> Held:
    """Give each object of a clip the slot that suits them all best together (Hungarian method, intersection over union)."""
    seen = objects_TJHW.sum((2, 3)) >= least_pixels
    holders = np.where(seen, _WITHOUT, _UNSEEN)
    iou = np.where(seen, 0.0, np.nan)
    for time, (objects, owners) in enumerate(zip(objects_TJHW, owners_THW, strict=True)):
        places = np.flatnonzero(seen[time])
        scores = overlaps(objects[places], owners, slots)
        for row, slot in best_pairs(scores):
            if scores[row, slot] > 0:
                holders[time, places[row]], iou[time, places[row]] = slot, scores[row, slot]
    return Held(holders, iou)


def kept(clips: Sequence[Held]) -> Kept:
    """Count over all clips, objects and frames."""
    after, since, iou = [], [], []
    for clip in clips:
        iou.append(clip.iou.ravel())
        for holders in clip.slots.T:
            pairs = np.stack([holders[:-1], holders[1:]])
            after.append(_same(*pairs[:, (pairs != _UNSEEN).all(0)]))
            shown = holders[holders != _UNSEEN]
            since.append(_same(shown[:1], shown[1:]))
    return Kept(_mean(after), _mean(since), _mean(iou), sum(len(part) for part in after))


def _same(before: np.ndarray, now: np.ndarray) -> np.ndarray:
    """Return 1 where the same slot holds an object as before, 0 where another or none does."""
    return ((now == before) & (now != _WITHOUT)).astype(np.float64)


def _mean(parts: list[np.ndarray]) -> float:
    values = np.concatenate(parts)
    values = values[np.isfinite(values)]
    return float(values.mean()) if len(values) else float("nan")
