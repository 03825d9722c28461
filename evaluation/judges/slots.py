"""What slots look like, at every level; which of their numbers do something, and what; everything as arrays for figures of one's own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import encoders
from evaluation.judge import Judge, Numbers, at_least

if TYPE_CHECKING:
    from evaluation.evaluation import Evaluation
    from frames import FrameStore

_IN_LEVELS = 3
_ACTIVE = 0.01


@dataclass(frozen=True)
class SlotsOptions:
    images: int = 8
    """Frames in the pictures and arrays."""
    traversals: int = 2
    """Films, each of the slots of one frame."""
    dimensions: int = 10
    """Numbers shown of every slot in a film, the most active first."""
    steps: int = 8
    """Pictures of a film."""
    activeness: int = 8
    """Frames on which it is measured which numbers do something."""
    ranges: int = 100
    """Frames whose slots say from where to where a number goes."""
    refinements: int | None = None
    """Refinement steps; by default as many as the model was tested with."""

    def __post_init__(self) -> None:
        at_least("slots", self, images=1, traversals=0, dimensions=1, steps=2, activeness=1, ranges=1)
        if self.refinements is not None:
            at_least("slots", self, refinements=0)


class Slots(Judge):
    """Grids of slots, levels, films of each slot's most active numbers, how active every number is, and all of it as arrays."""

    name = "slots"
    Options = SlotsOptions

    def applies(self, model: encoders.Encoder, store: FrameStore) -> str | None:
        return None if isinstance(model, encoders.HasSlots) else "its latents are no slots"

    def judge(self, artifact: encoders.EncoderArtifact, store: FrameStore, options: SlotsOptions, out: Evaluation) -> Numbers:
        import torch

        from evaluation.activeness import Range
        from evaluation.slots import slots_of

        model = artifact.model
        assert isinstance(model, encoders.HasSlots)
        indices = out.spread_indices(max(options.ranges, options.activeness))
        # the pictures of a hundred frames at all levels are gigabytes
        means = torch.cat([part.found.means for part in slots_of(model, store, indices, out.device, options.refinements)])
        reach = Range.of(means)
        active = _activeness(model, means, reach, options.activeness, out)
        mean = active.mean(0)
        numbers = {
            "slots": means.shape[1],
            "dimensions": means.shape[2],
            "active_dimensions": int((mean >= _ACTIVE * mean.max()).sum()) if mean.max() > 0 else 0,
            "activeness": [float(f"{value:.4g}") for value in mean.tolist()],
            "traversed": _write(model, store, options, reach, active.numpy(), out),
        }
        out.say(f"{numbers['active_dimensions']} of {numbers['dimensions']} numbers of a slot change what is seen")
        return numbers


def _write(model: Any, store: FrameStore, options: SlotsOptions, reach: Any, active: Any, out: Evaluation) -> list[list[list[int]]]:
    """Write pictures, arrays and films; return which numbers each slot of each film shows."""
    import numpy as np

    from evaluation import slot_pictures
    from evaluation.blocks import THINGS, numbers_of
    from evaluation.slots import first, joined, slots_of
    from frames.scenes.masks import mask_array, masks_at

    parts = list(slots_of(model, store, out.spread_indices(options.images), out.device, options.refinements))
    indices, frames = np.concatenate([part.indices for part in parts]), np.concatenate([part.frames for part in parts])
    found, levels = joined([part.found for part in parts]), parts[0].levels
    things = numbers_of(THINGS, "blocks")
    true = masks_at(store, indices, things).masks if mask_array(store, out.split) is not None else None
    out.picture("slots", slot_pictures.slot_grid(frames, found, true))
    out.picture("slot_levels", slot_pictures.level_grid(frames[:_IN_LEVELS], first(found, _IN_LEVELS), levels))
    more = {"indices": indices, "activeness": active, **({} if true is None else {"true_masks": true})}
    slot_pictures.write_arrays(out.pictures / "slots.npz", frames, found, levels, **more)
    out.wrote(out.pictures / "slots.npz")
    shown = []
    for number in range(min(options.traversals, len(frames))):
        film = slot_pictures.Film(model, reach, out.device, options.dimensions, options.steps)
        path = out.pictures / f"slot_traversals_{number}.gif"
        shown.append(film.write(path, frames[number], found.means[number]))
        out.wrote(path)
    return shown


def _activeness(model: Any, means: Any, reach: Any, frames: int, out: Evaluation) -> Any:
    """Return how active each number of one random slot of each frame is, float (N, D)."""
    import numpy as np
    import torch

    from evaluation.activeness import activeness

    chosen = np.linspace(0, len(means) - 1, min(frames, len(means))).round().astype(int)
    slots = np.random.default_rng(0).integers(means.shape[1], size=len(chosen))
    rows = []
    with out.progress("measuring activeness", len(chosen), "frames") as advance:
        for frame, slot in zip(chosen.tolist(), slots.tolist(), strict=True):
            rows.append(activeness(model, means[frame], slot, reach, out.device))
            advance(1)
    return torch.stack(rows)
