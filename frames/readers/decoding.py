"""Decoding video files with OpenCV: frames one by one, and what tells a truncated file."""

import math
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

# their own complaints would stand between our lines; we list what does not decode
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")

import cv2
import numpy as np

from frames.readers.recording import BadRecording

cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)

VIDEO_SUFFIXES = (".mp4", ".avi", ".gif", ".mkv", ".webm", ".mov", ".m4v")
_USUAL_RATE = 20.0
_MP4_SUFFIXES = (".mp4", ".mov", ".m4v")
# Sound MineRL videos hold down to half as many frames as their header estimates from duration and rate
_LEAST_OF_HEADER = 1 / 3


def read_rate(path: Path) -> float:
    """Return a video's frames per second, 20 (MineRL's) where its header gives none."""
    capture = _open(path)
    rate = capture.get(cv2.CAP_PROP_FPS)
    capture.release()
    return round(rate, 3) if math.isfinite(rate) and 0 < rate <= 1000 else _USUAL_RATE


def read_video(path: Path) -> Iterator[np.ndarray]:
    """Yield a video's frames as uint8 RGB (H, W, 3); raise `BadRecording` when it does not decode, or not to its end."""
    capture = _open(path)
    announced = capture.get(cv2.CAP_PROP_FRAME_COUNT)
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
    if decoded < announced * _LEAST_OF_HEADER:
        raise BadRecording(f"only {decoded} of about {announced:.0f} frames decode")


def truncation(path: Path) -> str | None:
    """Say how a file is truncated where its container tells (mp4, avi, gif), None when nothing is amiss."""
    try:
        size = path.stat().st_size
        if size == 0:
            return "an empty file"
        with open(path, "rb") as file:
            suffix = path.suffix.lower()
            if suffix in _MP4_SUFFIXES:
                needed = _mp4_end(file, size)
            elif suffix == ".avi":
                needed = _riff_end(file)
            else:
                file.seek(-1, os.SEEK_END)
                return "truncated: the GIF has no end mark" if suffix == ".gif" and file.read(1) != b";" else None
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    return f"truncated: {size:,} of {needed:,} bytes" if needed > size else None


def _open(path: Path) -> cv2.VideoCapture:
    complaint = truncation(path)
    if complaint:
        raise BadRecording(complaint)
    # absolute: FFmpeg takes a name with a colon for a protocol
    capture = cv2.VideoCapture(str(path.absolute()), cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, 1])
    if not capture.isOpened():
        raise BadRecording("does not open as a video")
    return capture


def _mp4_end(file: BinaryIO, size: int) -> int:
    """Return where the last top-level box says that it ends. A box is its size (4 or 8 bytes, big-endian) and its type."""
    at = 0
    while at + 8 <= size:
        file.seek(at)
        head = file.read(16)
        length = struct.unpack_from(">I", head)[0]
        if length == 1 and len(head) == 16:
            length = struct.unpack_from(">Q", head, 8)[0]
        # 0: the box reaches to the end of the file
        if length < 8:
            return size
        at += length
    return at


def _riff_end(file: BinaryIO) -> int:
    head = file.read(8)
    return 8 + struct.unpack_from("<I", head, 4)[0] if head[:4] == b"RIFF" else 0
