"""Masks of what is in a frame: of a scene's objects, or of the kinds of blocks that a recording says of every pixel."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from foundation.errors import UserError
from frames.labels import SEGMENTATION
from frames.resize import resize_kinds
from frames.scenes.reading import values_at
from frames.storage.format import MASKS
from frames.store import FrameStore

WITH_MASKS = "build it from Tetrominoes, MultiDSprites or an HDF5 file with masks, or with --record segmentation"
"""What to do where a store has none, in words."""


@dataclass(frozen=True)
class ObjectMasks:
    """Which pixels belong to which of K things."""

    masks: np.ndarray
    """bool (N, K, H, W)."""
    has_background: bool
    """The first is the background, which measures of objects leave out; kinds of blocks have none."""

    @property
    def labels(self) -> np.ndarray:
        """Each pixel's thing as its place among the K, int64 (N, H, W); 0 where no mask covers it."""
        return self.masks.argmax(1)

    @property
    def foreground(self) -> np.ndarray:
        """The pixels that count where objects are measured, bool (N, H, W)."""
        return np.logical_or.reduce(self.objects, axis=1) if self.has_background else np.full_like(self.masks[:, 0], True)

    @property
    def objects(self) -> np.ndarray:
        """The masks without the background, bool (N, K or K-1, H, W)."""
        return self.masks[:, 1:] if self.has_background else self.masks


def mask_array(store: FrameStore, split: str = "all") -> str | None:
    """Return the name of the array that tells the masks of all frames of a split; None where there is none."""
    episodes = store.of_split(split)
    held = (name for name in (MASKS, SEGMENTATION) if episodes and all(name in episode.arrays for episode in episodes))
    return next(held, None)


def masks_at(store: FrameStore, indices: np.ndarray, things: Sequence[Sequence[int]] = ()) -> ObjectMasks:
    """Return the masks of frames by global index, in the frames' size.

    Of a segmentation the values that `things` names together are one thing each, in this order, and then every other value that occurs in
    these frames, ascending. Raises `UserError` without masks.
    """
    episodes = {store.episode_at(int(index)).name: store.episode_at(int(index)) for index in np.asarray(indices)}
    if all(MASKS in episode.arrays for episode in episodes.values()):
        return ObjectMasks(_sized(store, values_at(store, indices, MASKS)[..., 0] > 0), has_background=True)
    if all(SEGMENTATION in episode.arrays for episode in episodes.values()):
        kinds = _sized(store, values_at(store, indices, SEGMENTATION)[:, None])
        named = [value for thing in things for value in thing]
        each = [*things, *([value] for value in np.setdiff1d(kinds, named).tolist())]
        return ObjectMasks(np.stack([np.isin(kinds[:, 0], thing) for thing in each], 1), has_background=False)
    raise UserError(f"{store.path}: has no masks of objects; {WITH_MASKS}")


def _sized(store: FrameStore, masks_NKHW: np.ndarray) -> np.ndarray:
    """Bring masks of other recordings' sizes, as stores of before have them, to the frames'."""
    height, width, _ = store.frame_shape
    return resize_kinds(masks_NKHW.reshape(-1, *masks_NKHW.shape[2:]), (height, width), store.meta["resize"]).reshape(
        *masks_NKHW.shape[:2], height, width
    )
