import struct
from pathlib import Path

import numpy as np
import pytest

from frames.readers.containers import look
from frames.readers.decoding import read_video

SEGMENT = b"\x18\x53\x80\x67"


def box(kind: bytes, *content: bytes) -> bytes:
    joined = b"".join(content)
    return struct.pack(">I4s", 8 + len(joined), kind) + joined


def table(kind: bytes, *rows: tuple[int, ...]) -> bytes:
    return box(kind, bytes(4), struct.pack(">I", len(rows)), *(struct.pack(f">{len(row)}i", *row) for row in rows))


def index(samples: int, *, stts=((10, 512),), ctts=None, edits=None, keys=(), scale: int = 10_240, sizes: bool = True) -> bytes:
    """The moov box of a video track: 20 frames/s where a sample lasts 512."""
    listed = struct.pack(f">{samples}I", *[100] * samples) if sizes else b""
    tables = [table(b"stts", *stts), box(b"stsz", bytes(8), struct.pack(">I", samples), listed)]
    tables += [table(b"ctts", *ctts)] if ctts else []
    tables += [table(b"stss", *((key,) for key in keys))] if keys else []
    header = struct.pack(">5I", 0, 0, 0, scale, 512 * samples)
    media = box(b"mdia", box(b"mdhd", header), box(b"hdlr", bytes(8), b"vide"), box(b"minf", box(b"stbl", *tables)))
    cut = [box(b"edts", table(b"elst", *edits))] if edits else []
    return box(b"moov", box(b"mvhd", struct.pack(">5I", 0, 0, 0, 1000, 500)), box(b"trak", *cut, media))


def write(path: Path, *content: bytes) -> Path:
    path.write_bytes(b"".join(content))
    return path


def shown(path: Path, times: list[float]) -> bool:
    found = look(path)
    return found.damage is None and found.times is not None and np.allclose(found.times, times, atol=1e-9, rtol=0)


def every(seconds: float, count: int) -> list[float]:
    return [number * seconds for number in range(count)]


@pytest.mark.parametrize(
    ("moov", "times"),
    [
        (index(10), every(0.05, 10)),
        # the first two samples only lead in: shown are 400 ms from the third on
        (index(10, edits=[(400, 1024, 65536)]), every(0.05, 8)),
        (index(10, edits=[(200, -1, 65536), (150, 1024, 65536)]), every(0.05, 3)),
        # samples in decoding order, shown later: two are cut
        (index(10, ctts=[(10, 1024)], edits=[(400, 1024, 65536)]), every(0.05, 8)),
        # two pieces, one after the other
        (index(10, edits=[(100, 3072, 65536), (150, 0, 65536)]), every(0.05, 5)),
        (index(10, stts=[(4, 512), (6, 1024)]), [0, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7]),
    ],
)
def test_an_mp4s_index_tells_when_which_frames_are_shown(tmp_path, moov, times):
    assert shown(write(tmp_path / "a.mp4", box(b"ftyp", b"isom"), moov), times)


def test_what_an_mp4_shows_before_its_first_key_frame_may_not_decode(tmp_path):
    """The fourth sample is the first key frame; of those stored after it, one is shown before it."""
    moov = index(10, ctts=[(3, 1024), (1, 1536), (1, 512), (5, 1024)], keys=(4, 8))
    found = look(write(tmp_path / "a.mp4", box(b"ftyp", b"isom"), moov))
    assert (len(found.times), found.doubtful) == (10, 4)
    cut = index(10, ctts=[(3, 1024), (1, 1536), (1, 512), (5, 1024)], keys=(4, 8), edits=[(0, 2 * 512 + 1024, 65536)])
    assert look(write(tmp_path / "a.mp4", box(b"ftyp", b"isom"), cut)).doubtful == 2


@pytest.mark.parametrize(
    "moov",
    [
        index(10, stts=[(9, 512)]),
        index(10, stts=[(2_000_000_000, 512)]),
        index(2_000_000, stts=[(2_000_000, 512)], sizes=False),
        index(10, scale=0),
    ],
)
def test_an_mp4s_index_that_contradicts_itself_is_damaged(tmp_path, moov):
    assert str(look(write(tmp_path / "a.mp4", box(b"ftyp", b"isom"), moov)).damage).startswith("damaged: its index contradicts itself")


@pytest.mark.parametrize("moov", [index(0, stts=[]), box(b"moov"), b""])
def test_an_mp4_without_a_table_of_frames_lists_none(tmp_path, moov):
    found = look(write(tmp_path / "a.mp4", box(b"ftyp", b"isom"), box(b"moof"), moov))
    assert (found.times, found.damage) == (None, None)


def fragment(track: int, began: int, *rows: tuple[int, ...], flags: int) -> bytes:
    """A moof box: `flags` says what each sample's row holds."""
    run = struct.pack(">III", flags | 1, len(rows), 0) + b"".join(struct.pack(f">{len(row)}i", *row) for row in rows)
    head = box(b"tfhd", struct.pack(">IIQI", 0x9, track, 0, 256))
    return box(b"moof", box(b"traf", head, box(b"tfdt", struct.pack(">II", 0, began)), box(b"trun", run)))


def test_the_fragments_of_an_mp4_list_their_frames(tmp_path):
    """As browsers record: samples of their own duration, of the fragment's, out of order, and of another track."""
    parts = [
        fragment(0, 0, (512,), (2048,), flags=0x100),
        fragment(7, 0, (512,), flags=0x100),
        fragment(0, 5120, (100, 512), (100, 0), (100, 0), flags=0xA00),
    ]
    path = write(tmp_path / "a.mp4", box(b"ftyp", b"isom"), index(0, stts=[]), *[one for part in parts for one in (part, box(b"mdat"))])
    # the last two: decoded 256 units apart
    assert shown(path, sorted([0, 0.05, (5120 + 512) / 10_240, (5120 + 256) / 10_240, (5120 + 512) / 10_240]))


def test_a_format_is_told_by_its_content_whatever_the_suffix(tmp_path):
    assert shown(write(tmp_path / "a.mkv", box(b"ftyp", b"isom"), index(10)), every(0.05, 10))
    assert look(write(tmp_path / "a.txt", b"plain text")).times is None
    assert look(tmp_path / "gone.mp4").damage == "is missing"


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
    assert look(write(tmp_path / "a.mp4", *content)).damage is None


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
    assert str(look(write(tmp_path / "a.mp4", *content)).damage).startswith("truncated: ")


def test_an_mp4_whose_recorder_was_killed_has_no_index(tmp_path):
    path = write(tmp_path / "a.mp4", box(b"ftyp", b"isom"), struct.pack(">I4s", 0, b"mdat"), bytes(500))
    assert look(path).damage == "has no index (moov): its recording was not finished"


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
    assert look(path).damage is None
    assert np.array_equal(np.array(list(read_video(path))), frames)


@pytest.mark.parametrize("share", [0.5, 0.95])
def test_a_matroska_stream_that_ends_within_a_cluster_is_truncated(tmp_path, noise, write_video, share):
    path = write_video(tmp_path / "a.mkv", noise(20, size=64))
    content = stream(path)
    path.write_bytes(content[: int(share * len(content))])
    assert str(look(path).damage).startswith("truncated: ")


def test_an_avi_of_several_parts_is_whole_when_the_last_is(tmp_path):
    part = struct.pack("<4sI4s", b"RIFF", 104, b"AVIX") + bytes(100)
    assert look(write(tmp_path / "a.avi", part, part)).damage is None
    assert look(write(tmp_path / "a.avi", part, part[:-50])).damage == "truncated: 174 of 224 bytes"
    # the size stays 0 while the recorder runs: what is there is read
    assert look(write(tmp_path / "a.avi", b"RIFF" + bytes(100))).damage is None


def gif(*delays: int) -> bytes:
    """Pictures of 2 x 2 points in one of two colours, each shown for so many hundredths of a second."""
    picture = b"\x2c" + struct.pack("<4HB", 0, 0, 2, 2, 0) + b"\2" + b"\3\x84\x8f\x05" + b"\0"
    shown = b"".join(b"\x21\xf9\4" + struct.pack("<BHB", 0, delay, 0) + b"\0" + picture for delay in delays)
    return b"GIF89a" + struct.pack("<HHBBB", 2, 2, 0x80, 0, 0) + bytes(3) + b"\xff" * 3 + shown


def test_a_gif_tells_how_long_each_picture_stays(tmp_path):
    # FFmpeg and browsers show a picture of no duration for a tenth of a second
    assert shown(write(tmp_path / "a.gif", gif(5, 20, 0, 5), b";"), [0, 0.05, 0.25, 0.35])


def test_a_gif_may_be_padded_but_must_end(tmp_path):
    assert look(write(tmp_path / "a.gif", gif(5, 5), b"\0;", bytes(300))).damage is None
    assert look(write(tmp_path / "a.gif", gif(5, 5))).damage == "truncated: the GIF has no end mark"
    assert look(write(tmp_path / "a.gif", gif(5, 5)[:-3])).damage == "truncated: the GIF has no end mark"
    assert look(write(tmp_path / "a.gif", gif(5), b"\xaa;")).damage == "damaged: byte 43 begins no block of a GIF"


def test_structures_that_never_end_cost_neither_memory_nor_the_stack(tmp_path):
    """A few kilobytes may announce lists within lists, and fragments of millions of samples that take no room."""
    lists = b""
    for _ in range(3000):
        lists = struct.pack("<4sI4s", b"LIST", 4 + len(lists), b"rec ") + lists
    movie = struct.pack("<4sI4s", b"LIST", 4 + len(lists), b"movi") + lists
    assert look(write(tmp_path / "a.avi", struct.pack("<4sI4s", b"RIFF", 4 + len(movie), b"AVI "), movie)).times is None
    head, run = box(b"tfhd", struct.pack(">IIQI", 0x9, 0, 0, 256)), box(b"trun", struct.pack(">III", 1, 9_000_000, 0))
    part = box(b"moof", box(b"traf", head, run))
    found = look(write(tmp_path / "a.mp4", box(b"ftyp", b"isom"), index(0, stts=[]), part, part))
    assert found.damage == "damaged: its index contradicts itself (more samples than a recording has)"
