import os
import shutil

import cv2
import lmdb
import numpy as np
import pytest

from foundation.errors import UserError
from frames import FrameStore
from frames.building.build import build_store
from frames.readers import BadRecording, find_recordings


@pytest.fixture
def write_lmdb(tmp_path):
    """Write an LMDB of these values, under 0, 1, ... unless they come with keys; as a folder or a single file."""

    def write(values, name="train.lmdb", subdir=True):
        entries = values if isinstance(values, dict) else {b"%d" % number: value for number, value in enumerate(values)}
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with lmdb.open(str(path), map_size=1 << 24, subdir=subdir, sync=False) as environment, environment.begin(write=True) as transaction:
            for key, value in entries.items():
                transaction.put(key, value)
        return path

    return write


def raw(frames):
    return [frame.tobytes() for frame in frames]


def encoded(frames, suffix):
    return [cv2.imencode(suffix, frame[..., ::-1])[1].tobytes() for frame in frames]


def read(source):
    (recording,) = find_recordings(source)
    return recording, np.array(list(recording.frames()))


@pytest.mark.parametrize(("subdir", "size"), [(True, 16), (False, 64)])
def test_raw_values_are_frames_in_the_order_of_their_numbers(tmp_path, noise, write_lmdb, subdir, size):
    frames = noise(25, size=size)
    write_lmdb(raw(frames), subdir=subdir)
    recording, found = read(tmp_path)
    assert np.array_equal(found, frames)
    assert recording.name == "train.lmdb"
    assert recording.expected_frames() == 25
    assert not recording.ordered
    assert recording.skipped == []


def test_png_and_jpeg_values_are_decoded(tmp_path, noise, write_lmdb):
    smooth = np.stack([cv2.resize(frame, (64, 64)) for frame in noise(3, size=2)])
    write_lmdb(encoded(smooth, ".png"), "a/png.lmdb")
    write_lmdb(encoded(smooth, ".jpg"), "b/jpg.lmdb")
    assert np.array_equal(read(tmp_path / "a")[1], smooth)
    assert np.abs(read(tmp_path / "b")[1].astype(int) - smooth).max() < 24


def test_the_name_says_the_split(noise, write_lmdb, tmp_path):
    for number, name in enumerate(["train.lmdb", "validation.lmdb", "test.lmdb", "valley.lmdb"]):
        write_lmdb(raw(noise(2, seed=number)), name)
    splits = {recording.name: recording.split for recording in find_recordings(tmp_path)}
    assert splits == {"train.lmdb": "train", "validation.lmdb": "val", "test.lmdb": "test", "valley.lmdb": None}


def test_values_that_are_no_pictures_are_named_and_the_others_go_in(tmp_path, noise, write_lmdb):
    frames = noise(4)
    pictures = raw(frames)
    write_lmdb({b"0": pictures[0], b"1": pictures[1][:-3], b"2": b"", b"3": pictures[3], b"size": b"4", b"4\x1b": b"x"})
    recording, found = read(tmp_path)
    assert np.array_equal(found, frames[[0, 3]])
    skipped = dict(recording.skipped)
    assert sorted(skipped) == ["train.lmdb/1", "train.lmdb/2", "train.lmdb/4\\x1b", "train.lmdb/size"]
    assert "765 bytes are no raw" in skipped["train.lmdb/1"]
    assert "key" in skipped["train.lmdb/size"]


def test_damaged_pictures_are_named_and_not_taken_for_raw_ones(tmp_path, noise, write_lmdb):
    frames = noise(4)
    values = encoded(frames, ".png")
    values[1] = values[1][: 3 * 8 * 8]
    values[2] = raw(frames)[2]
    write_lmdb(values)
    recording, found = read(tmp_path)
    assert np.array_equal(found, frames[[0, 3]])
    assert [name for name, _ in recording.skipped] == ["train.lmdb/1", "train.lmdb/2"]


def test_a_block_that_the_disk_lost_costs_its_own_picture_alone(tmp_path, noise, write_lmdb):
    frames = noise(6, size=64)
    data = write_lmdb(raw(frames)) / "data.mdb"
    content = data.read_bytes()
    block = content.index(frames[2].tobytes()) // 4096 * 4096
    data.write_bytes(content[:block] + bytes(4096) + content[block + 4096 :])
    recording, found = read(tmp_path)
    assert np.array_equal(found, frames[[0, 1, 3, 4, 5]])
    assert recording.skipped == [("train.lmdb/2", "its pages are lost or damaged")]


@pytest.mark.parametrize(
    ("entries", "message", "fault"),
    [
        ({b"key": b"value"}, "its keys, such as key, are no numbers", False),
        ({}, "it is empty", False),
        ({b"0": b"value", b"1": b"more"}, "none of its 2 values is a picture", True),
    ],
)
def test_an_lmdb_of_another_program_says_what_it_holds(tmp_path, write_lmdb, entries, message, fault):
    write_lmdb(entries)
    with pytest.raises(BadRecording, match=message) as raised:
        read(tmp_path)
    assert raised.value.fault == fault


def test_named_databases_are_refused_and_are_no_fault(tmp_path):
    with lmdb.open(str(tmp_path / "other.lmdb"), max_dbs=1) as environment:
        environment.open_db(b"0")
    with pytest.raises(BadRecording, match="another program") as raised:
        read(tmp_path)
    assert not raised.value.fault


def test_a_frame_store_among_the_recordings_is_passed_over(tmp_path, noise, write_lmdb, write_store):
    store = write_store({"a": noise(3)}, path=tmp_path / "source" / "store")
    write_lmdb(raw(noise(2)), "source/train.lmdb")
    assert [recording.name for recording in find_recordings(tmp_path / "source")] == ["train.lmdb"]
    with pytest.raises(UserError, match=r"^\S+: is a frame store; give the folder of your recordings$"):
        find_recordings(store.path)


def test_damaged_and_empty_files_and_loops_are_left_out_with_the_reason(tmp_path, noise, write_lmdb):
    content = (write_lmdb(raw(noise(80)), "good.lmdb") / "data.mdb").read_bytes()
    names = {"cut.lmdb": content[: len(content) // 2], "empty.lmdb": b"", "text.lmdb": b"text " * 2000}
    for name, part in names.items():
        (tmp_path / name).write_bytes(part)
    os.symlink(tmp_path / "loop.lmdb", tmp_path / "loop.lmdb")
    os.symlink(tmp_path, tmp_path / "above.lmdb")
    recordings = {recording.name: recording for recording in find_recordings(tmp_path)}
    assert sorted(recordings) == sorted([*names, "good.lmdb", "loop.lmdb"])
    reasons = {"cut.lmdb": "truncated", "empty.lmdb": "too short", "text.lmdb": "not an LMDB", "loop.lmdb": "cannot be read"}
    for name, message in reasons.items():
        with pytest.raises(BadRecording, match=message):
            list(recordings[name].frames())


def test_names_may_have_spaces_and_any_bytes(tmp_path, noise, write_lmdb):
    frames = noise(3)
    folder = write_lmdb(raw(frames))
    for name in ("my pictures é.lmdb", os.fsdecode(b"\xff\xfe.lmdb")):
        shutil.copytree(folder, tmp_path / "many" / name)
    for recording in find_recordings(tmp_path / "many"):
        assert np.array_equal(np.array(list(recording.frames())), frames)


def test_every_flipped_bit_is_refused_or_leaves_all_but_the_pictures_alone(tmp_path, noise, write_lmdb):
    frames = noise(60, size=8)
    data = write_lmdb(raw(frames)) / "data.mdb"
    content = data.read_bytes()
    random = np.random.default_rng(0)
    outcomes = {"refused": 0, "whole": 0, "other pixels": 0}
    for _ in range(200):
        damaged = bytearray(content)
        damaged[random.integers(len(content))] ^= 1 << random.integers(8)
        data.write_bytes(damaged)
        try:
            found = read(tmp_path)[1]
        except BadRecording:
            outcomes["refused"] += 1
            continue
        if len(found) == 59:
            continue
        wrong = (found != frames).any(axis=(1, 2, 3)).sum()
        assert wrong <= 1
        outcomes["other pixels" if wrong else "whole"] += 1
    assert min(outcomes.values()) > 0


def test_a_build_keeps_the_splits_and_lists_what_is_left_out(tmp_path, noise, write_lmdb):
    train, val = noise(40, seed=1), noise(10, seed=2)
    write_lmdb([*raw(train), b"no picture"], "source/train.lmdb")
    write_lmdb(raw(val), "source/validation.lmdb")
    summary = build_store(tmp_path / "source", tmp_path / "store", frame_size=(16, 16))
    store = FrameStore(summary.path)
    assert {episode.name: (episode.length, episode.split) for episode in store.episodes} == {
        "train.lmdb": (40, "train"),
        "validation.lmdb": (10, "val"),
    }
    assert np.array_equal(store.frames(store.indices("train")), train)
    assert [entry.name for entry in summary.left_out] == ["train.lmdb/40"]


def test_pictures_in_the_folder_of_an_lmdb_cost_it_nothing(tmp_path, noise, write_lmdb):
    frames = noise(6)
    folder = write_lmdb(raw(frames), "source/train.lmdb")
    (folder / "sample.png").write_bytes(encoded(noise(1, 1), ".png")[0])
    summary = build_store(tmp_path / "source", tmp_path / "store", frame_size=(16, 16))
    store = FrameStore(summary.path)
    assert np.array_equal(store.frames(range(len(store))), frames)
    assert [(entry.name, entry.frames, entry.fault) for entry in summary.left_out] == [("train.lmdb (pictures)", 1, False)]
