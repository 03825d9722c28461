import struct
from pathlib import Path

import numpy as np
import pytest

from frames.readers.containers import count_mp4_frames, truncation
from frames.readers.decoding import read_video

SEGMENT = b"\x18\x53\x80\x67"


def box(kind: bytes, *content: bytes) -> bytes:
    joined = b"".join(content)
    return struct.pack(">I4s", 8 + len(joined), kind) + joined


def table(kind: bytes, *rows: tuple[int, ...]) -> bytes:
    return box(kind, bytes(4), struct.pack(">I", len(rows)), *(struct.pack(f">{len(row)}i", *row) for row in rows))


def index(samples: int, *, stts=((10, 512),), ctts=None, edits=None, scale: int = 10_240, sizes: bool = True) -> bytes:
    """The moov box of a video track: 20 frames/s where a sample lasts 512."""
    listed = struct.pack(f">{samples}I", *[100] * samples) if sizes else b""
    tables = [table(b"stts", *stts), box(b"stsz", bytes(8), struct.pack(">I", samples), listed)]
    tables += [table(b"ctts", *ctts)] if ctts else []
    header = struct.pack(">5I", 0, 0, 0, scale, 512 * samples)
    media = box(b"mdia", box(b"mdhd", header), box(b"hdlr", bytes(8), b"vide"), box(b"minf", box(b"stbl", *tables)))
    cut = [box(b"edts", table(b"elst", *edits))] if edits else []
    return box(b"moov", box(b"mvhd", struct.pack(">5I", 0, 0, 0, 1000, 500)), box(b"trak", *cut, media))


def write(path: Path, *content: bytes) -> Path:
    path.write_bytes(b"".join(content))
    return path


@pytest.mark.parametrize(
    ("moov", "count"),
    [
        (index(10), 10),
        # the first two samples only lead in: shown are 400 ms from the third on
        (index(10, edits=[(400, 1024, 65536)]), 8),
        (index(10, edits=[(200, -1, 65536), (150, 1024, 65536)]), 3),
        # samples in decoding order, shown later: two are cut
        (index(10, ctts=[(10, 1024)], edits=[(400, 1024, 65536)]), 8),
        (index(10, stts=[(4, 512), (6, 1024)]), 10),
        (index(10, stts=[(9, 512)]), None),
        (index(10, stts=[(2_000_000_000, 512)]), None),
        (index(2_000_000, stts=[(2_000_000, 512)], sizes=False), None),
        (index(10, scale=0), None),
        (index(0, stts=[]), None),
        (box(b"moov"), None),
        (b"", None),
    ],
)
def test_an_mp4s_index_tells_how_many_frames_are_shown(tmp_path, moov, count):
    path = write(tmp_path / "a.mp4", box(b"ftyp", b"isom"), moov)
    assert count_mp4_frames(path) == count


def test_only_mp4s_are_counted(tmp_path):
    assert count_mp4_frames(write(tmp_path / "a.mkv", index(10))) is None
    assert count_mp4_frames(tmp_path / "gone.mp4") is None


@pytest.mark.parametrize(
    "content",
    [
        [box(b"ftyp", b"isom"), box(b"mdat", bytes(99)), index(10)],
        # an index in front, then data to the end of the file
        [index(10), struct.pack(">I4s", 0, b"mdat"), bytes(50)],
        # fragments, as streams are recorded
        [box(b"moov"), box(b"moof", bytes(9)), box(b"mdat", bytes(9))],
        # a size of 64 bits
        [index(10), struct.pack(">I4sQ", 1, b"mdat", 16 + 30), bytes(30)],
        # something appended that is no box
        [index(10), bytes(100)],
        [index(10), b"\xff\xfe\x00\x01 appended"],
    ],
)
def test_whole_mp4s_are_not_called_truncated(tmp_path, content):
    assert truncation(write(tmp_path / "a.mp4", *content)) is None


@pytest.mark.parametrize(
    "content",
    [
        [index(10), box(b"mdat", bytes(500))[:300]],
        [box(b"mdat", bytes(99)), index(10)[:-1]],
        [index(10), box(b"moof", bytes(90)), box(b"mdat", bytes(90))[:-9]],
        [index(10), struct.pack(">I4sQ", 1, b"mdat", 1 << 40), bytes(30)],
        [index(10), struct.pack(">I4sQ", 1, b"mdat", (1 << 64) - 1), bytes(30)],
    ],
)
def test_an_mp4_that_ends_within_a_box_is_truncated(tmp_path, content):
    assert str(truncation(write(tmp_path / "a.mp4", *content))).startswith("truncated: ")


def test_an_mp4_whose_recorder_was_killed_has_no_index(tmp_path):
    path = write(tmp_path / "a.mp4", box(b"ftyp", b"isom"), struct.pack(">I4s", 0, b"mdat"), bytes(500))
    assert truncation(path) == "has no index (moov): its recording was not finished"


def stream(path: Path) -> bytes:
    """A Matroska file's content with a segment of unknown length, as streams have it."""
    content = bytearray(path.read_bytes())
    at = content.index(SEGMENT) + 4
    assert content[at] == 0x01
    content[at : at + 8] = b"\x01" + b"\xff" * 7
    return bytes(content)


def test_a_matroska_stream_of_unknown_length_decodes(tmp_path, noise, write_video):
    frames = noise(9)
    path = write_video(tmp_path / "a.mkv", frames)
    path.write_bytes(stream(path))
    assert truncation(path) is None
    assert np.array_equal(np.array(list(read_video(path))), frames)


@pytest.mark.parametrize("share", [0.5, 0.95])
def test_a_matroska_stream_that_ends_within_a_cluster_is_truncated(tmp_path, noise, write_video, share):
    path = write_video(tmp_path / "a.mkv", noise(20, size=64))
    content = stream(path)
    path.write_bytes(content[: int(share * len(content))])
    assert str(truncation(path)).startswith("truncated: ")


def test_an_avi_of_several_parts_is_whole_when_the_last_is(tmp_path):
    part = struct.pack("<4sI4s", b"RIFF", 104, b"AVIX") + bytes(100)
    assert truncation(write(tmp_path / "a.avi", part, part)) is None
    assert truncation(write(tmp_path / "a.avi", part, part[:-50])) == "truncated: 174 of 224 bytes"
    # the size stays 0 while the recorder runs: what is there is read
    assert truncation(write(tmp_path / "a.avi", b"RIFF" + bytes(100))) is None


def test_a_gif_may_be_padded_but_must_end(tmp_path):
    assert truncation(write(tmp_path / "a.gif", b"GIF89a...;", bytes(300))) is None
    assert truncation(write(tmp_path / "a.gif", b"GIF89a...")) == "truncated: the GIF has no end mark"
