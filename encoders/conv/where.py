"""Readings that say where: maps of the last features, read as points or kept as a map of evidence.

Shapes: N frames, C channels of features, H height, W width of the maps, M maps.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from encoders.encoder import EVIDENCE_OFFSET


class Where(nn.Module):
    """Read features (N, C, H, W) by 1x1 convolutions, as `points` of so many maps and as a map of `evidence`.

    The readings: `points` (3 M,), of each map where its mass is, x and y in [-1, 1], and how much (`points_of`); `evidence` (H W,), a
    map's numbers row by row. Where there are both, `both` is the two side by side.
    """

    def __init__(self, channels: int, size: tuple[int, int], points: int, evidence: bool) -> None:
        super().__init__()
        self.size = size
        self.point_maps = nn.Conv2d(channels, points, 1) if points else None
        self.evidence_map = nn.Conv2d(channels, 1, 1) if evidence else None
        shapes = {"points": 3 * points, "evidence": size[0] * size[1] if evidence else 0}
        self.latents = {name: (numbers,) for name, numbers in shapes.items() if numbers}
        if len(self.latents) == 2:
            self.latents["both"] = (sum(shapes.values()),)

    def forward(self, features_NCHW: Tensor, names: list[str]) -> dict[str, Tensor]:
        """Return some of the readings by name, float32 under autocast too."""
        found = {}
        if self.point_maps is not None and {"points", "both"} & set(names):
            maps = self.point_maps(features_NCHW).float()
            with torch.autocast(maps.device.type, enabled=False):
                found["points"] = points_of(maps)
        if self.evidence_map is not None and {"evidence", "both"} & set(names):
            found["evidence"] = self.evidence_map(features_NCHW).float().flatten(1)
        if "both" in names:
            found["both"] = torch.cat([found["points"], found["evidence"]], 1)
        return {name: found[name] for name in names if name in found}

    def mask(self, evidence_NE: Tensor, height: int, width: int) -> Tensor:
        """Return what each place's evidence alone would come to as a value: (N, height, width) in [0, 1], between places linear."""
        mask_N1HW = torch.sigmoid(evidence_NE - EVIDENCE_OFFSET).unflatten(1, (1, *self.size))
        return F.interpolate(mask_N1HW, (height, width), mode="bilinear", align_corners=False)[:, 0]


def points_of(maps_NMHW: Tensor) -> Tensor:
    """Return (N, 3 M): the mean place of each map's softmax, all x, then all y, in [-1, 1], then all log-sum-exps (Finn et al. 2016).

    -1 is the first column's or row's middle, 1 the last one's.
    """
    height, width = maps_NMHW.shape[2:]
    flat = maps_NMHW.flatten(2)
    mass = flat.softmax(2)
    x = torch.linspace(-1, 1, width, device=flat.device, dtype=flat.dtype).repeat(height)
    y = torch.linspace(-1, 1, height, device=flat.device, dtype=flat.dtype).repeat_interleave(width)
    return torch.cat([mass @ x, mass @ y, flat.logsumexp(2)], 1)
