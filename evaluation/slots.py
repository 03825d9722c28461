"""What a model's slots are of frames, as arrays.

Shapes: N frames, L levels, K slots, D numbers of a slot, H height, W width.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from encoders.encoder import HasSlots, SlotsFound, to_float
from frames import FrameStore

_AT_ONCE = 8


@dataclass(frozen=True)
class FrameSlots:
    """Some frames of a store and their slots."""

    indices: np.ndarray
    """Global indices of the frames (N,)."""
    frames: np.ndarray
    """uint8 (N, H, W, 3)."""
    found: SlotsFound
    """On the CPU, in float32."""

    @property
    def levels(self) -> list[str]:
        """The levels in words."""
        return self.found.levels or [f"level {number}" for number in range(1, len(self.found.masks) + 1)]

    def labels(self, level: int) -> np.ndarray:
        """Return which slot each pixel belongs to most, int64 (N, H, W)."""
        return self.found.masks[level].argmax(1).numpy()

    def squared_error(self, level: int) -> np.ndarray:
        """Return the squared error of the reconstructions, a pixel and channel, float64 (N,)."""
        restored = self.found.reconstruction[level].movedim(1, -1).double().numpy()
        return np.square(restored - self.frames / 255).mean((1, 2, 3))


def slots_of(
    model: HasSlots, store: FrameStore, indices: np.ndarray, device: torch.device, refinements: int | None = None
) -> Iterator[FrameSlots]:
    """Yield the slots of frames by global index, some frames at a time."""
    for start in range(0, len(indices), _AT_ONCE):
        part = indices[start : start + _AT_ONCE]
        frames = store.frames(part)
        with torch.no_grad():
            yield FrameSlots(part, frames, _on_cpu(model.slots(to_float(torch.from_numpy(frames)).to(device), refinements)))


def decoded(model: HasSlots, z_NKD: Tensor, device: torch.device) -> Tensor:
    """Return the frames (N, 3, H, W) that slots make together, on the CPU."""
    parts = []
    with torch.no_grad():
        for z in z_NKD.split(_AT_ONCE):
            pictures, masks = model.decode_slots(z.to(device))
            parts.append((pictures * masks[:, :, None]).sum(1).float().cpu())
    return torch.cat(parts)


def joined(parts: Sequence[SlotsFound]) -> SlotsFound:
    """Return the slots of several batches of frames as one."""
    return _changed(parts, torch.cat)


def first(found: SlotsFound, count: int) -> SlotsFound:
    """Return the slots of the first frames."""
    return _changed([found], lambda tensors: tensors[0][:count])


def _on_cpu(found: SlotsFound) -> SlotsFound:
    return _changed([found], lambda tensors: tensors[0].detach().float().cpu())


def _changed(parts: Sequence[SlotsFound], change: Callable[[list[Tensor]], Tensor]) -> SlotsFound:
    """Return slots whose every tensor is made by `change` from those that the parts have in its place."""

    def levels(name: str) -> list[Any]:
        together = zip(*(getattr(part, name) for part in parts), strict=True)
        return [None if level[0] is None else change(list(level)) for level in together]

    return SlotsFound(
        masks=levels("masks"),
        pictures=levels("pictures"),
        reconstruction=levels("reconstruction"),
        means=change([part.means for part in parts]),
        deviations=change([part.deviations for part in parts]),
        kl=change([part.kl for part in parts]),
        attention=levels("attention"),
        logits=levels("logits"),
        levels=parts[0].levels,
    )
