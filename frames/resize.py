"""The one resize function: for building stores and for the frames an agent sees."""

from typing import Literal, get_args

import cv2
import numpy as np

from foundation.errors import UserError, nearest

ResizeMode = Literal["squash", "crop"]


def resize_frames(frames: np.ndarray, size: tuple[int, int], mode: str = "squash") -> np.ndarray:
    """Resize uint8 frames (N, H, W, C) to `size` = (H, W), by area averaging where they shrink.

    "squash" changes the aspect ratio; "crop" first cuts the centre to the ratio of `size`. Frames that already fit are
    returned as they are.
    """
    if mode not in get_args(ResizeMode):
        raise UserError(f"no resize mode '{mode}': {nearest(mode, get_args(ResizeMode))}")
    height, width = size
    if frames.shape[1:3] == (height, width):
        return frames
    if mode == "crop":
        frames = _centre(frames, height / width)
    shrinks = frames.shape[1] >= height and frames.shape[2] >= width
    # INTER_AREA repeats pixels when it enlarges
    interpolation = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    resized = np.empty((len(frames), height, width, frames.shape[3]), np.uint8)
    for index, frame in enumerate(frames):
        result = cv2.resize(np.ascontiguousarray(frame), (width, height), interpolation=interpolation)
        resized[index] = result.reshape(resized.shape[1:])
    return resized


def resize_kinds(kinds: np.ndarray, size: tuple[int, int], mode: str = "squash") -> np.ndarray:
    """Resize what pixels show, uint8 (N, H, W), as `resize_frames` does the frames: each pixel takes the number nearest to its centre."""
    height, width = size
    if mode == "crop" and kinds.shape[1:] != size:
        kinds = _centre(kinds, height / width)
    rows, columns = (((np.arange(wanted) + 0.5) * had / wanted).astype(np.int64) for wanted, had in zip(size, kinds.shape[1:], strict=True))
    return kinds[:, rows[:, None], columns]


def _centre(frames: np.ndarray, ratio: float) -> np.ndarray:
    """Cut the largest centred part of frames (N, H, W, ...) whose height / width is `ratio`."""
    height, width = frames.shape[1:3]
    kept_height = min(height, max(1, round(width * ratio)))
    kept_width = min(width, max(1, round(height / ratio)))
    top, left = (height - kept_height) // 2, (width - kept_width) // 2
    return frames[:, top : top + kept_height, left : left + kept_width]
