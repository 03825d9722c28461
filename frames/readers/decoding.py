"""Decoding video files with OpenCV, frame by frame, and noticing where they are damaged."""

import math
import os
from collections.abc import Iterator
from pathlib import Path

# their own complaints would stand between our lines; we list what does not decode
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")

import cv2
import numpy as np

from frames.readers.containers import Listing, look
from frames.readers.recording import BadRecording

cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)

VIDEO_SUFFIXES = (".mp4", ".avi", ".gif", ".mkv", ".webm", ".mov", ".m4v")
# 8K: a damaged header may announce a picture that fills the memory
MOST_PIXELS = 7680 * 4320
_USUAL_RATE, _FASTEST = 20.0, 1000.0
# A structure counts its frames; at an mp4's cuts times are rounded
_SPARE_FRAMES, _SPARE_SHARE = 2, 0.01
# A header's rate and the times of frames that differ by less say the same
_SAME_RATE = 0.01


def read_rate(path: Path) -> float:
    """Return a video's frames per second; raise `BadRecording` when it does not open.

    Where the rate in its header is not that of the times at which its frames are shown, it is that of the times: a recorder that drops
    repeated frames writes any rate. 20 (MineRL's) where neither tells.
    """
    capture, listing = _open(path)
    told = capture.get(cv2.CAP_PROP_FPS)
    capture.release()
    told = told if math.isfinite(told) and 0 < told <= _FASTEST else 0.0
    interval = listing.interval()
    if interval is None:
        return round(told, 3) or _USUAL_RATE
    rounding = listing.resolution / max(1, len(listing.times) - 1) if listing.times is not None else 0.0
    if not told or abs(1 / told - interval) > _SAME_RATE * interval + rounding:
        told = 1 / interval
    return round(told, 3) if told <= _FASTEST else _USUAL_RATE


def count_frames(path: Path) -> int | None:
    """Return how many frames a video lists, or about how many by its header; None where neither tells or the file does not open."""
    listing = look(path)
    if listing.times is not None:
        return len(listing.times)
    try:
        capture, _ = _open(path)
    except BadRecording:
        return None
    estimate = capture.get(cv2.CAP_PROP_FRAME_COUNT)
    capture.release()
    # where it knows nothing, FFmpeg gives a large negative number
    return int(estimate) if math.isfinite(estimate) and 0 < estimate < 1e9 else None


def read_video(path: Path) -> Iterator[np.ndarray]:
    """Yield a video's frames as uint8 RGB (H, W, 3), all of the first one's size; later ones of another are scaled to it.

    Raises `BadRecording` when the file does not decode, or less of it than its structure lists.
    """
    capture, listing = _open(path)
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
        capture.release()
    if decoded == 0:
        raise BadRecording("no frame decodes")
    if listing.times is not None:
        listed = len(listing.times)
        if decoded < listed - listing.doubtful - max(_SPARE_FRAMES, listed * _SPARE_SHARE):
            raise BadRecording(f"only {decoded} of {listed} frames decode")


def _open(path: Path) -> tuple[cv2.VideoCapture, Listing]:
    listing = look(path)
    if listing.damage:
        raise BadRecording(listing.damage)
    capture = _capture(path)
    if not capture.isOpened():
        raise BadRecording("does not open as a video")
    width, height = capture.get(cv2.CAP_PROP_FRAME_WIDTH), capture.get(cv2.CAP_PROP_FRAME_HEIGHT)
    if width * height > MOST_PIXELS:
        capture.release()
        raise BadRecording(f"announces frames of {width:.0f} x {height:.0f} pixels, larger than 8K")
    return capture, listing


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
