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


def resize_masks(masks: np.ndarray, size: tuple[int, int], mode: str = "squash") -> np.ndarray:
    """Resize masks (N, K, H, W) of frames as `resize_frames` does those, each pixel the nearest of before."""
    if mode == "crop" and masks.shape[2:] != tuple(size):
        masks = np.moveaxis(_centre(np.moveaxis(masks, 1, -1), size[0] / size[1]), -1, 1)
    rows, columns = (_nearest(before, after) for before, after in zip(masks.shape[2:], size, strict=True))
    return masks[:, :, rows[:, None], columns]


def _nearest(before: int, after: int) -> np.ndarray:
    """Return which of `before` pixels lies under the middle of each of `after`."""
    return (2 * np.arange(after) + 1) * before // (2 * after)


def _centre(frames: np.ndarray, ratio: float) -> np.ndarray:
    """Cut the largest centred part of frames (N, H, W, C) whose height / width is `ratio`."""
    height, width = frames.shape[1:3]
    kept_height = min(height, max(1, round(width * ratio)))
    kept_width = min(width, max(1, round(height / ratio)))
    top, left = (height - kept_height) // 2, (width - kept_width) // 2
    return frames[:, top : top + kept_height, left : left + kept_width]
