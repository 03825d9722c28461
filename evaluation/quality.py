"""Picture quality: PSNR of the pooled squared error, and SSIM; both for frames in [0, 1].

Shapes: N frames, C channels, H height, W width.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

_WINDOW = 11
_SIGMA = 1.5
_K1, _K2 = 0.01, 0.03


def psnr(mean_squared_error: float) -> float:
    """Return the peak signal-to-noise ratio in dB of a squared error averaged over all frames, pixels and channels.

    Pool the error before the logarithm: a mean of PSNRs is ruled by the frames that are almost perfect.
    """
    return -10 * math.log10(max(mean_squared_error, 1e-12))


def ssim(x_NCHW: Tensor, y_NCHW: Tensor) -> Tensor:
    """Return the structural similarity (N) of frames, averaged over channels and places where the window fits.

    Wang et al. 2004: an 11x11 Gaussian window of deviation 1.5, K1 = 0.01, K2 = 0.03, data range 1. Frames smaller than the window are
    padded by repeating the edge.
    """
    return ssim_by_range(x_NCHW, y_NCHW, (1.0,))[0]


def ssim_by_range(x_NCHW: Tensor, y_NCHW: Tensor, data_ranges: Sequence[float]) -> list[Tensor]:
    """Return `ssim` for each data range: one of 2 for frames in [0, 1] gives the higher figures that older programs print."""
    missing = [max(0, _WINDOW - size) for size in x_NCHW.shape[2:]]
    x_NCHW, y_NCHW = (F.pad(frames, (0, missing[1], 0, missing[0]), mode="replicate") for frames in (x_NCHW, y_NCHW))
    stacked = torch.cat([x_NCHW, y_NCHW, x_NCHW * x_NCHW, y_NCHW * y_NCHW, x_NCHW * y_NCHW])
    mean_x, mean_y, mean_xx, mean_yy, mean_xy = _blur(stacked.double()).chunk(5)
    squares, variances = mean_x.square() + mean_y.square(), mean_xx - mean_x.square() + mean_yy - mean_y.square()
    product, covariance = mean_x * mean_y, mean_xy - mean_x * mean_y
    found = []
    for data_range in data_ranges:
        c1, c2 = (_K1 * data_range) ** 2, (_K2 * data_range) ** 2
        luminance = (2 * product + c1) / (squares + c1)
        structure = (2 * covariance + c2) / (variances + c2)
        found.append((luminance * structure).mean((1, 2, 3)))
    return found


def _blur(x_NCHW: Tensor) -> Tensor:
    # two products with band matrices: on a CPU three times as fast as a convolution of three channels in float64
    return _bands(x_NCHW.shape[2], x_NCHW) @ x_NCHW @ _bands(x_NCHW.shape[3], x_NCHW).T


def _bands(size: int, like: Tensor) -> Tensor:
    """Return the matrix (places, size) whose rows are the window at every place where it fits."""
    offsets = torch.arange(_WINDOW, dtype=like.dtype, device=like.device) - _WINDOW // 2
    weights = torch.exp(-offsets.square() / (2 * _SIGMA**2))
    places = size - _WINDOW + 1
    return torch.stack([F.pad(weights / weights.sum(), (place, places - 1 - place)) for place in range(places)])
