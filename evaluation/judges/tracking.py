"""Whether a slot keeps to its object from frame to frame: started from the frame before, from kept noise, and from fresh noise."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import encoders
from evaluation.judge import Judge, Numbers, at_least

if TYPE_CHECKING:
    import numpy as np

    from evaluation.evaluation import Evaluation
    from evaluation.tracking import Kept, Start
    from frames import FrameStore

_SHOWN: dict[Start, str] = {"before": "frame before", "kept": "kept noise", "fresh": "fresh noise"}


@dataclass(frozen=True)
class TrackingOptions:
    clips: int = 16
    """Clips to judge on, spread over the split."""
    frames: int = 20
    """Frames of a clip, at the rate that the encoder was trained at."""
    least_pixels: int = 20
    """An object is to be seen where so many of its pixels are."""

    def __post_init__(self) -> None:
        at_least("tracking", self, clips=1, frames=2, least_pixels=1)


class Tracking(Judge):
    """How often the slot that holds an object is the one that held it a frame before, by where slots start."""

    name = "tracking"
    Options = TrackingOptions

    def applies(self, model: encoders.Encoder, store: FrameStore) -> str | None:
        from frames.scenes.masks import mask_array

        if not isinstance(model, encoders.TracksSlots):
            return "it has no slots that can start from those of the frame before"
        ordered = any(episode.ordered and episode.length > 1 for episode in store.episodes)
        return None if ordered and mask_array(store) else "the store has no recordings in order with masks of objects"

    def judge(self, artifact: encoders.EncoderArtifact, store: FrameStore, options: TrackingOptions, out: Evaluation) -> Numbers:
        import torch

        from evaluation.blocks import THINGS, numbers_of
        from evaluation.tracking import followed, held, kept
        from frames.scenes.masks import masks_at

        model = artifact.model
        assert isinstance(model, encoders.TracksSlots)
        indices = _clips(store, options, out)
        if not len(indices):
            out.say(f"tracking: no recording in '{out.split}' has two frames at the encoder's rate")
            return {"clips": 0}
        frames = store.frames(indices.ravel()).reshape(*indices.shape, *store.frame_shape)
        things = numbers_of(THINGS, "blocks")
        objects = [masks_at(store, of_clip, things).objects for of_clip in indices]
        slots, found = model.slot_starts(1).shape[1], {}
        with out.progress("following slots", indices.size * len(_SHOWN), "frames") as advance, torch.random.fork_rng():
            torch.manual_seed(0)
            for start in _SHOWN:
                owners = followed(model, frames, start, out.device, advance)
                clips = [held(*pair, slots, options.least_pixels) for pair in zip(objects, owners, strict=True)]
                found[start] = kept(clips)
        _show(found, indices.shape, slots, out)
        starts = {start: {key: value for key, value in asdict(one).items() if value == value} for start, one in found.items()}
        return {"clips": len(indices), "frames": indices.shape[1], "slots": slots, "starts": starts}


def _clips(store: FrameStore, options: TrackingOptions, out: Evaluation) -> np.ndarray:
    """Return the global indices (B, T) of clips spread over the split, as long as was asked for or as its longest recording allows."""
    import numpy as np

    import frames

    stride = out.stride(store)
    longest = max(((episode.length - 1) // step + 1 for episode, step in store.strided(out.split, stride)), default=0)
    length = min(options.frames, longest)
    if length < 2:
        return np.empty((0, 0), np.int64)
    starts = frames.side_by_side(store, out.split, length, stride)
    chosen = np.linspace(0, len(starts) - 1, min(options.clips, len(starts))).round().astype(int)
    return store.window_indices(starts[chosen], length, stride)


def _show(found: dict[Start, Kept], shape: tuple[int, ...], slots: int, out: Evaluation) -> None:
    clips, length = shape
    rows = [(_SHOWN[start], *(f"{value:.3f}" for value in (one.next_frame, one.first_frame, one.mean_iou))) for start, one in found.items()]
    title = f"How often the same one of {slots} slots holds an object: {clips} clips of {length} frames of split '{out.split}'"
    out.table(title, ("slots start from", "as a frame before", "as at first", "mIoU"), rows)
    if found["before"].count:
        shares = [f"{one.next_frame:.0%} from {'the ' if start == 'before' else ''}{_SHOWN[start]}" for start, one in found.items()]
        out.verdict(f"The slot that holds an object held it a frame before: of slots that start {', '.join(shares)}.")
