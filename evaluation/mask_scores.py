"""How well masks mark what they should: intersection over union at every threshold, and what masks have to beat.

Shapes: M frames, H height, W width, C channels.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

import cv2
import numpy as np
import torch

from encoders.encoder import GivesValue

THRESHOLDS = np.concatenate([[0.0025, 0.005, 0.01, 0.015], np.arange(1, 50) / 50])
"""0.02 to 0.98, and some below, for masks that are faint everywhere: a pixel is marked where the mask is no less."""
_SALIENCY_MEANS = 4.0
_GRABCUT_STEPS = 2


@dataclass
class Overlap:
    """Counts, over all frames added, of the pixels that masks mark at each threshold, and of those that are rightly so."""

    marked: np.ndarray = field(default_factory=lambda: np.zeros(len(THRESHOLDS), np.int64))
    right: np.ndarray = field(default_factory=lambda: np.zeros(len(THRESHOLDS), np.int64))
    true: int = 0

    def add(self, masks: np.ndarray, truth: np.ndarray) -> None:
        """Count masks (M, H, W) in [0, 1] against the truth bool (M, H, W)."""
        # how many thresholds a pixel reaches, and then how many pixels reach each
        reached = np.searchsorted(THRESHOLDS.astype(masks.dtype), masks, side="right")
        self.marked += _at_least(reached)
        self.right += _at_least(reached[truth])
        self.true += int(truth.sum())

    @property
    def iou(self) -> np.ndarray:
        """The intersection over union, pooled over all frames, at each threshold; 0 where nothing is marked and nothing is true."""
        return self.right / np.maximum(self.marked + self.true - self.right, 1)


def _at_least(reached: np.ndarray) -> np.ndarray:
    counts = np.bincount(reached.ravel(), minlength=len(THRESHOLDS) + 1)
    return np.cumsum(counts[::-1])[::-1][1:]


def iou(marked: np.ndarray, truth: np.ndarray) -> float:
    """Return the intersection over union of bool (M, H, W), pooled over all frames."""
    return float((marked & truth).sum() / max(1, (marked | truth).sum()))


def saliency(giver: GivesValue, frames: torch.Tensor) -> tuple[np.ndarray, np.ndarray] | None:
    """Return saliency float32 (M, H, W) in [0, 1] of frames (M, 1, C, H, W), and their value (M,); None for a value without gradient.

    It is |dV/dx| summed over channels, over 4 times its mean in the same frame, at most 1, times V. Each frame has its own gradient.
    """
    frames = frames.detach().clone().requires_grad_(True)
    with torch.enable_grad():
        value = giver.value(frames)
        if not value.requires_grad:
            return None
        # frames do not know each other: the gradient of the sum is that of each
        gradient = torch.autograd.grad(value.sum(), frames)[0]
    strength = gradient.abs().sum(2).flatten(0, 1)
    scale = strength.mean((1, 2), keepdim=True).clamp_min(1e-12) * _SALIENCY_MEANS
    found = value.detach().flatten()
    return ((strength / scale).clamp_max(1) * found[:, None, None]).cpu().numpy(), found.cpu().numpy()


def discs(shape: tuple[int, int]) -> np.ndarray:
    """Return, for a frame of this shape, masks (H, W) in [0, 1] whose thresholds are centred discs: 1 at the centre, 0 in the corners."""
    rows, columns = (np.arange(size) - (size - 1) / 2 for size in shape)
    distance = np.hypot(rows[:, None], columns[None])
    return 1 - distance / distance.max()


def disc_radius(shape: tuple[int, int], threshold: float) -> float:
    """Return the radius in pixels of the disc of `discs` at a threshold."""
    return (1 - threshold) * float(np.hypot((shape[0] - 1) / 2, (shape[1] - 1) / 2))


def grabcut(frames: np.ndarray, masks: np.ndarray, threshold: float) -> Iterator[np.ndarray]:
    """Yield what GrabCut (Rother et al. 2004) makes of each mask (H, W) on its frame uint8 (H, W, 3): bool (H, W).

    What the mask marks is probably of the object, surely so at twice the threshold, and surely not below a quarter of it. A mask that marks
    nothing, or leaves nothing out, stays as it is.
    """
    for frame, mask in zip(frames, masks, strict=True):
        marked = mask >= threshold
        sure, never = mask >= min(2 * threshold, 0.99), mask < threshold / 4
        kinds = np.where(marked, cv2.GC_PR_FGD, cv2.GC_PR_BGD).astype(np.uint8)
        kinds[sure], kinds[never] = cv2.GC_FGD, cv2.GC_BGD
        if not marked.any() or marked.all():
            yield marked
            continue
        cv2.setRNGSeed(0)
        bgr, model = np.ascontiguousarray(frame[..., ::-1]), np.zeros((2, 1, 65))
        try:
            cv2.grabCut(bgr, kinds, (0, 0, 1, 1), model[0], model[1], _GRABCUT_STEPS, cv2.GC_INIT_WITH_MASK)
        except cv2.error:
            # too few pixels of a kind for its colours
            yield marked
            continue
        yield np.isin(kinds, (cv2.GC_FGD, cv2.GC_PR_FGD))
