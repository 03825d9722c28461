"""Matroska and WebM (RFC 9559): elements, each its identity, its length and its content; blocks in clusters are the frames."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import BinaryIO

import numpy as np

from frames.readers.containers.listing import MOST_FRAMES, Damaged, Listing, cut_off, leading

_EBML, _SEGMENT, _CLUSTER, _INFO, _TRACKS = 0x1A45DFA3, 0x18538067, 0x1F43B675, 0x1549A966, 0x1654AE6B
# what may follow a cluster of unknown length: seek head, cues, chapters, tags, attachments
_AFTER_CLUSTER = {_EBML, _SEGMENT, _CLUSTER, _INFO, _TRACKS, 0x114D9B74, 0x1C53BB6B, 0x1043A770, 0x1254C367, 0x1941A469}
_TIMESTAMP, _SIMPLE_BLOCK, _BLOCK_GROUP, _BLOCK, _REFERENCE = 0xE7, 0xA3, 0xA0, 0xA1, 0xFB
_TIMESTAMP_SCALE = 0x2AD7B1
_TRACK, _NUMBER, _TYPE, _CODEC, _ENCODINGS, _VIDEO = 0xAE, 0xD7, 0x83, 0x86, 0x6D80, 1
_NANOSECOND, _USUAL_SCALE = 1e-9, 1_000_000
_KEY, _LACED, _VP8_SHOWN, _LONGEST_VALUE = 0x80, 0x06, 0x10, 8

Element = tuple[int, int, int | None]


@dataclass
class _Found:
    """The first segment: its unit of time in nanoseconds, its first video track, and for each frame of it the time and if it is key."""

    scale: int = _USUAL_SCALE
    track: int | None = None
    is_vp8: bool = False
    times: list[int] = field(default_factory=list)
    keys: list[bool] = field(default_factory=list)
    elements: int = 0


def look(file: BinaryIO, size: int) -> Listing:
    """A segment tells its end, or is a stream of unknown length, whose clusters tell theirs or not."""
    found, at = None, 0
    while at < size and (element := _element(file, at)) is not None:
        identity, start, length = element
        if length is None and identity != _SEGMENT:
            break
        end = size if length is None else start + length
        if end > size:
            raise cut_off(size, end)
        if identity == _SEGMENT and found is None:
            found = _Found()
            _read_segment(file, start, end, length is not None, found)
        at = end
    if found is None or not found.times:
        return Listing()
    second = found.scale * _NANOSECOND
    times = np.array(found.times, np.int64)
    doubtful = int(leading(times, found.keys.index(True)).sum()) if any(found.keys) else 0
    return Listing(np.sort(times) * second, second, doubtful)


def _element(file: BinaryIO, at: int) -> Element | None:
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


def _inside(file: BinaryIO, at: int, end: int, whole: bool) -> Element | None:
    """Return identity, start and end (None: unknown) of an element in one that ends at `end`; None where a stream goes no further.

    Raises `Damaged` where it reaches beyond, or where the bytes are none although the outer one is `whole`: tells its own length.
    """
    element = _element(file, at)
    if element is None:
        if whole:
            raise Damaged(f"damaged: byte {at:,} begins no element of a Matroska file")
        return None
    identity, start, length = element
    if length is not None and start + length > end:
        raise Damaged(f"damaged: the element at byte {at:,} is longer than what it is in") if whole else cut_off(end, start + length)
    return identity, start, None if length is None else start + length


def _children(file: BinaryIO, at: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Yield identity, start and end of all that lies in an element."""
    while at < end:
        identity, start, stop = _inside(file, at, end, whole=True) or (0, 0, None)
        if stop is None:
            raise Damaged(f"damaged: the element at byte {at:,} does not tell its length")
        yield identity, start, stop
        at = stop


def _read_segment(file: BinaryIO, at: int, end: int, whole: bool, found: _Found) -> None:
    while at < end:
        element = _inside(file, at, end, whole)
        # another file may have been appended to a stream
        if element is None or element[0] == _EBML:
            return
        identity, start, stop = element
        if identity == _CLUSTER:
            at = _read_cluster(file, start, stop, (end, whole), found)
            continue
        if stop is None:
            return
        if identity == _INFO:
            for kind, begin, after in _children(file, start, stop):
                found.scale = _number(file, begin, after) if kind == _TIMESTAMP_SCALE else found.scale
        elif identity == _TRACKS and found.track is None:
            _read_tracks(file, start, stop, found)
        _count(found)
        at = stop


def _read_tracks(file: BinaryIO, at: int, end: int, found: _Found) -> None:
    """Find the first video track."""
    for identity, start, stop in _children(file, at, end):
        if identity == _TRACK and found.track is None:
            told = {kind: (begin, after) for kind, begin, after in _children(file, start, stop)}
            if {_NUMBER, _TYPE} <= told.keys() and _number(file, *told[_TYPE]) == _VIDEO:
                found.track = _number(file, *told[_NUMBER])
                found.is_vp8 = _ENCODINGS not in told and _CODEC in told and _text(file, *told[_CODEC]) == b"V_VP8"


def _read_cluster(file: BinaryIO, at: int, stop: int | None, outer: tuple[int, bool], found: _Found) -> int:
    """Take the frames of a cluster and return where it ends; `outer` is the segment: its end, and whether it tells it."""
    end, whole = (stop, True) if stop is not None else outer
    began = 0
    while at < end:
        element = _inside(file, at, end, whole)
        if element is None or element[2] is None:
            return outer[0] if element is None else at
        identity, start, after = element[0], element[1], element[2]
        if stop is None and identity in _AFTER_CLUSTER:
            return at
        if identity == _TIMESTAMP:
            began = _number(file, start, after)
        elif identity == _SIMPLE_BLOCK:
            _take_block(file, start, began, found)
        elif identity == _BLOCK_GROUP:
            parts = {kind: begin for kind, begin, _ in _children(file, start, after)}
            if _BLOCK in parts:
                _take_block(file, parts[_BLOCK], began, found, is_key=_REFERENCE not in parts)
        _count(found)
        at = after
    return end


def _take_block(file: BinaryIO, at: int, began: int, found: _Found, is_key: bool = False) -> None:
    """Take a block of the video track: its track, the time since its cluster's (2 bytes, signed), its flags, its frames."""
    file.seek(at)
    head = file.read(13)
    wide = 9 - head[0].bit_length() if head and head[0] else 9
    if len(head) < wide + 4 or int.from_bytes(head[:wide], "big") & ((1 << 7 * wide) - 1) != found.track:
        return
    flags, first = head[wide + 2], head[wide + 3]
    # VP8 stores frames that others are made of and that are not shown
    if found.is_vp8 and not flags & _LACED and not first & _VP8_SHOWN:
        return
    time = began + int.from_bytes(head[wide : wide + 2], "big", signed=True)
    count = first + 1 if flags & _LACED else 1
    found.times += [time] * count
    found.keys += [is_key or bool(flags & _KEY)] * count


def _count(found: _Found) -> None:
    found.elements += 1
    if found.elements + len(found.times) > MOST_FRAMES:
        raise Damaged("damaged: has more parts than a recording")


def _number(file: BinaryIO, at: int, end: int) -> int:
    return int.from_bytes(_text(file, at, end), "big")


def _text(file: BinaryIO, at: int, end: int) -> bytes:
    file.seek(at)
    return file.read(min(end - at, _LONGEST_VALUE))
