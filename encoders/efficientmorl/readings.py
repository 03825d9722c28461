"""What agents get of slots. Needs nothing but torch.

Shapes: N frames, K slots, D numbers of a slot, h, w size of a mask.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from encoders.efficientmorl.hyperparameters import STATISTICS

MASK_SIZE = 8


def reading_shapes(slots: int, slot_size: int) -> dict[str, tuple[int, ...]]:
    """Return the readings by name and shape."""
    width = slot_size + STATISTICS
    return {"slots": (slots, width), "slots_flat": (slots * width,), "masks": (slots, MASK_SIZE, MASK_SIZE)}


def readings_of(means_NKD: Tensor, masks_NKhw: Tensor) -> dict[str, Tensor]:
    """Return all readings of frames."""
    # under autocast the products that say where would be rounded to 3 digits
    with torch.autocast(masks_NKhw.device.type, enabled=False):
        slots = torch.cat([means_NKD, mask_statistics(masks_NKhw)], -1)
    small = F.adaptive_avg_pool2d(masks_NKhw, MASK_SIZE)
    return {"slots": slots, "slots_flat": slots.flatten(1), "masks": small}


def mask_statistics(masks_NKhw: Tensor) -> Tensor:
    """Return area, centroid x and y, spread and existence of every mask (N, K, 5).

    The area is a share of the frame; the centroid in [-1, 1], to the right and down; the spread the root of the mean squared distance from
    it; existence the largest share of any pixel, near 0 where a slot explains nothing.
    """
    height, width = masks_NKhw.shape[-2:]
    y, x = (torch.linspace(-1, 1, size, device=masks_NKhw.device, dtype=masks_NKhw.dtype) for size in (height, width))
    total = masks_NKhw.sum((-2, -1)).clamp(min=1e-6)
    columns, rows = masks_NKhw.sum(-2) / total[..., None], masks_NKhw.sum(-1) / total[..., None]
    mean_x, mean_y = columns @ x, rows @ y
    variance = columns @ x.square() - mean_x.square() + rows @ y.square() - mean_y.square()
    area, spread = total / (height * width), variance.clamp(min=0).sqrt()
    return torch.stack([area, mean_x, mean_y, spread, masks_NKhw.amax((-2, -1))], -1)
