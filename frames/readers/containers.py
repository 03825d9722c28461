"""What a video file's container says of itself, read from its headers alone: whether it is cut off, and how many frames it has."""

import io
import os
import re
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np

_MP4_SUFFIXES = (".mp4", ".mov", ".m4v")
_EBML_SUFFIXES = (".mkv", ".webm")
_MP4_PARTS = {b"ftyp", b"styp", b"moov", b"moof", b"mfra", b"mdat", b"free", b"skip", b"wide", b"udta", b"uuid", b"meta", b"sidx", b"pnot"}
# An index takes about 16 bytes a frame: this is a recording of months
_LARGEST_INDEX = 256 << 20
_MOST_PARTS = 100_000
_MOST_FRAMES = 10_000_000
_SEGMENT = 0x18538067

Box = tuple[bytes, int, int]


def truncation(path: Path) -> str | None:
    """Say how a file is truncated where its container tells, None when nothing is amiss."""
    try:
        if not path.is_file():
            return "is no file" if path.exists() else "is missing"
        size = path.stat().st_size
        if size == 0:
            return "an empty file"
        check = _check_of(path.suffix.lower())
        with open(path, "rb") as file:
            return check(file, size) if check else None
    except OSError as error:
        return f"cannot be read ({error.strerror})"


def count_mp4_frames(path: Path) -> int | None:
    """Return how many frames an mp4's index promises to show, None where it has no index of them; never raises."""
    # to open a pipe would be to wait for it
    if path.suffix.lower() not in _MP4_SUFFIXES or not os.path.isfile(path):
        return None
    try:
        with open(path, "rb") as file:
            return _shown_frames(_index(file, path.stat().st_size))
    # a damaged index: whatever does not fit
    except (OSError, ValueError, KeyError, OverflowError, struct.error):
        return None


def _check_of(suffix: str) -> Callable[[BinaryIO, int], str | None] | None:
    if suffix in _MP4_SUFFIXES:
        return _check_mp4
    if suffix in _EBML_SUFFIXES:
        return _check_ebml
    return {".avi": _check_riff, ".gif": _check_gif}.get(suffix)


def _check_mp4(file: BinaryIO, size: int) -> str | None:
    """A box is its size (4 or 8 bytes, big-endian), its type and its content; moov is the index, moof that of a fragment."""
    # anything else was appended, or it is no mp4
    boxes = [box for box in _boxes(file, size) if box[0] in _MP4_PARTS]
    if boxes and boxes[-1][2] > size:
        return _cut_off(size, boxes[-1][2])
    if boxes and not {b"moov", b"moof"} & {box[0] for box in boxes}:
        return "has no index (moov): its recording was not finished"
    return None


def _boxes(file: BinaryIO, end: int, at: int = 0) -> Iterator[Box]:
    """Yield type, start of the content and end of every box. The walk ends at bytes that are no box."""
    for _ in range(_MOST_PARTS):
        # before the seek: a box may announce more than a file can be long
        if at + 8 > end:
            return
        file.seek(at)
        head = file.read(16)
        if len(head) < 8:
            return
        length, kind = struct.unpack_from(">I4s", head)
        start = 8
        if length == 1 and len(head) == 16:
            length, start = struct.unpack_from(">Q", head, 8)[0], 16
        # 0: the box reaches to the end of the file
        length = length or end - at
        if length < start or not re.fullmatch(rb"[ -~\xa9]{4}", kind):
            return
        yield kind, at + start, at + length
        at += length


def _check_riff(file: BinaryIO, size: int) -> str | None:
    """An AVI is one RIFF chunk, a long one several; the size is 0 while the recorder runs."""
    at = 0
    while at + 8 <= size:
        file.seek(at)
        name, length = struct.unpack("<4sI", file.read(8))
        if name != b"RIFF" or length == 0:
            break
        at += 8 + length + length % 2
    return _cut_off(size, at) if at > size + 1 else None


def _check_gif(file: BinaryIO, size: int) -> str | None:
    file.seek(max(0, size - 4096))
    return None if file.read().rstrip(b"\0").endswith(b";") else "truncated: the GIF has no end mark"


def _check_ebml(file: BinaryIO, size: int) -> str | None:
    """Matroska: the segment tells its end, or is a stream of unknown length, whose clusters mostly tell theirs."""
    at = 0
    for _ in range(_MOST_PARTS):
        element = _ebml_element(file, at)
        if element is None:
            break
        identity, start, length = element
        if length is None and identity != _SEGMENT:
            break
        end = size if length is None else start + length
        if end > size:
            return _cut_off(size, end)
        # into a segment of unknown length, over everything else
        at = start if length is None else end
    return None


def _ebml_element(file: BinaryIO, at: int) -> tuple[int, int, int | None] | None:
    """Return identity, start of the content and its length (None: unknown) of the element at a place; None where there is none."""
    file.seek(at)
    head = file.read(12)
    if not head or head[0] < 0x10:
        return None
    wide = 9 - head[0].bit_length()
    identity = int.from_bytes(head[:wide], "big")
    if len(head) <= wide or head[wide] == 0:
        return None
    long = 9 - head[wide].bit_length()
    length = int.from_bytes(head[wide : wide + long], "big") & ((1 << 7 * long) - 1)
    unknown = length == (1 << 7 * long) - 1
    return identity, at + wide + long, None if unknown else length


def _cut_off(size: int, needed: int) -> str:
    return f"truncated: {size:,} of {needed:,} bytes"


def _index(file: BinaryIO, size: int) -> bytes:
    for kind, start, end in _boxes(file, size):
        if kind == b"moov" and end - start <= _LARGEST_INDEX:
            file.seek(start)
            return file.read(end - start)
    raise ValueError("no index, or one too large to be one")


def _inside(content: bytes, *path: bytes) -> bytes:
    """Return the content of a box in a box ...; raise KeyError where there is none."""
    for wanted in path:
        found = [content[start:end] for kind, start, end in _boxes(io.BytesIO(content), len(content)) if kind == wanted]
        if not found:
            raise KeyError(wanted)
        content = found[0]
    return content


def _shown_frames(index: bytes) -> int | None:
    """Count the samples of the first video track that its edit list shows: x264's first ones and trimmed ones are not shown."""
    per_second = _time_scale(_inside(index, b"mvhd"))
    for kind, start, end in _boxes(io.BytesIO(index), len(index)):
        track = index[start:end]
        if kind == b"trak" and _inside(track, b"mdia", b"hdlr")[8:12] == b"vide":
            times = _sample_times(_inside(track, b"mdia", b"minf", b"stbl"))
            scale = _time_scale(_inside(track, b"mdia", b"mdhd")) / per_second
            return sum(_shown(times, begin, length * scale) for length, begin in _edits(track)) if len(times) else None
    return None


def _time_scale(header: bytes) -> int:
    """Return the units a second of an mvhd or mdhd box (version 1 has 64-bit dates before it)."""
    scale = struct.unpack_from(">I", header, 20 if header[:1] == b"\1" else 12)[0]
    if scale == 0:
        raise ValueError("no time scale")
    return scale


def _sample_times(table: bytes) -> np.ndarray:
    """Return when each sample is shown: the sums of its durations (stts), and how much later than decoded (ctts)."""
    _, fixed, count = struct.unpack_from(">III", _inside(table, b"stsz"))
    if count > _MOST_FRAMES or (fixed == 0 and 4 * count > len(table)):
        raise ValueError("more samples than the index can list")
    times = np.cumsum(_runs(_inside(table, b"stts"), count)) if count else np.empty(0, np.int64)
    times = np.concatenate([[0], times])[:-1]
    try:
        return times + _runs(_inside(table, b"ctts"), count)
    except KeyError:
        return times


def _runs(box: bytes, count: int) -> np.ndarray:
    """Expand (how many, value) pairs to a value for each of `count` samples."""
    pairs = np.frombuffer(box, ">i4", 2 * struct.unpack_from(">I", box, 4)[0], 8).reshape(-1, 2).astype(np.int64)
    if (pairs[:, 0] < 0).any() or pairs[:, 0].sum() != count:
        raise ValueError("a table that does not fit the samples")
    return np.repeat(pairs[:, 1], pairs[:, 0])


def _edits(track: bytes) -> list[tuple[float, int]]:
    """Return (length in the movie's units, first time in the track's) of what is shown; length 0 reaches to the end."""
    try:
        box = _inside(track, b"edts", b"elst")
    except KeyError:
        return [(0, 0)]
    form = ">QqI" if box[:1] == b"\1" else ">IiI"
    count = struct.unpack_from(">I", box, 4)[0]
    edits = [entry[:2] for entry in struct.iter_unpack(form, box[8 : 8 + count * struct.calcsize(form)])]
    return [(length, begin) for length, begin in edits if begin >= 0]


def _shown(times: np.ndarray, begin: int, length: float) -> int:
    return int(((times >= begin) & (times < (begin + length if length else np.inf))).sum())
