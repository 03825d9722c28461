"""What a person looks at: originals over reconstructions, samples, traversals.

Shapes: N frames, T frames of a clip, C channels, H height, W width.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from encoders.encoder import Decodes, DrawsReconstructions, Encoder, Generates, to_float
from encoders.heads.attached import heads_of, own_is_trained
from encoders.heads.pictures import heads_picture
from encoders.scaling import Statistics
from encoders.training.validation import to_batch
from foundation.pictures import in_rows, picture_grid, write_png

_COLUMNS = 10
_ROWS = 3
_UNITS = 8
_SCALE = 2
_FRAMES_AT_ONCE = 512


@dataclass(frozen=True)
class ShownClips:
    """Clips uint8 (N, T, H, W, C) to show, the actions float32 (N, T, A) that led to each frame, or None, and the labels (N, T, ...)."""

    frames: np.ndarray
    actions: np.ndarray | None = None
    targets: dict[str, np.ndarray] = field(default_factory=dict)

    def __getitem__(self, rows: slice | np.ndarray) -> "ShownClips":
        targets = {name: target[rows] for name, target in self.targets.items()}
        return ShownClips(self.frames[rows], None if self.actions is None else self.actions[rows], targets)


def spread_clips(batches: Iterable[Any], count: int = _COLUMNS * _ROWS) -> ShownClips:
    """Choose `count` clips at equal distances from finite batches."""
    some = [ShownClips(batch.frames, batch.actions, getattr(batch, "targets", {}))[slice(0, None, 4)] for batch in batches]
    actions = [part.actions for part in some if part.actions is not None]
    targets = {name: np.concatenate([part.targets[name] for part in some]) for name in some[0].targets}
    clips = ShownClips(np.concatenate([part.frames for part in some]), np.concatenate(actions) if actions else None, targets)
    return clips[np.unique(np.linspace(0, len(clips.frames) - 1, count).round().astype(int))]


@torch.no_grad()
def reconstructions(model: Generates, clips: ShownClips, device: torch.device) -> np.ndarray:
    """Return a picture with rows of originals, each over its reconstructions (the middle frame of each clip)."""
    length = clips.frames.shape[1]
    size, middle = max(1, _FRAMES_AT_ONCE // length), length // 2
    parts = (to_batch(clips[slice(start, start + size)], device) for start in range(0, len(clips.frames), size))
    restored = torch.cat([model.reconstruct(part.frames, part.actions)[:, middle] for part in parts])
    shown = [clips.frames[:, middle], to_uint8(restored)]
    labels = ["frames over their reconstructions"]
    if isinstance(model, DrawsReconstructions):
        torch.manual_seed(0)
        parts = (to_batch(clips[slice(start, start + size)], device) for start in range(0, len(clips.frames), size))
        shown.append(to_uint8(torch.cat([model.reconstruct_sample(part.frames)[:, middle] for part in parts])))
        labels = ["frames", "expected images", "images drawn, latents and pixels"] * (len(clips.frames) // _COLUMNS + 1)
    rows = [row for together in zip(*(in_rows(frames, _COLUMNS) for frames in shown), strict=True) for row in together]
    return picture_grid(rows, labels, scale=_SCALE)


@torch.no_grad()
def samples(model: Generates, seed: int = 0) -> np.ndarray:
    """Return a picture of frames drawn from the prior."""
    torch.manual_seed(seed)
    drawn = model.sample(_COLUMNS * _ROWS)
    return picture_grid(in_rows(to_uint8(drawn[:, drawn.shape[1] // 2]), _COLUMNS), ["samples from the prior"], scale=_SCALE)


@torch.no_grad()
def traversals(model: Encoder, frame: np.ndarray, statistics: Statistics, device: torch.device) -> np.ndarray | None:
    """Return a picture with a row for each of the units that carry most: one frame (H, W, C), that unit from -3 to 3 deviations.

    None for a model that cannot decode its latents.
    """
    if not (isinstance(model, Decodes) and isinstance(model, Generates)):
        return None
    x_1CHW = to_float(torch.from_numpy(np.ascontiguousarray(frame)[None]).to(device))
    latent, _ = model.encode(x_1CHW, model.initial_state(1), None, model.decoded_reading)
    reading, kl = next(iter(model.kl_per_unit(x_1CHW[:, None]).items()))
    units = kl.flatten().argsort(descending=True)[:_UNITS].tolist()
    mean, deviation = (one.flatten().to(device) for one in statistics[reading][:2])
    rows, labels = [], []
    for unit in units:
        varied = latent.flatten(1).repeat(_COLUMNS, 1)
        varied[:, unit] = mean[unit] + deviation[unit] * torch.linspace(-3, 3, _COLUMNS, device=device)
        rows.append(to_uint8(model.decode(varied.view(-1, *latent.shape[1:]))))
        labels.append(f"unit {unit} from -3 to 3 deviations (KL {float(kl.flatten()[unit]):.1f} nats for this frame)")
    return picture_grid(rows, labels, scale=_SCALE)


def write_pictures(
    folder: Path, model: Encoder, clips: ShownClips, statistics: Statistics, device: torch.device
) -> list[Path]:
    """Write all pictures of a model as PNG into `folder` and return their paths: those of frames given back where it learned to, of heads.

    Heads are drawn where the clips have the labels that they are trained on.
    """
    pictures: dict[str, np.ndarray | None] = {}
    if own_is_trained(model) and isinstance(model, Generates):
        frame = clips.frames[len(clips.frames) // 2, clips.frames.shape[1] // 2]
        pictures["reconstructions"] = reconstructions(model, clips, device)
        pictures["samples"] = samples(model)
        pictures["traversals"] = traversals(model, frame, statistics, device)
    if heads_of(model) is not None and clips.targets:
        pictures["heads"] = heads_picture(model, to_batch(clips, device))
    shown = {folder / f"{name}.png": picture for name, picture in pictures.items() if picture is not None}
    for path, picture in shown.items():
        write_png(path, picture)
    return list(shown)


def to_uint8(frames: Tensor) -> np.ndarray:
    """Turn float frames (N, C, H, W) in [0, 1] into uint8 (N, H, W, C)."""
    return frames.float().clamp(0, 1).mul(255).round().byte().movedim(1, -1).cpu().numpy()
