"""Videos whose frames are not evenly spaced: sound ones go in whole, at the rate of their times, and what is missing from them is told."""

import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from frames import FrameStore, build_store
from frames.curation.cleaning import Cleaning
from frames.readers import BadRecording
from frames.readers.containers import look
from frames.readers.decoding import count_frames, read_rate, read_video

# ticks of 50 ms: a recorder that drops repeated frames saw nothing move for a while, twice
TICKS = np.array([*range(12), *range(90, 100), *range(1500, 1504)])
SEGMENT, CLUSTER, TRACKS, BLOCK = 0x18538067, 0x1F43B675, 0x1654AE6B, 0xA3


def elements(content: bytes, at: int = 0) -> Iterator[tuple[int, bytes, int]]:
    """Identity, content and end of the elements of a Matroska file that tells all lengths."""
    while at < len(content):
        wide = 9 - content[at].bit_length()
        long = 9 - content[at + wide].bit_length()
        length = int.from_bytes(content[at + wide : at + wide + long], "big") & ((1 << 7 * long) - 1)
        start = at + wide + long
        yield int.from_bytes(content[at : at + wide], "big"), content[start : start + length], start + length
        at = start + length


def element(identity: int, content: bytes, length: bytes | None = None) -> bytes:
    name = identity.to_bytes((identity.bit_length() + 7) // 8, "big")
    return name + (length or (0x10000000 | len(content)).to_bytes(4, "big")) + content


def blocks_of(video: Path) -> tuple[bytes, bytes, list[bytes]]:
    """Return an OpenCV file's EBML header, its tracks without a rate, and the payloads of its frames."""
    content = video.read_bytes()
    (_, _, end), (_, segment, _) = list(elements(content))[:2]
    parts = [(identity, inner) for identity, inner, _ in elements(segment)]
    tracks = dict(parts)[TRACKS]
    at = tracks.index(b"\x23\xe3\x83\x84")
    frames = [block[4:] for identity, inner in parts if identity == CLUSTER for kind, block, _ in elements(inner) if kind == BLOCK]
    return content[:end], tracks[:at] + b"\xec\x86" + bytes(6) + tracks[at + 8 :], frames


def matroska(path: Path, video: Path, times: np.ndarray, stream: bool) -> Path:
    """Write the frames of a video with other times, in ms; as a stream, no length of a segment or cluster is told, as browsers record."""
    head, tracks, frames = blocks_of(video)
    unknown = b"\x01" + b"\xff" * 7 if stream else None
    clusters, began, inner = [], None, b""
    for number, (time, frame) in enumerate(zip(times.tolist(), frames, strict=True)):
        # the time in a block has 16 bits
        if began is None or number % 5 == 0 or time - began > 30_000:
            clusters.append(inner)
            began, inner = time, element(0xE7, time.to_bytes(8, "big"))
        inner += element(BLOCK, b"\x81" + struct.pack(">h", time - began) + b"\x80" + frame)
    movie = b"".join(element(CLUSTER, cluster, unknown) for cluster in [*clusters[1:], inner])
    info = element(0x1549A966, element(0x2AD7B1, (1_000_000).to_bytes(3, "big")))
    path.write_bytes(head + element(SEGMENT, info + element(TRACKS, tracks) + movie, unknown))
    return path


def mp4(path: Path, video: Path, times: np.ndarray) -> Path:
    """Give the frames of an OpenCV mp4, whose index is at its end, other times in ms."""
    content = video.read_bytes()
    scale_at = content.index(b"mdhd") + 16
    scale = struct.unpack_from(">I", content, scale_at)[0]
    durations = np.append(np.diff(times), 50) * scale // 1000
    rows = b"".join(struct.pack(">II", 1, duration) for duration in durations)
    table = struct.pack(">I4sII", 16 + len(rows), b"stts", 0, len(durations)) + rows
    at = content.index(b"stts") - 4
    old = struct.unpack_from(">I", content, at)[0]
    changed = bytearray(content[:at] + table + content[at + old :])
    for kind in (b"moov", b"trak", b"mdia", b"minf", b"stbl"):
        place = content.index(kind) - 4
        struct.pack_into(">I", changed, place, struct.unpack_from(">I", content, place)[0] + len(table) - old)
    # the edit would end where the constant rate did: name it something else
    path.write_bytes(bytes(changed).replace(b"edts", b"free"))
    return path


def avi(path: Path, frames: list[bytes], ticks: np.ndarray, codec: bytes = b"MJPG") -> Path:
    """Write pictures of 32 x 32 into an AVI of 20 ticks/s, an empty chunk for every tick without a picture."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack("<4sI", name, len(content)) + content + bytes(len(content) % 2)

    pictures = dict(zip(ticks.tolist(), frames, strict=True))
    count = int(ticks[-1]) + 1
    main = struct.pack("<14I", 50_000, 0, 0, 0x10, count, 0, 1, 0, 32, 32, 0, 0, 0, 0)
    stream = struct.pack("<4s4s10I4h", b"vids", codec, 0, 0, 0, 1, 20, 0, count, 0, 0, 0, 0, 0, 32, 32)
    streams = chunk(
        b"LIST", b"strl" + chunk(b"strh", stream) + chunk(b"strf", struct.pack("<IiiHH4s5I", 40, 32, 32, 1, 24, codec, *[0] * 5))
    )
    movie = b"".join(chunk(b"00dc", pictures.get(tick, b"")) for tick in range(count))
    content = b"AVI " + chunk(b"LIST", b"hdrl" + chunk(b"avih", main) + streams) + chunk(b"LIST", b"movi" + movie)
    path.write_bytes(chunk(b"RIFF", content))
    return path


def jpegs(frames: np.ndarray) -> list[bytes]:
    return [cv2.imencode(".jpg", frame[..., ::-1])[1].tobytes() for frame in frames]


@pytest.fixture
def drawn(noise) -> np.ndarray:
    return noise(len(TICKS), size=32)


@pytest.fixture
def write(tmp_path, write_video, drawn) -> Callable[[str], Path]:
    """Write the same frames as a video of variable rate, by name."""
    times = 50 * TICKS

    def make(name: str) -> Path:
        path = tmp_path / name.replace(" ", "_")
        if path.suffix == ".mp4":
            return mp4(path, write_video(tmp_path / "even.mp4", drawn), times)
        if path.suffix == ".avi":
            return avi(path, jpegs(drawn), TICKS)
        if path.suffix == ".gif":
            content = cv2.Animation()
            content.frames = [np.ascontiguousarray(frame[..., ::-1]) for frame in drawn]
            content.durations = np.append(np.diff(times), 50).tolist()
            assert cv2.imwriteanimation(str(path), content)
            return path
        codec = "VP80" if path.suffix == ".webm" else "FFV1"
        return matroska(path, write_video(tmp_path / f"even{path.suffix}", drawn, codec=codec), times, stream="stream" in name)

    return make


FILES = ["a.mp4", "a.mkv", "stream.mkv", "a.webm", "stream.webm", "a.avi", "a.gif"]


@pytest.mark.parametrize("name", FILES)
def test_a_recorder_that_drops_repeated_frames_is_read_whole_at_the_rate_of_its_times(write, drawn, name):
    path = write(name)
    frames = np.array(list(read_video(path)))
    assert len(frames) == len(TICKS)
    assert np.array_equal(frames, drawn) or path.suffix in (".webm", ".avi", ".gif")
    assert count_frames(path) == len(TICKS)
    assert read_rate(path) == 20
    assert np.allclose(look(path).times, TICKS / 20)


@pytest.mark.parametrize(("steps", "rate"), [([33, 33, 34], 30), ([16, 17, 17], 60), ([33, 33, 34, 33, 2000], 30), ([50, 1000], 20)])
def test_times_rounded_to_milliseconds_give_the_rate_that_was_meant(tmp_path, noise, write_video, steps, rate):
    count = 40
    times = np.cumsum([0, *np.resize(steps, count - 1)])
    path = matroska(tmp_path / "a.webm", write_video(tmp_path / "even.webm", noise(count, size=32), codec="VP80"), times, stream=True)
    assert read_rate(path) == pytest.approx(rate, rel=0.012)


def test_a_store_of_such_videos_has_all_their_frames_and_their_rate(tmp_path, write):
    source = tmp_path / "source"
    source.mkdir()
    for name in FILES:
        write(name).rename(source / name)
    summary = build_store(source, tmp_path / "store", frame_size=(32, 32), workers=1, cleaning=Cleaning(keep_duplicates=True))
    assert summary.left_out == []
    episodes = FrameStore(summary.path).episodes
    assert {episode.name: (episode.length, episode.frames_per_second) for episode in episodes} == dict.fromkeys(FILES, (len(TICKS), 20))


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("share", [0.4, 0.97])
def test_one_that_is_cut_off_is_refused(write, name, share):
    path = write(name)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(BadRecording, match="truncated"):
        list(read_video(path))


@pytest.mark.parametrize("name", ["a.mkv", "stream.mkv", "a.avi"])
def test_frames_that_are_listed_and_do_not_decode_are_missed(write, name):
    """However few frames there are for the time that the video lasts, it is the listed ones that must decode."""
    path = write(name)
    content = bytearray(path.read_bytes())
    payloads = blocks_of(path.with_name("even.mkv"))[2] if path.suffix == ".mkv" else pictures_of(content)
    for payload in payloads[4:9]:
        at = content.index(payload)
        content[at : at + len(payload)] = b"\xa5" * len(payload)
    path.write_bytes(content)
    with pytest.raises(BadRecording, match=rf"only \d+ of {len(TICKS)} frames decode"):
        list(read_video(path))


def pictures_of(content: bytes) -> list[bytes]:
    """Return the pictures of an AVI."""
    parts = bytes(content).split(b"00dc")[1:]
    return [part[4 : 4 + struct.unpack_from("<I", part)[0]] for part in parts if struct.unpack_from("<I", part)[0]]


def test_the_hidden_frames_of_vp8_are_no_missing_frames(tmp_path, noise, write_video):
    """An encoder stores frames that others are made of; they have a block and are not shown."""
    even = write_video(tmp_path / "even.webm", noise(8, size=32), codec="VP80")
    head, tracks, frames = blocks_of(even)
    hidden = bytes([frames[1][0] & ~0x10]) + frames[1][1:]
    blocks = [frames[0], *[one for frame in frames[1:] for one in (hidden, frame)]]
    inner = b"".join(element(BLOCK, b"\x81" + struct.pack(">h", 25 * number) + b"\0" + block) for number, block in enumerate(blocks))
    path = tmp_path / "a.webm"
    path.write_bytes(head + element(SEGMENT, element(TRACKS, tracks) + element(CLUSTER, element(0xE7, b"\0") + inner)))
    assert len(list(read_video(path))) == count_frames(path) == 8
    assert np.allclose(look(path).times, np.arange(8) / 20)


@pytest.mark.parametrize("grouped", [False, True])
def test_a_recording_that_joined_a_stream_may_begin_with_frames_that_nothing_decodes(tmp_path, noise, write_video, grouped):
    """Eight frames that lean on one from before, then a key frame and what follows: those are shown, and none of them may be missing."""
    even = write_video(tmp_path / "even.mkv", noise(1, size=32) // 2 + np.arange(20, dtype=np.uint8)[:, None, None, None], codec="MPEG")
    head, tracks, frames = blocks_of(even)
    path = tmp_path / "a.mkv"

    def write(frames: list[bytes]) -> None:
        inner = b""
        for number, frame in enumerate(frames):
            place, is_key = struct.pack(">h", 50 * number), number == 8
            if grouped:
                reference = b"" if is_key else element(0xFB, b"\xce")
                inner += element(0xA0, element(0xA1, b"\x81" + place + b"\0" + frame) + reference)
            else:
                inner += element(BLOCK, b"\x81" + place + (b"\x80" if is_key else b"\0") + frame)
        path.write_bytes(head + element(SEGMENT, element(TRACKS, tracks) + element(CLUSTER, element(0xE7, b"\0") + inner)))

    write([*frames[1:9], *frames])
    assert look(path).doubtful == 8
    assert len(list(read_video(path))) == 20
    write([*frames[1:9], frames[0], *[b"\xa5" * len(frame) for frame in frames[1:9]], *frames[9:]])
    with pytest.raises(BadRecording, match=r"only \d+ of 28 frames decode"):
        list(read_video(path))


def test_frames_that_mpeg4_passes_over_are_no_missing_frames(tmp_path, noise, write_video):
    """Xvid writes a few bytes for a frame that is the one before: nothing is shown for it."""
    skipped = b"\0\0\1\xb6\x50\0\x7f"
    frames, ticks = [picture for one in jpegs(noise(6, size=32)) for picture in (one, skipped)], np.arange(12)
    found = look(avi(tmp_path / "a.avi", frames, ticks, codec=b"XVID"))
    assert (len(found.times), found.doubtful) == (12, 6)
