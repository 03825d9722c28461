"""LPIPS and FVD, for users who supply the networks' weights; neither ships with this program.

LPIPS (Zhang et al. 2018, version 0.1, AlexNet): `alexnet.pth` as torchvision publishes it and `lpips.pth` with the five linear heads. FVD
(Unterthiner et al. 2018): `i3d.pth`, Inception-v1 inflated and trained on Kinetics-400 (Carreira and Zisserman 2017), with the names of
its PyTorch port. Each file may also be a `.safetensors`.
Shapes: N frames, B clips, T frames of a clip, C channels, H height, W width, D features.
"""

from collections.abc import Iterable
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from foundation.errors import UserError

_ALEXNET = ((3, 64, 11, 4, 2), (64, 192, 5, 1, 2), (192, 384, 3, 1, 1), (384, 256, 3, 1, 1), (256, 256, 3, 1, 1))
_POOLED_BEFORE = (1, 2)
_PLACES = (0, 3, 6, 8, 10)
_SHIFT, _SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)
_INCEPTION = {
    "Mixed_3b": (192, (64, 96, 128, 16, 32, 32)),
    "Mixed_3c": (256, (128, 128, 192, 32, 96, 64)),
    "Mixed_4b": (480, (192, 96, 208, 16, 48, 64)),
    "Mixed_4c": (512, (160, 112, 224, 24, 64, 64)),
    "Mixed_4d": (512, (128, 128, 256, 24, 64, 64)),
    "Mixed_4e": (512, (112, 144, 288, 32, 64, 64)),
    "Mixed_4f": (528, (256, 160, 320, 32, 128, 128)),
    "Mixed_5b": (832, (256, 160, 320, 32, 128, 128)),
    "Mixed_5c": (832, (384, 192, 384, 48, 128, 128)),
}
_LEAST_CLIP = 16
_SIDE = 224


class LPIPS(nn.Module):
    """Perceptual distance of frames (N, 3, H, W) in [0, 1]: 0 for equal ones. `weights` holds `alexnet` and `lpips`."""

    def __init__(self, weights: Path) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Conv2d(*layer) for layer in _ALEXNET)
        self.heads = nn.ParameterList(torch.empty(1, layer[1], 1, 1) for layer in _ALEXNET)
        alexnet, heads = read_weights(weights, "alexnet"), read_weights(weights, "lpips")
        found = {}
        for number, place in enumerate(_PLACES):
            found[f"layers.{number}.weight"] = alexnet.get(f"features.{place}.weight")
            found[f"layers.{number}.bias"] = alexnet.get(f"features.{place}.bias")
            found[f"heads.{number}"] = heads.get(f"lin{number}.model.1.weight")
        load_weights(self, found, weights)

    def forward(self, x_NCHW: Tensor, y_NCHW: Tensor) -> Tensor:
        """Return the distance (N) of every pair."""
        total = torch.zeros(len(x_NCHW), device=x_NCHW.device)
        shift, scale = (x_NCHW.new_tensor(numbers)[:, None, None] for numbers in (_SHIFT, _SCALE))
        both = (torch.cat([x_NCHW, y_NCHW]) * 2 - 1 - shift) / scale
        for number, (layer, head) in enumerate(zip(self.layers, self.heads, strict=True)):
            both = F.relu(layer(F.max_pool2d(both, 3, 2) if number in _POOLED_BEFORE else both))
            x, y = F.normalize(both, dim=1, eps=1e-10).chunk(2)
            total = total + F.conv2d((x - y).square(), head).mean((1, 2, 3))
        return total


class I3D(nn.Module):
    """Clips (B, T, 3, H, W) in [0, 1], of 16 frames or more, to the 400 logits of Kinetics. `weights` holds `i3d`."""

    def __init__(self, weights: Path) -> None:
        super().__init__()
        self.Conv3d_1a_7x7 = _Unit(3, 64, 7, 2)
        self.Conv3d_2b_1x1 = _Unit(64, 64)
        self.Conv3d_2c_3x3 = _Unit(64, 192, 3)
        for name, (inputs, widths) in _INCEPTION.items():
            self.add_module(name, _Inception(inputs, widths))
        self.logits = _Unit(1024, 400, normalised=False)
        load_weights(self, dict(read_weights(weights, "i3d")), weights)
        self.eval()

    def forward(self, x_BTCHW: Tensor) -> Tensor:
        if x_BTCHW.shape[1] < _LEAST_CLIP:
            raise UserError(f"FVD needs clips of at least {_LEAST_CLIP} frames, got {x_BTCHW.shape[1]}")
        x = F.interpolate(x_BTCHW.flatten(0, 1), (_SIDE, _SIDE), mode="bilinear", align_corners=False)
        x = x.unflatten(0, x_BTCHW.shape[:2]).transpose(1, 2) * 2 - 1
        x = _pool(self.Conv3d_1a_7x7(x), (1, 3, 3), (1, 2, 2))
        x = _pool(self.Conv3d_2c_3x3(self.Conv3d_2b_1x1(x)), (1, 3, 3), (1, 2, 2))
        for name in _INCEPTION:
            if name == "Mixed_4b":
                x = _pool(x, (3, 3, 3), (2, 2, 2))
            elif name == "Mixed_5b":
                x = _pool(x, (2, 2, 2), (2, 2, 2))
            x = self.get_submodule(name)(x)
        x = F.avg_pool3d(x, (min(2, x.shape[2]), 7, 7), stride=1)
        return self.logits(x).mean((2, 3, 4))


class _Unit(nn.Module):
    def __init__(self, inputs: int, outputs: int, kernel: int = 1, stride: int = 1, normalised: bool = True) -> None:
        super().__init__()
        self.kernel, self.stride = (kernel,) * 3, (stride,) * 3
        self.conv3d = nn.Conv3d(inputs, outputs, kernel, stride, bias=not normalised)
        self.bn = nn.BatchNorm3d(outputs, eps=1e-3) if normalised else None

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv3d(_same(x, self.kernel, self.stride))
        return x if self.bn is None else F.relu(self.bn(x))


class _Inception(nn.Module):
    """Four branches side by side: 1x1; 1x1 and 3x3, twice; pooling and 1x1."""

    def __init__(self, inputs: int, widths: tuple[int, ...]) -> None:
        super().__init__()
        self.b0 = _Unit(inputs, widths[0])
        self.b1a, self.b1b = _Unit(inputs, widths[1]), _Unit(widths[1], widths[2], 3)
        self.b2a, self.b2b = _Unit(inputs, widths[3]), _Unit(widths[3], widths[4], 3)
        self.b3b = _Unit(inputs, widths[5])

    def forward(self, x: Tensor) -> Tensor:
        pooled = _pool(x, (3, 3, 3), (1, 1, 1))
        return torch.cat([self.b0(x), self.b1b(self.b1a(x)), self.b2b(self.b2a(x)), self.b3b(pooled)], 1)


@torch.no_grad()
def perceptual_distances(weights: Path, pairs: Iterable[tuple[Tensor, Tensor]], device: torch.device) -> dict[str, float | list[float]]:
    """Return "lpips" by frame ahead and "fvd" over pairs of real and predicted clips (B, T, 3, H, W) in [0, 1].

    Each is there when the folder has its weights; raises `UserError` when it has neither.
    """
    lpips = LPIPS(weights).to(device) if has_weights(weights, "alexnet") or has_weights(weights, "lpips") else None
    i3d = I3D(weights).to(device) if has_weights(weights, "i3d") else None
    if lpips is None and i3d is None:
        raise UserError(f"{weights}: holds neither alexnet.pth and lpips.pth (LPIPS) nor i3d.pth (FVD)")
    distances: list[Tensor] = []
    features: tuple[list[Tensor], list[Tensor]] = ([], [])
    for x_BTCHW, y_BTCHW in pairs:
        for x_TCHW, y_TCHW in zip(x_BTCHW, y_BTCHW, strict=True):
            if lpips is not None:
                distances.append(lpips(x_TCHW, y_TCHW).cpu())
            if i3d is not None:
                for found, clip in zip(features, (x_TCHW, y_TCHW), strict=True):
                    found.append(i3d(clip[None]).cpu())
    measured: dict[str, float | list[float]] = {}
    if lpips is not None:
        measured["lpips"] = torch.stack(distances).mean(0).tolist()
    if i3d is not None:
        measured["fvd"] = frechet_distance(*(torch.cat(found) for found in features))
    return measured


def frechet_distance(x_ND: Tensor, y_ND: Tensor) -> float:
    """Return |mu_x - mu_y|^2 + tr(S_x + S_y - 2 (S_x S_y)^(1/2)) of two sets of features; both need two or more."""
    x, y = x_ND.double(), y_ND.double()
    covariances = [torch.cov(features.T) for features in (x, y)]
    # tr (S_x S_y)^(1/2) is the nuclear norm of S_x^(1/2) S_y^(1/2), which needs no root of an unsymmetric matrix
    roots = [_root(covariance) for covariance in covariances]
    shared = torch.linalg.matrix_norm(roots[0] @ roots[1], "nuc")
    distance = (x.mean(0) - y.mean(0)).square().sum() + covariances[0].trace() + covariances[1].trace() - 2 * shared
    return float(distance.clamp_min(0))


def read_weights(folder: Path, name: str) -> dict[str, Tensor]:
    """Read `name`.safetensors or `name`.pth in a folder of weights; raise `UserError` where there is neither, or it is no state dict."""
    try:
        if (folder / f"{name}.safetensors").exists():
            return load_file(folder / f"{name}.safetensors")
        found = torch.load(folder / f"{name}.pth", map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise UserError(f"{folder}: no {name}.pth or {name}.safetensors; put the published weights there") from None
    except Exception as error:
        raise UserError(f"{folder / name}: not a file of weights ({' '.join(str(error).split())[:200]})") from error
    if not isinstance(found, dict) or not all(isinstance(value, Tensor) for value in found.values()):
        raise UserError(f"{folder / name}.pth: not a state dict: names and tensors")
    return found


def has_weights(folder: Path, name: str) -> bool:
    """Tell whether a folder of weights has `name`.safetensors or `name`.pth."""
    return any((folder / f"{name}.{suffix}").exists() for suffix in ("safetensors", "pth"))


def load_weights(module: nn.Module, found: dict[str, Tensor | None], folder: Path) -> None:
    """Give a network the weights `found` by name, frozen; raise `UserError` that names the first that is missing or of another shape."""
    wanted = module.state_dict()
    for name, tensor in wanted.items():
        value = found.get(name)
        if value is None or value.shape != tensor.shape:
            got = "missing" if value is None else f"of shape {tuple(value.shape)}"
            raise UserError(f"{folder}: the weights of '{name}' are {got}, {tuple(tensor.shape)} is wanted; these are of another network")
    module.load_state_dict({name: found[name] for name in wanted})
    module.requires_grad_(False)


def _root(covariance: Tensor) -> Tensor:
    values, vectors = torch.linalg.eigh(covariance)
    return (vectors * values.clamp_min(0).sqrt()) @ vectors.T


def _same(x: Tensor, kernel: tuple[int, ...], stride: tuple[int, ...]) -> Tensor:
    """Pad so that ceil(size / stride) places come out, the odd one at the end, as the network was trained."""
    padding: list[int] = []
    for size, k, s in zip(reversed(x.shape[2:]), reversed(kernel), reversed(stride), strict=True):
        missing = max(k - s if size % s == 0 else k - size % s, 0)
        padding += [missing // 2, missing - missing // 2]
    return F.pad(x, padding)


def _pool(x: Tensor, kernel: tuple[int, ...], stride: tuple[int, ...]) -> Tensor:
    return F.max_pool3d(_same(x, kernel, stride), kernel, stride)
