"""MP4 and QuickTime (ISO/IEC 14496-12): boxes, each its size (4 or 8 bytes, big-endian), its type and its content."""

import io
import re
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np

from frames.readers.containers.listing import MOST_FRAMES, Damaged, Listing, cut_off, leading

_PARTS = {b"ftyp", b"styp", b"moov", b"moof", b"mfra", b"mdat", b"free", b"skip", b"wide", b"udta", b"uuid", b"meta", b"sidx", b"pnot"}
# An index takes about 16 bytes a frame: this is a recording of months
_LARGEST_INDEX = 256 << 20
_MOST_PARTS = 1_000_000

Box = tuple[bytes, int, int]


@dataclass(frozen=True)
class _Track:
    """The first video track: its number, its box's content, and the units a second of its times and of the movie's."""

    number: int
    content: bytes
    scale: int
    movie_scale: int


def look(file: BinaryIO, size: int) -> Listing:
    """`moov` is the index; a recording made as it went has `moof`, an index of a part, before each part."""
    # anything else was appended, or it is no mp4
    boxes = [box for box in _boxes(file, size) if box[0] in _PARTS]
    if boxes and boxes[-1][2] > size:
        raise cut_off(size, boxes[-1][2])
    if boxes and not {b"moov", b"moof"} & {box[0] for box in boxes}:
        raise Damaged("has no index (moov): its recording was not finished")
    try:
        return _listing(file, boxes)
    except KeyError:
        # an index of another kind
        return Listing()
    except (ValueError, OverflowError, struct.error) as error:
        raise Damaged(f"damaged: its index contradicts itself ({error})") from error


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


def _listing(file: BinaryIO, boxes: list[Box]) -> Listing:
    """List the samples of the first video track that its edit list shows: x264's first ones and trimmed ones are not shown."""
    index = next((_content(file, box) for box in boxes if box[0] == b"moov"), b"")
    track = _video_track(index)
    if track is None:
        return Listing()
    table = _inside(track.content, b"mdia", b"minf", b"stbl")
    times = _sample_times(table)
    early = leading(times, min(_first_key(table), len(times) - 1)) if len(times) else np.zeros(0, bool)
    parts = (_content(file, box) for box in boxes if box[0] == b"moof")
    times = np.concatenate([times, *_fragment_times(parts, track.number, _usual_duration(index, track.number))])
    if not len(times):
        return Listing()
    shown, passed, doubtful = [], 0.0, 0
    for length, begin in _edits(track):
        inside = (times >= begin) & (times < (begin + length if length else np.inf))
        shown.append(np.sort(times[inside]) - begin + passed)
        passed, doubtful = passed + length, doubtful + int(early[inside[: len(early)]].sum())
    return Listing(np.concatenate([np.empty(0), *shown]) / track.scale, 1 / track.scale, doubtful)


def _content(file: BinaryIO, box: Box) -> bytes:
    _, start, end = box
    if end - start > _LARGEST_INDEX:
        raise ValueError("too large")
    file.seek(start)
    return file.read(end - start)


def _parts(content: bytes, kind: bytes) -> list[bytes]:
    return [content[start:end] for name, start, end in _boxes(io.BytesIO(content), len(content)) if name == kind]


def _inside(content: bytes, *path: bytes) -> bytes:
    """Return the content of a box in a box ...; raise KeyError where there is none."""
    for wanted in path:
        found = _parts(content, wanted)
        if not found:
            raise KeyError(wanted)
        content = found[0]
    return content


def _video_track(index: bytes) -> _Track | None:
    movie_scale = _time_scale(_inside(index, b"mvhd"))
    for content in _parts(index, b"trak"):
        if _inside(content, b"mdia", b"hdlr")[8:12] == b"vide":
            head = _parts(content, b"tkhd")
            # version 1 has 64-bit dates
            number = struct.unpack_from(">I", head[0], 20 if head[0][:1] == b"\1" else 12)[0] if head else 0
            return _Track(number, content, _time_scale(_inside(content, b"mdia", b"mdhd")), movie_scale)
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
    if count > MOST_FRAMES or (fixed == 0 and 4 * count > len(table)):
        raise ValueError("more samples than it can list")
    times = np.cumsum(_runs(_inside(table, b"stts"), count)) if count else np.empty(0, np.int64)
    times = np.concatenate([[0], times])[:-1]
    try:
        return times + _runs(_inside(table, b"ctts"), count)
    except KeyError:
        return times


def _first_key(table: bytes) -> int:
    """Return the number of the first sample that needs no other (stss); without such a table none does."""
    for keys in _parts(table, b"stss"):
        count = struct.unpack_from(">I", keys, 4)[0]
        return max(0, struct.unpack_from(">I", keys, 8)[0] - 1) if count else 0
    return 0


def _runs(box: bytes, count: int) -> np.ndarray:
    """Expand (how many, value) pairs to a value for each of `count` samples."""
    pairs = np.frombuffer(box, ">i4", 2 * struct.unpack_from(">I", box, 4)[0], 8).reshape(-1, 2).astype(np.int64)
    if (pairs[:, 0] < 0).any() or pairs[:, 0].sum() != count:
        raise ValueError("a table that does not fit the samples")
    return np.repeat(pairs[:, 1], pairs[:, 0])


def _usual_duration(index: bytes, number: int) -> int:
    """Return how long a track's samples last in fragments that do not tell it (trex)."""
    for extends in _parts(index, b"mvex"):
        for content in _parts(extends, b"trex"):
            track, _, duration = struct.unpack_from(">III", content, 4)
            if track == number:
                return duration
    return 0


def _fragment_times(parts: Iterable[bytes], number: int, usual: int) -> Iterator[np.ndarray]:
    """Yield when the samples of each fragment (moof) of a track are shown."""
    now = count = 0
    for part in parts:
        for content in _parts(part, b"traf"):
            head = _inside(content, b"tfhd")
            flags, track = struct.unpack_from(">II", head)
            if track != number:
                continue
            # what stands before the duration: an offset of 8 bytes, a description of 4
            place = 8 + 8 * (flags & 1) + 4 * (flags >> 1 & 1)
            duration = struct.unpack_from(">I", head, place)[0] if flags & 8 else usual
            for began in _parts(content, b"tfdt"):
                now = struct.unpack_from(">Q" if began[:1] == b"\1" else ">I", began, 4)[0]
            for run in _parts(content, b"trun"):
                durations, later = _run(run, duration)
                count += len(durations)
                if count > MOST_FRAMES:
                    raise ValueError("more samples than a recording has")
                yield now + np.cumsum(durations) - durations + later
                now += int(durations.sum())


def _run(box: bytes, usual: int) -> tuple[np.ndarray, np.ndarray]:
    """Return how long each sample of a run (trun) lasts, and how much later than decoded it is shown."""
    flags, count = struct.unpack_from(">II", box)
    # columns of 4 bytes: duration, size, flags, how much later
    columns = [bit for bit in (0x100, 0x200, 0x400, 0x800) if flags & bit]
    start = 8 + 4 * (flags & 1) + 4 * (flags >> 2 & 1)
    if count > MOST_FRAMES or start + 4 * len(columns) * count > len(box):
        raise ValueError("more samples than it can list")
    rows = np.frombuffer(box, ">i4", len(columns) * count, start).reshape(count, len(columns)).astype(np.int64)
    durations = rows[:, columns.index(0x100)] if 0x100 in columns else np.full(count, usual, np.int64)
    return durations, rows[:, columns.index(0x800)] if 0x800 in columns else np.zeros(count, np.int64)


def _edits(track: _Track) -> list[tuple[float, int]]:
    """Return (length, first time) of what is shown, in the track's units; length 0 reaches to the end."""
    try:
        box = _inside(track.content, b"edts", b"elst")
    except KeyError:
        return [(0, 0)]
    form = ">QqI" if box[:1] == b"\1" else ">IiI"
    count = struct.unpack_from(">I", box, 4)[0]
    edits = [entry[:2] for entry in struct.iter_unpack(form, box[8 : 8 + count * struct.calcsize(form)])]
    return [(length * track.scale / track.movie_scale, begin) for length, begin in edits if begin >= 0]
