import os
import struct
import zlib

import cv2
import numpy as np
import pytest

from frames.readers import BadRecording, find_recordings
from frames.readers.pictures import decode_picture


def encode(frame: np.ndarray, suffix: str = ".png") -> bytes:
    return cv2.imencode(suffix, frame[..., ::-1])[1].tobytes()


def png_of(width: int, height: int) -> bytes:
    """A PNG of a few bytes that announces any size."""
    parts = ((b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)), (b"IDAT", zlib.compress(b"")), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content)) for name, content in parts
    )


def test_a_folder_of_pictures_is_one_unordered_recording(tmp_path, noise):
    frames = noise(4)
    for number, frame in enumerate(frames):
        (tmp_path / f"{number} é.PNG").write_bytes(encode(frame))
    (recording,) = find_recordings(tmp_path)
    assert not recording.ordered
    assert recording.expected_frames() == 4
    assert np.array_equal(np.array(list(recording.frames())), frames)
    assert recording.skipped == []


def test_pictures_that_do_not_decode_are_named_one_by_one(tmp_path, noise):
    frames, whole = noise(2), encode(noise(1)[0], ".jpg")
    for number, frame in enumerate(frames):
        (tmp_path / f"{number}.png").write_bytes(encode(frame))
    broken = {
        "a.png": (b"no picture", "is neither a PNG nor a JPEG"),
        "b.png": (b"", "an empty file"),
        "c.png": (encode(frames[0])[:-30], "truncated: the PNG has no end mark"),
        "d.jpg": (whole[: len(whole) // 2 + 200], "truncated: the JPEG has no end mark"),
        "e.png": (encode(frames[0]).replace(b"IDAT", b"JDAT"), "does not decode as a picture"),
        "f.png": (png_of(30_000, 30_000), "announces 30000 x 30000 pixels, larger than 8K"),
        # OpenCV makes room for 2 GiB
        "k.png": (encode(frames[0])[:33] + b"\x7f\xff\xff\xff" + encode(frames[0])[37:], "truncated: the PNG has no end mark"),
        "g.jpg": (b"\xff\xd8\xff\xff\xff", "does not decode as a picture"),
    }
    for name, (content, _) in broken.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "h.png").symlink_to("gone.png")
    os.mkfifo(tmp_path / "i.png")
    (recording,) = find_recordings(tmp_path)
    expected = {name: reason for name, (_, reason) in broken.items()}
    expected |= {"h.png": "cannot be read (No such file or directory)", "i.png": "an empty file"}
    # twice: a recording may be read again
    for _ in range(2):
        assert np.array_equal(np.array(list(recording.frames())), frames)
        assert dict(recording.skipped) == {f"{tmp_path.name}/{name}": reason for name, reason in expected.items()}
        assert len(recording.skipped) == len(expected)


def test_a_folder_without_a_sound_picture_is_refused(tmp_path):
    (tmp_path / "a.png").write_bytes(b"no picture")
    (recording,) = find_recordings(tmp_path)
    with pytest.raises(BadRecording, match=r"no picture decodes \(is neither a PNG nor a JPEG\)"):
        list(recording.frames())


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_grey_pictures_become_rgb(suffix):
    grey = np.full((20, 30), 77, np.uint8)
    picture = decode_picture(cv2.imencode(suffix, grey)[1].tobytes())
    assert picture.shape == (20, 30, 3)
    assert (picture == 77).all()


def test_transparent_and_16_bit_pictures_become_8_bit_rgb(noise):
    frame = noise(1)[0]
    transparent = np.dstack([frame[..., ::-1], np.full(frame.shape[:2], 9, np.uint8)])
    assert np.array_equal(decode_picture(cv2.imencode(".png", transparent)[1].tobytes()), frame)
    deep = frame[..., ::-1].astype(np.uint16) * 256
    assert np.array_equal(decode_picture(cv2.imencode(".png", deep)[1].tobytes()), frame)


def test_a_jpegs_size_is_found_behind_its_tables(noise):
    # a progressive one has another marker for its frame, restart intervals a table more before it
    for options in ([cv2.IMWRITE_JPEG_PROGRESSIVE, 1], [cv2.IMWRITE_JPEG_RST_INTERVAL, 1], [cv2.IMWRITE_JPEG_OPTIMIZE, 1]):
        content = cv2.imencode(".jpg", np.full((40, 24, 3), 128, np.uint8), options)[1].tobytes()
        assert decode_picture(content).shape == (40, 24, 3)


def test_genuine_stills_decode(real_recordings):
    (recording,) = find_recordings(real_recordings / "test" / "human64-stills")
    assert len(list(recording.frames())) == 68
    assert recording.skipped == []
