"""Decoding video files with OpenCV, frame by frame, and noticing where they are damaged."""

import math
import os
from collections.abc import Iterator
from pathlib import Path

# their own complaints would stand between our lines; we list what does not decode
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")

import cv2
import numpy as np

from frames.readers.containers import count_mp4_frames, truncation
from frames.readers.recording import BadRecording

cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)

VIDEO_SUFFIXES = (".mp4", ".avi", ".gif", ".mkv", ".webm", ".mov", ".m4v")
# 8K: a damaged header may announce a picture that fills the memory
MOST_PIXELS = 7680 * 4320
_USUAL_RATE = 20.0
# An mp4's index counts its frames; times are rounded at its cuts
_SPARE_FRAMES, _SPARE_SHARE = 2, 0.01
# Other containers only tell duration and rate, and sound videos hold down to half as many frames
_LEAST_OF_ESTIMATE = 1 / 3


def read_rate(path: Path) -> float:
    """Return a video's frames per second, 20 (MineRL's) where its header gives none; raise `BadRecording` when it does not open."""
    capture = _open(path)
    rate = capture.get(cv2.CAP_PROP_FPS)
    capture.release()
    return round(rate, 3) if math.isfinite(rate) and 0 < rate <= 1000 else _USUAL_RATE


def count_frames(path: Path) -> int | None:
    """Return about how many frames a video has, by its header; None where it gives none or the file does not open."""
    counted = count_mp4_frames(path)
    if counted is not None:
        return counted
    try:
        capture = _open(path)
    except BadRecording:
        return None
    estimate = capture.get(cv2.CAP_PROP_FRAME_COUNT)
    capture.release()
    # where it knows nothing, FFmpeg gives a large negative number
    return int(estimate) if math.isfinite(estimate) and 0 < estimate < 1e9 else None


def read_video(path: Path) -> Iterator[np.ndarray]:
    """Yield a video's frames as uint8 RGB (H, W, 3), all of the first one's size; later ones of another are scaled to it.

    Raises `BadRecording` when the file does not decode, or not to its end.
    """
    capture = _open(path)
    decoded = 0
    try:
        while True:
            ok, frame = capture.read()
            if not ok:
                break
            decoded += 1
            yield cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)
    except cv2.error as error:
        raise BadRecording(f"does not decode at frame {decoded} ({error.err})") from error
    finally:
        estimate = capture.get(cv2.CAP_PROP_FRAME_COUNT)
        capture.release()
    if decoded == 0:
        raise BadRecording("no frame decodes")
    counted = count_mp4_frames(path)
    least = estimate * _LEAST_OF_ESTIMATE if counted is None else counted - max(_SPARE_FRAMES, counted * _SPARE_SHARE)
    if decoded < least:
        raise BadRecording(f"only {decoded} of {f'about {estimate:.0f}' if counted is None else counted} frames decode")


def _open(path: Path) -> cv2.VideoCapture:
    complaint = truncation(path)
    if complaint:
        raise BadRecording(complaint)
    capture = _capture(path)
    if not capture.isOpened():
        raise BadRecording("does not open as a video")
    width, height = capture.get(cv2.CAP_PROP_FRAME_WIDTH), capture.get(cv2.CAP_PROP_FRAME_HEIGHT)
    if width * height > MOST_PIXELS:
        capture.release()
        raise BadRecording(f"announces frames of {width:.0f} x {height:.0f} pixels, larger than 8K")
    return capture


def _capture(path: Path) -> cv2.VideoCapture:
    try:
        handle = os.open(path, os.O_RDONLY)
    except OSError as error:
        raise BadRecording(f"cannot be read ({error.strerror})") from error
    try:
        # not by its name: OpenCV dies of one that is no UTF-8, and FFmpeg takes a colon for a protocol
        return cv2.VideoCapture(f"/dev/fd/{handle}", cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, 1])
    finally:
        os.close(handle)
