import csv
import os
import struct
from pathlib import Path

import cv2
import numpy as np
import pytest

from frames.readers import BadRecording
from frames.readers.decoding import count_frames, read_rate, read_video

VIDEOS = ["a.mp4", "a.mov", "a.avi", "a.mkv", "a.gif"]


def decode(path: Path) -> np.ndarray:
    return np.array(list(read_video(path)))


def refusal(path: Path) -> str:
    with pytest.raises(BadRecording) as caught:
        list(read_video(path))
    return str(caught.value)


def chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack("<4sI", name, len(content)) + content + bytes(len(content) % 2)


def write_avi(path: Path, frames: list[np.ndarray], size: int = 64, rate: int = 20, scale: int = 1, codec: bytes = b"MJPG") -> Path:
    """Write an AVI of JPEGs whose header may say anything."""
    count = len(frames)
    main = struct.pack("<14I", 50_000, 0, 0, 0x10, count, 0, 1, 0, size, size, 0, 0, 0, 0)
    stream = struct.pack("<4s4s10I4h", b"vids", codec, 0, 0, 0, scale, rate, 0, count, 0, 0, 0, 0, 0, 64, 64)
    picture = struct.pack("<IiiHH4s5I", 40, size, size, 1, 24, codec, 0, 0, 0, 0, 0)
    streams = chunk(b"LIST", b"strl" + chunk(b"strh", stream) + chunk(b"strf", picture))
    header = chunk(b"LIST", b"hdrl" + chunk(b"avih", main) + streams)
    pictures = b"".join(chunk(b"00dc", cv2.imencode(".jpg", frame[..., ::-1])[1].tobytes()) for frame in frames)
    path.write_bytes(chunk(b"RIFF", b"AVI " + header + chunk(b"LIST", b"movi" + pictures)))
    return path


def gradient(size: int) -> np.ndarray:
    row = np.linspace(0, 255, size).astype(np.uint8)
    return np.stack(np.broadcast_arrays(row, row[:, None], np.uint8(0)), axis=-1)


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".avi", ".mkv", ".MKV"])
def test_videos_decode_to_what_was_recorded_in_rgb(tmp_path, noise, write_video, suffix):
    frames = noise(9, size=64)
    path = write_video(tmp_path / f"a film: 100 % café{suffix}", frames)
    assert np.array_equal(decode(path), frames)
    assert count_frames(path) == 9


@pytest.mark.parametrize("name", [b"caf\xe9.mp4", b"http:film.mp4", b"%03d.avi", b"-.mkv", b"a\nb.mp4", b" .mov"])
def test_any_name_that_a_file_may_have_can_be_opened(tmp_path, noise, write_video, name):
    frames = noise(4)
    path = tmp_path / os.fsdecode(name)
    write_video(tmp_path / f"film{path.suffix}", frames).rename(path)
    assert np.array_equal(decode(path), frames)
    assert count_frames(path) == 4


@pytest.mark.parametrize(("name", "codec"), [("a.webm", "VP80"), ("a.m4v", "mp4v")])
def test_other_codecs_decode_nearly_to_what_was_recorded(tmp_path, write_video, name, codec):
    frames = np.stack([gradient(64)] * 5)
    decoded = decode(write_video(tmp_path / name, frames, codec=codec))
    assert decoded.shape == frames.shape
    assert np.abs(decoded.astype(float) - frames).mean() < 6


def test_a_gif_decodes_frame_by_frame(tmp_path, write_video):
    frames = np.zeros((6, 16, 16, 3), np.uint8)
    frames[:] = np.arange(6)[:, None, None, None] * 40
    decoded = decode(write_video(tmp_path / "a.gif", frames))
    # the encoder dithers
    assert np.abs(decoded.mean(axis=(1, 2, 3)) - frames.mean(axis=(1, 2, 3))).max() <= 15


def test_frames_that_change_their_size_midway_are_scaled_to_the_first(tmp_path):
    frames = decode(write_avi(tmp_path / "a.avi", [gradient(64)] * 3 + [gradient(32)] * 2 + [gradient(128)] * 2))
    assert frames.shape == (7, 64, 64, 3)
    assert np.abs(frames.astype(float) - gradient(64)).mean(axis=(1, 2, 3)).max() < 6


@pytest.mark.parametrize("rate", [1.0, 12.5, 14.985, 59.94, 240.0])
def test_odd_rates_are_kept(tmp_path, noise, write_video, rate):
    assert read_rate(write_video(tmp_path / "a.mp4", noise(5), rate)) == pytest.approx(rate, rel=1e-3)


@pytest.mark.parametrize(("rate", "scale"), [(0, 0), (90_000, 1)])
def test_rates_that_no_recording_has_become_minerls(tmp_path, rate, scale):
    path = write_avi(tmp_path / "a.avi", [gradient(64)] * 3, rate=rate, scale=scale)
    assert read_rate(path) == 20
    assert len(decode(path)) == 3


def test_a_header_that_announces_frames_beyond_8k_is_refused(tmp_path):
    path = write_avi(tmp_path / "a.avi", [gradient(64)] * 3, size=8000, codec=b"FFV1")
    assert refusal(path) == "announces frames of 8000 x 8000 pixels, larger than 8K"


@pytest.mark.parametrize("name", VIDEOS)
@pytest.mark.parametrize("share", [0.0, 0.05, 0.3, 0.9])
def test_a_truncated_video_is_refused(tmp_path, noise, write_video, name, share):
    path = write_video(tmp_path / name, noise(12, size=32))
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    assert any(word in refusal(path) for word in ("truncated", "empty", "no index", "not open"))


def test_frames_that_the_index_of_an_mp4_counts_but_do_not_decode_are_missed(tmp_path, noise, write_video):
    path = write_video(tmp_path / "a.mp4", noise(40, size=32), codec="mp4v")
    content = bytearray(path.read_bytes())
    length = content.index(b"moov")
    content[length // 2 : length - 8] = bytes(length - 8 - length // 2)
    path.write_bytes(content)
    message = refusal(path)
    assert message.startswith("only ")
    assert message.endswith(" of 40 frames decode")


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda path: path.write_text("no video " * 1000), "does not open"),
        (lambda path: path.write_bytes(struct.pack(">I4sI4s", 16, b"ftyp", 0, b"isom") * 9), "has no index"),
        (os.mkfifo, "is no file"),
        (lambda path: path.symlink_to("gone.mp4"), "is missing"),
        (lambda path: path.mkdir(), "is no file"),
    ],
)
def test_what_is_no_video_is_refused(tmp_path, make, reason):
    make(tmp_path / "a.mp4")
    assert reason in refusal(tmp_path / "a.mp4")
    assert count_frames(tmp_path / "a.mp4") is None


@pytest.mark.parametrize("name", VIDEOS)
def test_a_flipped_bit_gives_frames_or_a_reason(tmp_path, noise, write_video, name):
    path = write_video(tmp_path / name, noise(6))
    content, random, outcomes = path.read_bytes(), np.random.default_rng(0), set()
    for place in random.integers(0, len(content), 40):
        damaged = bytearray(content)
        damaged[place] ^= 1 << random.integers(8)
        path.write_bytes(damaged)
        try:
            # a decoder paints over what it cannot read; nothing in the file could tell
            outcomes.add(decode(path).ndim)
        except BadRecording as error:
            outcomes.add(bool(str(error)))
    assert outcomes <= {4, True}


def test_genuine_videos_have_as_many_frames_as_their_headers_count(real_recordings):
    with open(real_recordings / "manifest.csv") as file:
        rows = [row for row in csv.DictReader(file) if row["file"].endswith(".mp4")]
    assert rows
    assert [count_frames(real_recordings / row["file"]) for row in rows] == [int(row["frames"]) for row in rows]
