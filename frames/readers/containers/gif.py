"""GIF: pictures, each with the time that it stays."""

import struct
from typing import BinaryIO

import numpy as np

from frames.readers.containers.listing import MOST_FRAMES, Damaged, Listing

_HUNDREDTH = 0.01
# FFmpeg and browsers take a shorter one for a mistake
_LEAST_DELAY, _USUAL_DELAY = 2, 10
_EXTENSION, _PICTURE, _END = b"\x21", b"\x2c", b"\x3b"
_CONTROL = b"\xf9"


def look(file: BinaryIO, size: int) -> Listing:
    """Walk over all blocks: a file that ends before its end mark is cut off."""
    try:
        return _walk(file)
    except (IndexError, struct.error) as error:
        raise Damaged("truncated: the GIF has no end mark") from error


def _walk(file: BinaryIO) -> Listing:
    file.seek(0)
    _pass_colours(file, file.read(13)[10])
    delays: list[int] = []
    delay = _USUAL_DELAY
    while len(delays) < MOST_FRAMES:
        at, mark = file.tell(), file.read(1)
        if mark == _EXTENSION:
            kind, first = file.read(1), _blocks(file)
            if kind == _CONTROL:
                told = struct.unpack_from("<H", first, 1)[0]
                delay = told if told >= _LEAST_DELAY else _USUAL_DELAY
        elif mark == _PICTURE:
            _pass_colours(file, file.read(9)[8])
            file.seek(1, 1)
            _blocks(file)
            delays.append(delay)
        elif mark == _END:
            break
        elif not mark:
            raise IndexError
        # some programs end a chain of blocks twice
        elif mark != b"\0":
            raise Damaged(f"damaged: byte {at:,} begins no block of a GIF")
    return Listing(_HUNDREDTH * (np.cumsum(delays) - delays), _HUNDREDTH) if delays else Listing()


def _pass_colours(file: BinaryIO, packed: int) -> None:
    """Pass over the table of colours that a packed byte announces."""
    if packed & 0x80:
        file.seek(3 << (packed & 7) + 1, 1)


def _blocks(file: BinaryIO) -> bytes:
    """Pass over a chain of blocks, each led by its length, the last by 0; return the first one."""
    first = block = file.read(file.read(1)[0])
    while block:
        length = file.read(1)[0]
        block = file.read(length)
        if len(block) < length:
            raise IndexError
    return first
