"""What a person looks at of slots: grids, levels, films of what each number does; and everything as arrays.

Shapes: N frames, L levels, K slots, D numbers of a slot, S steps, H height, W width.
"""

import colorsys
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from encoders.encoder import HasSlots, SlotsFound
from encoders.training.pictures import to_uint8
from evaluation.activeness import Range, activeness, traversal
from foundation.files import write_atomically
from foundation.pictures import picture_grid, write_gif

_SCALE = 2
_LEAST_SIDE = 64
_FILM_RATE = 4
_EMPTY = 0.85


def slot_grid(frames: np.ndarray, found: SlotsFound, true_NKHW: np.ndarray | None) -> np.ndarray:
    """Return a picture with a row a frame: itself, its true masks if there are any, its reconstruction, its masks, and every slot.

    A slot shows its colours where its mask is, on light grey.
    """
    masks, pictures = found.masks[-1], found.pictures[-1]
    shown = masks[:, :, None] * pictures + _EMPTY * (1 - masks[:, :, None])
    columns = [frames, *([] if true_NKHW is None else [coloured(torch.from_numpy(true_NKHW).float())])]
    columns += [to_uint8(found.reconstruction[-1]), coloured(masks), *_bytes(shown.movedim(1, 0))]
    true = "" if true_NKHW is None else ", true masks"
    labels = [f"frame{true}, reconstruction, masks, and {masks.shape[1]} slots"]
    return picture_grid(list(np.stack(columns, 1)), labels, _scale(frames))


def level_grid(frames: np.ndarray, found: SlotsFound, levels: Sequence[str]) -> np.ndarray:
    """Return a picture with three rows a frame: its reconstructions, masks and attention, level by level; attention blank where is none."""
    size = frames.shape[1:3]
    restored = np.stack([to_uint8(level) for level in found.reconstruction], 1)
    masks = np.stack([coloured(level) for level in found.masks], 1)
    attended = [found.attention[number] if number < len(found.attention) else None for number in range(len(levels))]
    blank = np.full_like(frames, 255)
    attention = np.stack([blank if level is None else coloured(_shares(level), size) for level in attended], 1)
    rows, labels = [], []
    for number, frame in enumerate(frames):
        rows += [np.concatenate([frame[None], part[number]]) for part in (restored, masks, attention)]
        labels += [f"frame, and reconstructions: {', '.join(levels)}", "masks", "attention"]
    return picture_grid(rows, labels, _scale(frames))


@dataclass(frozen=True)
class Film:
    """A film of what the numbers of a frame's slots do: a row a slot, one picture for each of its most active numbers in motion."""

    model: HasSlots
    reach: Range
    device: torch.device
    dimensions: int
    """Numbers shown of every slot."""
    steps: int
    """Pictures of the film, from one end of a number's range to the other."""

    def write(self, path: Path, frame: np.ndarray, means_KD: Tensor) -> list[list[int]]:
        """Write the film of a frame uint8 (H, W, 3), which begins every row; return the numbers shown of each slot, most active first."""
        rows, chosen = [], []
        for slot in range(len(means_KD)):
            # the ends of the range are enough to choose by
            order = activeness(self.model, means_KD, slot, self.reach, self.device, steps=2).argsort(descending=True, stable=True)
            chosen.append(order[: self.dimensions].tolist())
            rows.append(_bytes(traversal(self.model, means_KD, slot, chosen[-1], self.reach, self.steps, self.device)))
        labels = [f"slot {slot + 1}: {', '.join(map(str, numbers))}" for slot, numbers in enumerate(chosen)]
        still = frame[None]
        film = [picture_grid([np.concatenate([still, row[:, step]]) for row in rows], labels, _scale(still)) for step in range(self.steps)]
        write_gif(path, np.stack(film), _FILM_RATE)
        return chosen


def write_arrays(path: Path, frames: np.ndarray, found: SlotsFound, levels: Sequence[str], **more: np.ndarray) -> None:
    """Write frames and slots as .npz without objects, lists stacked over levels; `attention_levels` says which have attention."""
    attention = {name: level for name, level in zip(levels, found.attention, strict=False) if level is not None}
    arrays = {
        "frames": frames,
        "levels": np.array(levels),
        "masks": _stacked(found.masks),
        "pictures": _stacked(found.pictures),
        "reconstruction": _stacked(found.reconstruction),
        "means": found.means.numpy(),
        "deviations": found.deviations.numpy(),
        "kl": found.kl.numpy(),
        "attention_levels": np.array(list(attention), dtype=np.str_),
        **({"attention": _stacked(list(attention.values()))} if attention else {}),
        **({"logits": _stacked(found.logits)} if found.logits else {}),
        **more,
    }
    content = io.BytesIO()
    np.savez_compressed(content, allow_pickle=False, **arrays)
    write_atomically(path, content.getvalue())


def coloured(masks_NKHW: Tensor, size: tuple[int, int] | None = None) -> np.ndarray:
    """Return masks in [0, 1] as uint8 (N, H, W, 3), each slot in a colour of its own, mixed where several share a pixel."""
    count = masks_NKHW.shape[1]
    hues = [colorsys.hsv_to_rgb(number / count, 0.85, 1.0 if number % 2 else 0.7) for number in range(count)]
    mixed = torch.einsum("nkhw,kc->nchw", masks_NKHW, torch.tensor(hues))
    if size is not None and mixed.shape[2:] != size:
        mixed = torch.nn.functional.interpolate(mixed, size, mode="nearest")
    return to_uint8(mixed.clamp(0, 1))


def _shares(attention_NKhw: Tensor) -> Tensor:
    """Turn attention into each slot's share of a pixel, which sums to 1 whatever it was divided by."""
    return attention_NKhw / attention_NKhw.sum(1, keepdim=True).clamp_min(1e-12)


def _bytes(pictures: Tensor) -> np.ndarray:
    """Turn float pictures (..., 3, H, W) in [0, 1] into uint8 (..., H, W, 3)."""
    flat = to_uint8(pictures.flatten(0, -4))
    return flat.reshape(*pictures.shape[:-3], *flat.shape[1:])


def _stacked(levels: Sequence[Tensor]) -> np.ndarray:
    return torch.stack(list(levels)).numpy()


def _scale(frames: np.ndarray) -> int:
    return max(1, _SCALE * _LEAST_SIDE // min(frames.shape[1:3]))
