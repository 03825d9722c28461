import os
import shutil

import cv2
import numpy as np
import pytest

from frames.readers import BadRecording, find_recordings


def read(recording):
    return np.array(list(recording.frames()))


@pytest.mark.parametrize("order", ["C", "F"])
def test_pictures_are_one_unordered_recording(tmp_path, noise, order, monkeypatch):
    monkeypatch.setattr("frames.readers.npy._SLICE_BYTES", 5000)
    frames = noise(20)
    np.save(tmp_path / "some pictures é.npy", np.asarray(frames, order=order))
    (recording,) = find_recordings(tmp_path)
    assert recording.name == "some pictures é.npy"
    assert not recording.ordered
    assert recording.expected_frames() == 20
    assert np.array_equal(read(recording), frames)


@pytest.mark.parametrize("order", ["C", "F"])
def test_every_clip_is_an_ordered_recording(tmp_path, noise, order):
    clips = noise(12).reshape(3, 4, 16, 16, 3)
    np.save(tmp_path / "clips.npy", np.asarray(clips, order=order))
    recordings = find_recordings(tmp_path)
    assert [recording.name for recording in recordings] == ["clips.npy/000000", "clips.npy/000001", "clips.npy/000002"]
    assert all(recording.ordered and recording.expected_frames() == 4 for recording in recordings)
    assert np.array_equal(np.stack([read(recording) for recording in recordings]), clips)


def test_frames_outlive_the_file(tmp_path, noise):
    frames = noise(5)
    np.save(tmp_path / "a.npy", frames)
    (recording,) = find_recordings(tmp_path)
    held = list(recording.frames())
    os.truncate(tmp_path / "a.npy", 128)
    assert np.array_equal(held, frames)


def test_the_file_name_says_the_split(tmp_path, noise):
    for name in ("train", "val", "TEST", "level"):
        np.save(tmp_path / f"{name}.npy", noise(1))
    splits = {recording.name: recording.split for recording in find_recordings(tmp_path)}
    assert splits == {"train.npy": "train", "val.npy": "val", "TEST.npy": "test", "level.npy": None}


def test_a_file_that_is_cut_while_it_is_read_is_refused(tmp_path, noise, monkeypatch):
    monkeypatch.setattr("frames.readers.npy._SLICE_BYTES", 5000)
    frames = noise(200)
    np.save(tmp_path / "a.npy", frames)
    found = find_recordings(tmp_path)[0].frames()
    assert np.array_equal(next(found), frames[0])
    os.truncate(tmp_path / "a.npy", 10_000)
    with pytest.raises(BadRecording, match="cut while it was read"):
        list(found)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((2, 8, 8, 3), np.float32), r"float32 .* \(255 \* x\)\.round"),
        (np.zeros((2, 8, 8, 3), np.int64), r"int64 .*\.astype"),
        (np.zeros((2, 3, 8, 8), np.uint8), r"moveaxis\(x, -3, -1\)"),
        (np.zeros((2, 8, 8, 4), np.uint8), "red, green and blue"),
        (np.zeros((0, 8, 8, 3), np.uint8), "no frame"),
        (np.zeros((2, 0, 8, 8, 3), np.uint8), "no frame"),
        (np.zeros((1, 7681, 4320, 3), np.uint8), "larger than 8K"),
        (np.array([{}, None]), "Python objects"),
        (np.zeros((2, 8, 8, 3), [("r", "u1")]), "but pictures are uint8"),
    ],
)
def test_arrays_that_are_no_pictures_say_what_to_do(tmp_path, array, message):
    np.save(tmp_path / "a.npy", array)
    with pytest.raises(BadRecording, match=message) as raised:
        list(find_recordings(tmp_path)[0].frames())
    assert raised.value.fault


def test_numbers_beside_recordings_are_no_fault(tmp_path):
    np.save(tmp_path / "rewards.npy", np.zeros(100))
    (recording,) = find_recordings(tmp_path)
    with pytest.raises(BadRecording, match=r"holds float64 \(100,\): no pictures") as raised:
        list(recording.frames())
    assert not raised.value.fault


def header(shape, dtype="|u1"):
    text = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "cannot be read as .npy"),
        (b"no array at all", "cannot be read as .npy"),
        (b"\x93NUMPY\x02\x00\xff\xff\xff\x7f", "version 2.0"),
        (header("(1000000000000, 64, 64, 3)") + bytes(5000), "has 5,128 bytes where"),
        (header("(2, 8, 8, 3)") + bytes(383), "has 511 bytes where"),
        (header("(2, 8, 8, 3)") + bytes(385), "has 513 bytes where"),
        (header("(-2, 8, 8, -3)") + bytes(384), "has 512 bytes where"),
        (header("__import__('os')"), "cannot be read as .npy"),
        (header("((((((((" * 20), "cannot be read as .npy"),
    ],
)
def test_what_a_header_announces_is_checked_first(tmp_path, content, message):
    (tmp_path / "a.npy").write_bytes(content)
    (recording,) = find_recordings(tmp_path)
    with pytest.raises(BadRecording, match=message):
        list(recording.frames())


def test_loops_pipes_and_any_bytes_in_names_do_no_harm(tmp_path, noise):
    os.symlink(tmp_path / "loop.npy", tmp_path / "loop.npy")
    os.mkfifo(tmp_path / "pipe.npy")
    frames = noise(2)
    np.save(tmp_path / "a.npy", frames)
    shutil.move(tmp_path / "a.npy", tmp_path / os.fsdecode(b"\xff\xfe.npy"))
    recordings = {recording.name: recording for recording in find_recordings(tmp_path)}
    for name in ("loop.npy", "pipe.npy"):
        with pytest.raises(BadRecording, match="is no file"):
            list(recordings.pop(name).frames())
    assert np.array_equal(read(*recordings.values()), frames)


def test_a_flipped_bit_is_refused_or_changes_one_value(tmp_path, noise):
    frames = noise(3, size=8)
    np.save(tmp_path / "a.npy", frames)
    content = (tmp_path / "a.npy").read_bytes()
    refused = 0
    for bit in [*range(0, 8 * 128, 5), *range(8 * 128, 8 * len(content), 101)]:
        damaged = bytearray(content)
        damaged[bit // 8] ^= 1 << bit % 8
        (tmp_path / "a.npy").write_bytes(damaged)
        try:
            found = np.concatenate([read(recording) for recording in find_recordings(tmp_path)])
        except BadRecording:
            refused += 1
            continue
        assert found.size == frames.size
        assert (found.reshape(-1) != frames.reshape(-1)).sum() <= 1 or b"'fortran_order': False" not in damaged
    assert refused > 20


def test_pictures_beside_an_array_of_pictures_are_taken_for_thumbnails(tmp_path, noise):
    np.save(tmp_path / "train.npy", noise(3))
    cv2.imwrite(str(tmp_path / "sample.png"), noise(1)[0])
    assert [recording.name for recording in find_recordings(tmp_path)] == ["train.npy"]
