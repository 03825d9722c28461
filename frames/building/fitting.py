"""How frames, and the masks of what is in them, come to the size of a store."""

from dataclasses import dataclass

import numpy as np

from foundation.errors import UserError
from frames.readers import BadRecording
from frames.resize import ResizeMode, resize_frames, resize_kinds

Window = tuple[int, int, int, int]
"""A part of a picture: its first row and column, its height and width."""


@dataclass(frozen=True)
class Fitting:
    """Cut `window` out of every frame, if there is one, then resize it to `size` = (H, W)."""

    size: tuple[int, int]
    resize: ResizeMode = "squash"
    window: Window | None = None

    def __post_init__(self) -> None:
        if self.window is not None and (min(self.window[:2]) < 0 or min(self.window[2:]) < 1):
            given = " ".join(map(str, self.window))
            raise UserError(f"window {given}: give its first row and column, 0 or more, then its height and width, 1 or more")

    def frame(self, frame: np.ndarray) -> np.ndarray:
        """Return a frame uint8 (H, W, 3) in the store's size; raise `BadRecording` where the window is not all in it."""
        frame = self._cut(frame, 0)
        return frame if frame.shape[:2] == tuple(self.size) else resize_frames(frame[None], self.size, self.resize)[0]

    def masks(self, masks: np.ndarray) -> np.ndarray:
        """Return masks (F, K, H, W, 1) of frames in the store's size, each pixel the nearest of before."""
        kinds, (height, width) = self._cut(masks, 2), self.size
        resized = resize_kinds(kinds.reshape(-1, *kinds.shape[2:4]), (height, width), self.resize)
        return resized.reshape(*kinds.shape[:2], height, width, 1)

    def _cut(self, pixels: np.ndarray, axis: int) -> np.ndarray:
        """Cut the window out of pixels whose rows are along `axis`, and their columns along the next."""
        if self.window is None:
            return pixels
        top, left, height, width = self.window
        rows, columns = pixels.shape[axis : axis + 2]
        if top + height > rows or left + width > columns:
            bounds = f"rows {top} to {top + height - 1} and columns {left} to {left + width - 1}"
            raise BadRecording(f"its frames of {columns} x {rows} do not have all of the window, {bounds}")
        return pixels[(slice(None),) * axis + (slice(top, top + height), slice(left, left + width))]
