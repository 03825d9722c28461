"""FID (Heusel et al. 2017, arXiv 1706.08500), for users who supply the network's weights: `inception.pth` or `inception.safetensors`.

The network is Inception-v3 as published in 2015 for TensorFlow, whose pooling differs from later ones: averages do not count the padding,
and the last block takes the maximum. The weights have the names of its PyTorch port.
Shapes: N frames, C channels, H height, W width, D = 2048 features.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from evaluation.perceptual import frechet_distance, load_weights, read_weights
from foundation.errors import UserError
from foundation.progress import Advance, say

FEATURES = 2048
RECOMMENDED_IMAGES = 10_000
_SIDE = 299
_AT_ONCE = 32

Units = dict[str, tuple[int, int, int | tuple[int, int], int]]
"""Convolutions by name: channels in and out, kernel, stride."""
Chains = tuple[tuple[str, ...], ...]
"""What is joined, each as the names one after another; chains that begin alike share the beginning."""


class FIDInception(nn.Module):
    """Frames (N, 3, H, W) in [0, 1] to features (N, 2048). 21,785,568 parameters. `weights` holds `inception`."""

    def __init__(self, weights: Path) -> None:
        super().__init__()
        self.Conv2d_1a_3x3 = _Unit(3, 32, 3, 2, padded=False)
        self.Conv2d_2a_3x3 = _Unit(32, 32, 3, padded=False)
        self.Conv2d_2b_3x3 = _Unit(32, 64, 3)
        self.Conv2d_3b_1x1 = _Unit(64, 80)
        self.Conv2d_4a_3x3 = _Unit(80, 192, 3, padded=False)
        for name, block in _blocks().items():
            self.add_module(name, block)
        found: dict[str, Tensor | None] = dict(read_weights(weights, "inception"))
        # files written by old versions do not have these, and nothing here uses them
        found |= {name: tensor for name, tensor in self.state_dict().items() if name.endswith("num_batches_tracked")}
        load_weights(self, found, weights)
        self.eval()

    def forward(self, x_NCHW: Tensor) -> Tensor:
        x = 2 * F.interpolate(x_NCHW, (_SIDE, _SIDE), mode="bilinear", align_corners=False) - 1
        x = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(x)))
        x = self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(F.max_pool2d(x, 3, 2)))
        x = F.max_pool2d(x, 3, 2)
        for name, block in self.named_children():
            if name.startswith("Mixed"):
                x = block(x)
        return x.mean((2, 3))


@torch.no_grad()
def frechet_inception_distances(
    weights: Path, training: Iterable[Tensor], others: dict[str, Iterable[Tensor]], device: torch.device, advance: Advance
) -> dict[str, float]:
    """Return the FID of each of `others` to the `training` frames, all float (N, 3, H, W) in [0, 1] a chunk, by name.

    Raises `UserError` where a set has fewer than 2 images. The covariances are computed in float64.
    """
    network = FIDInception(weights).to(device)
    reference = _features(network, training, device, advance)
    return {name: frechet_distance(_features(network, chunks, device, advance), reference) for name, chunks in others.items()}


def warn_of_few(images: int) -> None:
    """Say so where there are too few images for FID to be compared with what others report."""
    if images < FEATURES:
        few = f"FID from {images:,} images is too high, and noisy: its covariances have {FEATURES:,} dimensions"
        say(f"{few}; {RECOMMENDED_IMAGES:,} images or more are recommended, the same number for all that is compared")


def _features(network: nn.Module, chunks: Iterable[Tensor], device: torch.device, advance: Advance) -> Tensor:
    found = []
    for chunk in _split(chunks):
        found.append(network(chunk.to(device)).cpu())
        advance(len(chunk))
    if sum(map(len, found)) < 2:
        raise UserError("FID needs 2 images or more of every kind; raise --fid.images, or name a store with more frames")
    return torch.cat(found)


def _split(chunks: Iterable[Tensor]) -> Iterator[Tensor]:
    for chunk in chunks:
        yield from chunk.split(_AT_ONCE)


class _Unit(nn.Module):
    def __init__(self, inputs: int, outputs: int, kernel: int | tuple[int, int] = 1, stride: int = 1, padded: bool = True) -> None:
        super().__init__()
        height, width = (kernel, kernel) if isinstance(kernel, int) else kernel
        padding = (height // 2, width // 2) if padded else (0, 0)
        self.conv = nn.Conv2d(inputs, outputs, (height, width), stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(outputs, eps=1e-3)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(x)))


class _Block(nn.Module):
    def __init__(self, units: Units, chains: Chains, pool: str) -> None:
        super().__init__()
        self.chains, self.pool = chains, pool
        for name, (inputs, outputs, kernel, stride) in units.items():
            self.add_module(name, _Unit(inputs, outputs, kernel, stride, padded=stride == 1))

    def forward(self, x: Tensor) -> Tensor:
        done: dict[tuple[str, ...], Tensor] = {(): x}
        for chain in self.chains:
            for end, name in enumerate(chain, 1):
                if chain[:end] not in done:
                    before = done[chain[: end - 1]]
                    done[chain[:end]] = pooled(before, self.pool) if name == "pool" else self.get_submodule(name)(before)
        return torch.cat([done[chain] for chain in self.chains], 1)


def pooled(x_NCHW: Tensor, kind: str) -> Tensor:
    """Pool 3x3: `average` over what is inside the frame, `maximum`, or `halving`, the maximum at every second place."""
    if kind == "average":
        return F.avg_pool2d(x_NCHW, 3, 1, 1, count_include_pad=False)
    return F.max_pool2d(x_NCHW, 3, 2) if kind == "halving" else F.max_pool2d(x_NCHW, 3, 1, 1)


def _blocks() -> dict[str, _Block]:
    return {
        "Mixed_5b": _block_35(192, 32),
        "Mixed_5c": _block_35(256, 64),
        "Mixed_5d": _block_35(288, 64),
        "Mixed_6a": _to_17(),
        "Mixed_6b": _block_17(128),
        "Mixed_6c": _block_17(160),
        "Mixed_6d": _block_17(160),
        "Mixed_6e": _block_17(192),
        "Mixed_7a": _to_8(),
        "Mixed_7b": _block_8(1280, "average"),
        "Mixed_7c": _block_8(2048, "maximum"),
    }


def _block_35(inputs: int, last: int) -> _Block:
    units: Units = {
        "branch1x1": (inputs, 64, 1, 1),
        "branch5x5_1": (inputs, 48, 1, 1),
        "branch5x5_2": (48, 64, 5, 1),
        "branch3x3dbl_1": (inputs, 64, 1, 1),
        "branch3x3dbl_2": (64, 96, 3, 1),
        "branch3x3dbl_3": (96, 96, 3, 1),
        "branch_pool": (inputs, last, 1, 1),
    }
    chains = (("branch1x1",), _numbered("branch5x5", 2), _numbered("branch3x3dbl", 3), ("pool", "branch_pool"))
    return _Block(units, chains, "average")


def _to_17() -> _Block:
    units: Units = {
        "branch3x3": (288, 384, 3, 2),
        "branch3x3dbl_1": (288, 64, 1, 1),
        "branch3x3dbl_2": (64, 96, 3, 1),
        "branch3x3dbl_3": (96, 96, 3, 2),
    }
    return _Block(units, (("branch3x3",), _numbered("branch3x3dbl", 3), ("pool",)), "halving")


def _block_17(c: int) -> _Block:
    units: Units = {
        "branch1x1": (768, 192, 1, 1),
        "branch7x7_1": (768, c, 1, 1),
        "branch7x7_2": (c, c, (1, 7), 1),
        "branch7x7_3": (c, 192, (7, 1), 1),
        "branch7x7dbl_1": (768, c, 1, 1),
        "branch7x7dbl_2": (c, c, (7, 1), 1),
        "branch7x7dbl_3": (c, c, (1, 7), 1),
        "branch7x7dbl_4": (c, c, (7, 1), 1),
        "branch7x7dbl_5": (c, 192, (1, 7), 1),
        "branch_pool": (768, 192, 1, 1),
    }
    chains = (("branch1x1",), _numbered("branch7x7", 3), _numbered("branch7x7dbl", 5), ("pool", "branch_pool"))
    return _Block(units, chains, "average")


def _to_8() -> _Block:
    units: Units = {
        "branch3x3_1": (768, 192, 1, 1),
        "branch3x3_2": (192, 320, 3, 2),
        "branch7x7x3_1": (768, 192, 1, 1),
        "branch7x7x3_2": (192, 192, (1, 7), 1),
        "branch7x7x3_3": (192, 192, (7, 1), 1),
        "branch7x7x3_4": (192, 192, 3, 2),
    }
    return _Block(units, (_numbered("branch3x3", 2), _numbered("branch7x7x3", 4), ("pool",)), "halving")


def _block_8(inputs: int, pool: str) -> _Block:
    units: Units = {
        "branch1x1": (inputs, 320, 1, 1),
        "branch3x3_1": (inputs, 384, 1, 1),
        "branch3x3_2a": (384, 384, (1, 3), 1),
        "branch3x3_2b": (384, 384, (3, 1), 1),
        "branch3x3dbl_1": (inputs, 448, 1, 1),
        "branch3x3dbl_2": (448, 384, 3, 1),
        "branch3x3dbl_3a": (384, 384, (1, 3), 1),
        "branch3x3dbl_3b": (384, 384, (3, 1), 1),
        "branch_pool": (inputs, 192, 1, 1),
    }
    forks = [(*beginning, f"{name}{side}") for beginning, name in _FORKS for side in "ab"]
    return _Block(units, (("branch1x1",), *forks, ("pool", "branch_pool")), pool)


_FORKS = ((("branch3x3_1",), "branch3x3_2"), (("branch3x3dbl_1", "branch3x3dbl_2"), "branch3x3dbl_3"))


def _numbered(name: str, count: int) -> tuple[str, ...]:
    return tuple(f"{name}_{number}" for number in range(1, count + 1))
