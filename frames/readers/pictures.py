"""Folders of pictures: one unordered episode each, single frames and no clips."""

import struct
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from frames.readers.decoding import MOST_PIXELS
from frames.readers.recording import BadRecording, Folder, Layout, Recording

PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg")
_LARGEST_FILE = 256 << 20
_PNG, _JPEG = b"\x89PNG\r\n\x1a\n", b"\xff\xd8"
# the JPEG markers that a frame's size follows: all of 0xC0 to 0xCF but those of tables (0xC4, 0xC8, 0xCC)
_JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}


class PictureFolder(Recording):
    """Pictures that do not decode are left out one by one, and named in `skipped`."""

    ordered = False

    def expected_frames(self) -> int:
        return len(self.files)

    def frames_per_second(self) -> float:
        return 1.0

    def frames(self) -> Iterator[np.ndarray]:
        self.skipped.clear()
        for file in self.files:
            try:
                yield read_picture(file)
            except BadRecording as error:
                self.skipped.append((f"{self.name}/{file.name}", str(error)))
        if len(self.skipped) == len(self.files):
            raise BadRecording(f"no picture decodes ({self.skipped[0][1]})")


def find(folder: Folder) -> list[Recording]:
    pictures = folder.with_suffix(*PICTURE_SUFFIXES)
    return [PictureFolder(folder.name(), folder.path, pictures)] if pictures else []


PICTURES = Layout("pictures", f"folders of pictures ({', '.join(PICTURE_SUFFIXES)})", find)


def read_picture(file: Path) -> np.ndarray:
    """Return a picture file as uint8 RGB (H, W, 3); raise `BadRecording` where it does not decode."""
    try:
        size = file.stat().st_size
        # a pipe has no size either, and would be waited for
        if size == 0 or size > _LARGEST_FILE:
            raise BadRecording("an empty file" if size == 0 else f"{size:,} bytes are too many for a picture")
        return decode_picture(file.read_bytes())
    except OSError as error:
        raise BadRecording(f"cannot be read ({error.strerror})") from error


def decode_picture(content: bytes) -> np.ndarray:
    """Return an encoded PNG or JPEG as uint8 RGB (H, W, 3).

    Raises `BadRecording` where it does not decode to its end, or is larger than 8K.
    """
    width, height = _picture_size(content)
    if width * height > MOST_PIXELS:
        raise BadRecording(f"announces {width} x {height} pixels, larger than 8K")
    try:
        picture = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error:
        picture = None
    if picture is None:
        raise BadRecording("does not decode as a picture")
    return cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)


def _picture_size(content: bytes) -> tuple[int, int]:
    """Return (width, height) by the header: a picture of a few bytes may announce one that fills the memory."""
    if content.startswith(_PNG) and len(content) >= 24:
        _check_png_parts(content)
        return struct.unpack_from(">II", content, 16)
    if content.startswith(_JPEG):
        return _jpeg_size(content)
    raise BadRecording("is neither a PNG nor a JPEG")


def _check_png_parts(content: bytes) -> None:
    """Check that every part is as long as it says, up to the end mark: OpenCV makes room for what a part announces, gigabytes perhaps."""
    at, name = len(_PNG), b""
    while name != b"IEND":
        if at + 12 > len(content):
            raise BadRecording("truncated: the PNG has no end mark")
        length, name = struct.unpack_from(">I4s", content, at)
        # the length, the name and the checksum take 12 bytes
        at += 12 + length
    if at > len(content):
        raise BadRecording("truncated: the PNG has no end mark")


def _jpeg_size(content: bytes) -> tuple[int, int]:
    at = 2
    while at + 9 <= len(content):
        if content[at] != 0xFF or content[at + 1] in (0x00, 0xFF):
            at += 1
            continue
        if content[at + 1] in _JPEG_FRAMES:
            # libjpeg paints what is missing grey
            if b"\xff\xd9" not in content[at:]:
                raise BadRecording("truncated: the JPEG has no end mark")
            height, width = struct.unpack_from(">HH", content, at + 5)
            return width, height
        # markers 0xD0 to 0xD9 stand alone; the others tell the length of what follows them
        at += 2 if 0xD0 <= content[at + 1] <= 0xD9 else 2 + struct.unpack_from(">H", content, at + 2)[0]
    raise BadRecording("does not decode as a picture")
