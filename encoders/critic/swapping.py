"""How a mask is learned from values alone: which frames swap their masked pixels, and what that must do to their values.

Shapes: N frames, C channels, H height, W width; frames A are of high and of low value, frames B of low value.
"""

import torch
from torch import Tensor


def draw_pairs(scores_N: Tensor, low_below: float, high_above: float, count: int) -> tuple[Tensor, Tensor]:
    """Draw the indices of `count` frames A, half of high score and half of low, and of as many frames B of low score.

    Each once where there are enough, with repetitions where there are fewer; NaN is neither high nor low. Both are empty where there is no
    high or no low one.
    """
    highs, lows = (scores_N > high_above).nonzero().flatten(), (scores_N < low_below).nonzero().flatten()
    if not len(highs) or not len(lows):
        return highs[:0], lows[:0]
    half = count - count // 2
    return torch.cat([_drawn(highs, half), _drawn(lows, count - half)]), _drawn(lows, count)


def can_pair(scores_N: Tensor, low_below: float, high_above: float) -> bool:
    """Tell whether there are frames of high and of low score."""
    return bool((scores_N > high_above).any() & (scores_N < low_below).any())


def _drawn(indices: Tensor, count: int) -> Tensor:
    if len(indices) >= count:
        return indices[torch.randperm(len(indices), device=indices.device)[:count]]
    return indices[torch.randint(len(indices), (count,), device=indices.device)]


def swapped(a_NCHW: Tensor, b_NCHW: Tensor, masks_NHW: Tensor) -> tuple[Tensor, Tensor]:
    """Return A with B's pixels where the masks are, and B with A's."""
    weights = masks_NHW.unsqueeze(1)
    moved = weights * (b_NCHW - a_NCHW)
    return a_NCHW + moved, b_NCHW - moved


def norm(masks_NHW: Tensor, power: int, values_N: Tensor | None = None) -> Tensor:
    """Return the mean of masks, or of their squares; with values, the mean of a frame counts the less the higher its value is."""
    means_N = masks_NHW.pow(power).mean((1, 2))
    return (means_N if values_N is None else (1 - values_N) * means_N).mean()


def shifted_sideways(x_NCHW: Tensor, most: int) -> Tensor:
    """Shift all frames left or right by up to `most` pixels, drawn once; what comes in is the picture mirrored at its border."""
    width = x_NCHW.shape[3]
    by = int(torch.randint(-most, most + 1, ()))
    places = (torch.arange(width, device=x_NCHW.device) - by).abs()
    return x_NCHW[..., torch.where(places >= width, 2 * (width - 1) - places, places)] if by else x_NCHW
