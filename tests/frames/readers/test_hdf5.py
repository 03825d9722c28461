import os
import re
import sys
import tracemalloc

import cv2
import h5py
import numpy as np
import pytest

from foundation.errors import UserError
from frames import FrameStore
from frames.building.build import build_store
from frames.readers import BadRecording, find_recordings
from frames.readers.hdf5 import FACTORS, IMAGES, MASKS
from frames.scenes.factors import has_factors


def scene(count, seed=0, objects=3, size=16):
    random = np.random.default_rng(seed)
    return {
        IMAGES: random.integers(0, 256, (count, size, size, 3), np.uint8),
        MASKS: random.integers(0, 2, (count, objects, size, size, 1), np.uint8) * 255,
        FACTORS: random.random((count, objects, 8), np.float32),
    }


@pytest.fixture
def write_hdf5(tmp_path):
    """Write groups of arrays; the group "" is the file itself."""

    def write(groups, name="scenes.h5", **options):
        with h5py.File(tmp_path / name, "w") as file:
            for group, arrays in groups.items():
                for key, array in arrays.items():
                    file.create_dataset(f"{group}/{key}", data=array, **options)
        return tmp_path / name

    return write


def read(recordings):
    return np.concatenate([list(recording.frames()) for recording in recordings])


def refusal(source) -> BadRecording:
    (recording,) = find_recordings(source)
    with pytest.raises(BadRecording) as raised:
        list(recording.frames())
    return raised.value


@pytest.mark.parametrize("options", [{}, {"compression": "gzip", "shuffle": True, "chunks": True}])
def test_groups_are_splits_and_masks_and_factors_go_along(write_hdf5, tmp_path, options):
    groups = {"train": scene(7, 1), "val": scene(3, 2), "test": scene(2, 3)}
    write_hdf5(groups, **options)
    recordings = find_recordings(tmp_path)
    assert [(recording.name, recording.split) for recording in recordings] == [
        ("scenes.h5/test/000000", "test"),
        ("scenes.h5/train/000000", "train"),
        ("scenes.h5/val/000000", "val"),
    ]
    for recording in recordings:
        arrays = groups[recording.split]
        assert recording.expected_frames() == len(arrays[IMAGES])
        assert not recording.ordered
        assert np.array_equal(read([recording]), arrays[IMAGES])
        found = recording.arrays()
        assert np.array_equal(found["observation.masks"], arrays[MASKS])
        assert np.array_equal(found["observation.factors"], arrays[FACTORS])
        assert found["observation.factors"].dtype == np.float32


def test_a_file_without_groups_and_with_pictures_alone_is_read(write_hdf5, tmp_path):
    images = scene(5)[IMAGES]
    write_hdf5({"": {IMAGES: images}}, "my scenes é.hdf5")
    (recording,) = find_recordings(tmp_path)
    assert (recording.name, recording.split) == ("my scenes é.hdf5/000000", None)
    assert np.array_equal(read([recording]), images)
    assert recording.arrays() == {}


def test_episodes_are_short_enough_for_their_masks_and_together_hold_every_picture(write_hdf5, tmp_path, monkeypatch):
    arrays = scene(25)
    write_hdf5({"train": arrays})
    monkeypatch.setattr("frames.readers.hdf5.EPISODE_IMAGES", 10)
    monkeypatch.setattr("frames.readers.hdf5._SLICE_BYTES", 3000)
    recordings = find_recordings(tmp_path)
    assert [recording.name[-6:] for recording in recordings] == ["000000", "000010", "000020"]
    assert np.array_equal(read(recordings), arrays[IMAGES])
    monkeypatch.setattr("frames.readers.hdf5.EPISODE_BYTES", 4 * 3 * 16 * 16)
    recordings = find_recordings(tmp_path)
    assert [recording.count for recording in recordings] == [4] * 6 + [1]
    assert np.array_equal(np.concatenate([recording.arrays()["observation.masks"] for recording in recordings]), arrays[MASKS])


def test_a_build_brings_masks_to_the_size_of_the_pictures(write_hdf5, tmp_path):
    groups = {"train": scene(6, 1), "test": scene(4, 2)}
    (tmp_path / "source").mkdir()
    os.rename(write_hdf5(groups), tmp_path / "source" / "scenes.h5")
    summary = build_store(tmp_path / "source", tmp_path / "store", frame_size=(8, 8))
    store = FrameStore(tmp_path / "store")
    assert summary.left_out == []
    assert store.frame_shape == (8, 8, 3)
    for episode in store.episodes:
        # the middle of each pixel lies in the second of two
        assert np.array_equal(store.array(episode, "observation.masks"), groups[episode.split][MASKS][:, :, 1::2, 1::2])
        assert np.array_equal(store.array(episode, "observation.factors"), groups[episode.split][FACTORS])


def test_clevr_s_window_is_cut_out_of_pictures_and_masks_alike(tmp_path):
    random = np.random.default_rng(0)
    pictures = random.integers(0, 256, (2, 240, 320, 3), np.uint8)
    masks = random.integers(0, 2, (2, 11, 240, 320, 1), np.uint8) * 255
    (tmp_path / "source").mkdir()
    with h5py.File(tmp_path / "source" / "clevr6.h5", "w") as file:
        file["test/imgs"], file["test/masks"] = pictures, masks
    window = (29, 64, 192, 192)
    build_store(tmp_path / "source", tmp_path / "same", frame_size=(192, 192), window=window)
    same = FrameStore(tmp_path / "same")
    assert np.array_equal(same.frames([0, 1]), pictures[:, 29:221, 64:256])
    assert np.array_equal(same.array(0, "observation.masks"), masks[:, :, 29:221, 64:256])
    build_store(tmp_path / "source", tmp_path / "half", frame_size=(96, 96), window=window)
    half = FrameStore(tmp_path / "half")
    areas = pictures[:, 29:221, 64:256].reshape(2, 96, 2, 96, 2, 3).mean((2, 4))
    assert np.abs(half.frames([0, 1]) - areas).max() <= 0.5
    assert np.array_equal(half.array(0, "observation.masks"), masks[:, :, 30:221:2, 65:256:2])
    with pytest.raises(UserError, match="of another part of the pictures; append with --window 29 64 192 192"):
        build_store(tmp_path / "source", tmp_path / "half", frame_size=(96, 96), append=True)
    with pytest.raises(UserError, match=r"made with window = .*, not None"):
        build_store(tmp_path / "source", tmp_path / "half", frame_size=(96, 96))
    with pytest.raises(UserError, match="320 x 240 do not have all of the window, rows 100 to 291"):
        build_store(tmp_path / "source", tmp_path / "none", window=(100, 64, 192, 192))
    with pytest.raises(UserError, match="window -1 0 8 8: give"):
        build_store(tmp_path / "source", tmp_path / "none", window=(-1, 0, 8, 8))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({IMAGES: np.zeros((4, 16, 16, 3), np.float32)}, "'imgs' holds float32"),
        ({IMAGES: np.zeros((4, 16, 16), np.uint8)}, r"'imgs' holds uint8 \(4, 16, 16\)"),
        ({IMAGES: np.zeros((5, 16, 16, 3), np.uint8)}, "'masks' .* does not go with 5 pictures"),
        ({MASKS: np.zeros((4, 3, 8, 8, 1), np.uint8)}, "'masks' .* does not go with 4 pictures of 16 x 16"),
        ({FACTORS: np.zeros((4, 3))}, "'factors' .* does not go"),
        ({FACTORS: np.array([[["a"]]] * 4, h5py.string_dtype())}, "'factors' holds object"),
        ({IMAGES: h5py.Empty("u1")}, "'imgs' holds uint8, not numbers|announces"),
    ],
)
def test_arrays_that_do_not_fit_say_which(write_hdf5, tmp_path, changed, message):
    write_hdf5({"train": {**scene(4), **changed}})
    error = refusal(tmp_path)
    assert error.fault
    assert re.search(message, str(error))


def test_links_and_data_in_other_files_are_not_followed(write_hdf5, tmp_path):
    elsewhere = write_hdf5({"train": scene(4)}, "elsewhere.data")
    for number, link in enumerate([h5py.ExternalLink(str(elsewhere), "/train/imgs"), h5py.SoftLink("/train/imgs")]):
        folder = tmp_path / str(number)
        folder.mkdir()
        with h5py.File(folder / "a.h5", "w") as file:
            file.create_group("test")["imgs"] = link
        assert "a link to another place" in str(refusal(folder))
    (tmp_path / "raw").mkdir()
    with h5py.File(tmp_path / "raw" / "a.h5", "w") as file:
        file.create_dataset("imgs", (1, 8, 8, 3), "u1", external=[(str(elsewhere), 0, 192)])
    assert "stored in other files" in str(refusal(tmp_path / "raw"))
    (tmp_path / "virtual").mkdir()
    with h5py.File(tmp_path / "virtual" / "a.h5", "w") as file:
        layout = h5py.VirtualLayout((4, 16, 16, 3), "u1")
        layout[:] = h5py.VirtualSource(str(elsewhere), "train/imgs", (4, 16, 16, 3))
        file.create_virtual_dataset("imgs", layout)
    assert "stored in other files" in str(refusal(tmp_path / "virtual"))


def test_pictures_that_were_never_written_are_not_made_up(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("imgs", (10**9, 64, 64, 3), "u1", chunks=(1, 64, 64, 3))
    assert "announces 12,288,000,000,000 bytes" in str(refusal(tmp_path))


def test_a_chunk_that_would_fill_the_memory_is_refused(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        images = file.create_dataset("imgs", (100_000, 64, 64, 3), "u1", chunks=(100_000, 64, 64, 3), compression="gzip")
        images.id.write_direct_chunk((0, 0, 0, 0), bytes(2 << 20))
    tracemalloc.start()
    assert "chunks" in str(refusal(tmp_path))
    assert tracemalloc.get_traced_memory()[1] < 10 << 20
    tracemalloc.stop()


def test_a_filter_that_would_be_loaded_as_a_library_is_refused(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        properties.set_chunk((1, 8, 8, 3))
        properties.set_filter(32008, h5py.h5z.FLAG_OPTIONAL, ())
        space = h5py.h5s.create_simple((1, 8, 8, 3))
        dataset = h5py.h5d.create(file.id, b"imgs", h5py.h5t.NATIVE_UINT8, space, properties)
        h5py.Dataset(dataset).id.write_direct_chunk((0, 0, 0, 0), bytes(192))
    assert "filter 32008" in str(refusal(tmp_path))


def test_files_of_another_program_are_no_fault_and_damaged_ones_are(write_hdf5, tmp_path):
    content = write_hdf5({"train": scene(20)}, "good.data").read_bytes()
    write_hdf5({"model": {"weights": np.zeros(5)}, "train": {"labels": np.zeros(5)}}, "other.h5")
    (tmp_path / "cut.h5").write_bytes(content[: len(content) // 2])
    (tmp_path / "empty.h5").write_bytes(b"")
    (tmp_path / "text.h5").write_bytes(b"text")
    os.symlink(tmp_path / "loop.h5", tmp_path / "loop.h5")
    os.mkfifo(tmp_path / "pipe.h5")
    messages = {
        "cut.h5": "truncated",
        "empty.h5": "an empty file",
        "loop.h5": "is no file",
        "other.h5": "another program: it has no 'imgs'",
        "pipe.h5": "is no file",
        "text.h5": "cannot be read as HDF5",
    }
    recordings = find_recordings(tmp_path)
    assert [recording.name for recording in recordings] == list(messages)
    for recording in recordings:
        with pytest.raises(BadRecording, match=messages[recording.name]) as raised:
            list(recording.frames())
        assert raised.value.fault == (recording.name != "other.h5")


def test_without_h5py_the_remedy_is_named(write_hdf5, tmp_path, monkeypatch):
    write_hdf5({"train": scene(2)})
    monkeypatch.setitem(sys.modules, "h5py", None)
    assert "pip install h5py" in str(refusal(tmp_path))


def outcome_of_reading(source, expected) -> str:
    try:
        for recording in find_recordings(source):
            found = read([recording])
            recording.arrays()
            if not np.array_equal(found, expected[recording.split]):
                return "other frames"
        return "intact"
    except BadRecording:
        return "refused"


def test_a_damaged_file_never_kills_its_reader(write_hdf5, tmp_path):
    groups = {"train": scene(10, size=8), "test": scene(4, size=8)}
    content = write_hdf5(groups, compression="gzip", shuffle=True, fletcher32=True).read_bytes()
    expected = {split: arrays[IMAGES] for split, arrays in groups.items()}
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            for number in range(120):
                random = np.random.default_rng(number)
                damaged = bytearray(content)
                damaged[random.integers(len(content))] ^= 1 << random.integers(8)
                (tmp_path / "scenes.h5").write_bytes(damaged if number % 4 else damaged[: random.integers(len(content))])
                os.write(writing, f"{outcome_of_reading(tmp_path, expected)}\n".encode())
        except BaseException as error:
            os.write(writing, f"{error!r}\n".encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as report:
        outcomes = report.read().splitlines()
    assert os.waitpid(child, 0)[1] == 0
    assert len(outcomes) == 120
    # a checksum tells damaged pixels, but not that the table of chunks names another chunk
    assert {"refused", "intact"} <= set(outcomes) <= {"refused", "intact", "other frames"}
    assert outcomes.count("other frames") < 5


def test_pictures_beside_a_file_do_not_cost_the_store_its_masks(write_hdf5, tmp_path):
    (tmp_path / "source").mkdir()
    os.rename(write_hdf5({"train": scene(6)}), tmp_path / "source" / "scenes.h5")
    cv2.imwrite(str(tmp_path / "source" / "sample.png"), scene(1)[IMAGES][0])
    summary = build_store(tmp_path / "source", tmp_path / "store", frame_size=(16, 16))
    assert has_factors(FrameStore(summary.path))
    assert [(entry.name, entry.frames, entry.fault) for entry in summary.left_out] == [("source (pictures)", 1, False)]
