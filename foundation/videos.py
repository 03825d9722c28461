"""Videos a person looks at: frames as an mp4."""

import os
from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np

from foundation.errors import UserError
from foundation.files import make_folder, refuse_devices

# browsers play the first; which of them there are depends on the build of OpenCV
_CODECS = ("vp09", "mp4v")


def write_video(path: str | Path, frames: Iterable[np.ndarray], rate: float) -> str:
    """Write uint8 RGB frames (H, W, 3) as an mp4 of `rate` frames a second; return the codec. The file is whole or absent.

    An odd height or width gets one more row or column, for the codecs store colours by twos. Raises `UserError` when it cannot be written.
    """
    path = Path(path)
    refuse_devices(path)
    try:
        make_folder(path.parent)
    except OSError as error:
        raise UserError(f"{path.parent}: cannot be made ({error.strerror}); choose another folder for the video") from error
    if path.is_dir():
        raise UserError(f"{path}: is a folder; give the video another name")
    # OpenCV chooses the container by the ending; FFmpeg takes what stands before a colon in a relative name for a protocol
    temporary = path.absolute().with_name(f".{os.getpid()}.part.mp4")
    try:
        codec, written = _encode(temporary, frames, rate)
        _check(temporary, path, written)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return codec


def _encode(path: Path, frames: Iterable[np.ndarray], rate: float) -> tuple[str, int]:
    codec, writer, written = "", None, 0
    try:
        for frame in frames:
            height, width = frame.shape[:2]
            even = np.pad(frame[..., ::-1], ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
            if writer is None:
                codec, writer = _open(path, rate, (even.shape[1], even.shape[0]))
            writer.write(np.ascontiguousarray(even))
            written += 1
    finally:
        if writer is not None:
            writer.release()
    return codec, written


def _open(path: Path, rate: float, size: tuple[int, int]) -> tuple[str, cv2.VideoWriter]:
    for codec in _CODECS:
        writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*codec), rate, size)
        if writer.isOpened():
            return codec, writer
    raise UserError(f"{path.parent}: cannot write a video here: the folder is not writable, or this OpenCV has no encoder")


def _check(temporary: Path, path: Path, written: int) -> None:
    """OpenCV does not tell of a write that failed: the finished file has to open and announce every frame."""
    capture = cv2.VideoCapture(str(temporary))
    announced = capture.get(cv2.CAP_PROP_FRAME_COUNT) if capture.isOpened() else 0
    capture.release()
    if written == 0 or announced != written:
        raise UserError(f"{path}: the video is incomplete ({announced:.0f} of {written} frames); free some space or choose another folder")
