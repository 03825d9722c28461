"""AVI: RIFF chunks, each its name, its size (4 bytes, little-endian) and its content; one of a stream is a frame of it."""

import re
import struct
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np

from frames.readers.containers.listing import MOST_FRAMES, Damaged, Listing, cut_off

# a frame that was not coded: the decoder shows the one before, or nothing
_EMPTY_PICTURE = 8
_NAME = re.compile(rb"[ -~]{4}")

Chunk = tuple[bytes, int, int]


def look(file: BinaryIO, size: int) -> Listing:
    """An AVI is one RIFF chunk, a long one several; the size is 0 while the recorder runs."""
    headers: list[tuple[bytes, int, int]] = []
    frames: list[tuple[int, int]] = []
    at = 0
    while at + 12 <= size:
        file.seek(at)
        name, length = struct.unpack("<4sI", file.read(8))
        if name != b"RIFF":
            break
        end = at + 8 + length if length else size
        # the last byte, which only fills up, is often missing
        if end > size + 1:
            raise cut_off(size, end)
        for list_name, start, stop in _lists(file, at + 12, min(end, size)):
            if list_name == b"hdrl":
                headers = headers or _streams(file, start, stop)
            elif list_name == b"movi":
                frames += _frames(file, start, stop, size, whole=length > 0)
        at = end + length % 2
    return _listing(headers, frames)


def _listing(headers: list[tuple[bytes, int, int]], frames: list[tuple[int, int]]) -> Listing:
    """Choose the frames of the first video stream. An empty one only lets time pass."""
    number = next((number for number, (kind, _, _) in enumerate(headers) if kind == b"vids"), None)
    sizes = np.array([length for stream, length in frames if stream == number], np.int64)
    if number is None or not sizes.any():
        return Listing()
    _, scale, rate = headers[number]
    second = scale / rate if scale and rate else 0.0
    return Listing(np.flatnonzero(sizes) * second, doubtful=int(((sizes > 0) & (sizes <= _EMPTY_PICTURE)).sum()))


def _chunks(file: BinaryIO, at: int, end: int) -> Iterator[Chunk]:
    """Yield name, start and end of the content of every chunk; the last one yielded has no name where bytes follow that are none."""
    while at + 8 <= end:
        file.seek(at)
        head = file.read(8)
        # what it is in may announce more than the file has
        if len(head) < 8:
            return
        name, length = struct.unpack("<4sI", head)
        if not _NAME.fullmatch(name):
            yield b"", at, end
            return
        yield name, at + 8, at + 8 + length
        at += 8 + length + length % 2


def _lists(file: BinaryIO, at: int, end: int) -> Iterator[Chunk]:
    """Yield name, start and end of the content of the lists in a chunk."""
    for name, start, stop in _chunks(file, at, end):
        if name == b"LIST":
            file.seek(start)
            # 0: the recorder did not come to write it
            yield file.read(4), start + 4, stop if stop > start else end


def _streams(file: BinaryIO, at: int, end: int) -> list[tuple[bytes, int, int]]:
    """Return the kind of each stream and how long one of its ticks is: so many seconds in so many ticks."""
    found = []
    for name, start, stop in _lists(file, at, end):
        if name == b"strl":
            for kind, begin, _ in _chunks(file, start, stop):
                if kind == b"strh":
                    file.seek(begin)
                    content = file.read(28)
                    if len(content) == 28:
                        found.append((content[:4], *struct.unpack_from("<II", content, 20)))
    return found


def _frames(file: BinaryIO, at: int, end: int, size: int, whole: bool, nested: bool = False) -> list[tuple[int, int]]:
    """Return (number of the stream, bytes) of each piece of a stream; raise `Damaged` where one does not end, or is none.

    Pieces may be grouped in lists, and these hold no others.
    """
    found: list[tuple[int, int]] = []
    for name, start, stop in _chunks(file, at, end):
        if stop > size + 1:
            raise cut_off(size, stop)
        if name == b"LIST" and not nested:
            found += _frames(file, start + 4, stop, size, whole, nested=True)
        elif name[:2].isdigit() and name[2:].lower() in (b"dc", b"db"):
            found.append((int(name[:2]), stop - start))
        elif not name and whole:
            raise Damaged(f"damaged: byte {start:,} begins no chunk of an AVI")
        if len(found) > MOST_FRAMES:
            raise Damaged("damaged: lists more frames than a recording has")
    return found
