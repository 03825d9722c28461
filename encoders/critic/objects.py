"""What a mask says of the thing it marks, in a few numbers.

Shapes: N frames, H height, W width.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

BACKGROUND = 0.05
"""The paper's threshold: what a mask has less of marks nothing."""
COARSE = 8
"""Rows and columns of the reading `mask`."""
OBJECT_NUMBERS = 5


def coarse(masks_NHW: Tensor) -> Tensor:
    """Average masks over 8 x 8 areas: (N, 64), row by row from the top left."""
    return F.adaptive_avg_pool2d(masks_NHW.unsqueeze(1), COARSE).flatten(1)


def objects(masks_NHW: Tensor) -> Tensor:
    """Return centroid x and y in [-1, 1] (right and down), area, spread and peak of the masks (N, 5).

    What is below the background's level does not count; area is the mean of the rest, spread the root mean squared distance from the
    centroid in the centroid's units. A mask that marks nothing has all at 0, but the peak.
    """
    height, width = masks_NHW.shape[1:]
    marked = (masks_NHW - BACKGROUND).clamp(min=0) / (1 - BACKGROUND)
    total_N = marked.sum((1, 2)).clamp(min=1e-6)
    across_W, down_H = _places(width, masks_NHW), _places(height, masks_NHW)
    columns_NW, rows_NH = marked.sum(1) / total_N[:, None], marked.sum(2) / total_N[:, None]
    x_N, y_N = columns_NW @ across_W, rows_NH @ down_H
    square_N = columns_NW @ across_W.square() + rows_NH @ down_H.square() - x_N.square() - y_N.square()
    spread_N = square_N.clamp(min=0).sqrt()
    return torch.stack([x_N, y_N, marked.mean((1, 2)), spread_N, masks_NHW.amax((1, 2))], 1)


def _places(count: int, like: Tensor) -> Tensor:
    """Return the middles of `count` pixels from -1 to 1."""
    return (torch.arange(count, dtype=like.dtype, device=like.device) * 2 + 1) / count - 1
