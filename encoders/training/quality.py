"""Picture quality: PSNR of the pooled squared error, and SSIM; both for frames in [0, 1].

Shapes: N frames, C channels, H height, W width.
"""

import math

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


def ssim(x_NCHW: Tensor, y_NCHW: Tensor, data_range: float = 1.0) -> Tensor:
    """Return the structural similarity (N) of frames, averaged over channels and places where the window fits.

    Wang et al. 2004: an 11x11 Gaussian window of deviation 1.5, K1 = 0.01, K2 = 0.03. A `data_range` of 2 for frames in [0, 1] gives
    the higher figures that older programs print. Frames smaller than the window are padded by repeating the edge.
    """
    missing = [max(0, _WINDOW - size) for size in x_NCHW.shape[2:]]
    x_NCHW, y_NCHW = (F.pad(frames, (0, missing[1], 0, missing[0]), mode="replicate") for frames in (x_NCHW, y_NCHW))
    stacked = torch.cat([x_NCHW, y_NCHW, x_NCHW * x_NCHW, y_NCHW * y_NCHW, x_NCHW * y_NCHW])
    mean_x, mean_y, mean_xx, mean_yy, mean_xy = _blur(stacked.double()).chunk(5)
    variances = mean_xx - mean_x.square() + mean_yy - mean_y.square()
    covariance = mean_xy - mean_x * mean_y
    c1, c2 = (_K1 * data_range) ** 2, (_K2 * data_range) ** 2
    luminance = (2 * mean_x * mean_y + c1) / (mean_x.square() + mean_y.square() + c1)
    structure = (2 * covariance + c2) / (variances + c2)
    return (luminance * structure).mean((1, 2, 3))


def _blur(x_NCHW: Tensor) -> Tensor:
    offsets = torch.arange(_WINDOW, dtype=x_NCHW.dtype, device=x_NCHW.device) - _WINDOW // 2
    weights = torch.exp(-offsets.square() / (2 * _SIGMA**2))
    weights = (weights / weights.sum()).expand(x_NCHW.shape[1], 1, 1, _WINDOW)
    along_width = F.conv2d(x_NCHW, weights, groups=x_NCHW.shape[1])
    return F.conv2d(along_width, weights.transpose(2, 3), groups=x_NCHW.shape[1])
