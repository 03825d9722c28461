import numpy as np
import pytest

from frames import FrameStore, build_store
from frames.readers import BadRecording, find_recordings


def test_every_video_is_a_recording_of_its_own(tmp_path, noise, write_video):
    names = ["a.mp4", "b.MKV", "deeper/c é.avi", "deeper/d.mov"]
    for number, name in enumerate(names):
        write_video(tmp_path / name, noise(number + 3, number), rate=10)
    recordings = find_recordings(tmp_path)
    assert [recording.name for recording in recordings] == names
    for number, recording in enumerate(recordings):
        assert recording.ordered
        assert recording.expected_frames() == number + 3
        assert recording.frames_per_second() == 10
        assert np.array_equal(np.array(list(recording.frames())), noise(number + 3, number))
        assert recording.arrays() == {}


def test_a_damaged_video_is_found_and_refused(tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"")
    (recording,) = find_recordings(tmp_path)
    assert recording.expected_frames() is None
    with pytest.raises(BadRecording, match="an empty file"):
        recording.frames_per_second()
    with pytest.raises(BadRecording, match="an empty file"):
        next(iter(recording.frames()))


@pytest.mark.parametrize("names", [("train", "test"), ("train-seq100", "test-seq1000"), ("Train", "validation")])
def test_folders_below_the_source_that_are_named_after_splits_give_them(tmp_path, noise, write_video, names):
    """GQN mazes lie in train/ and test/, Moving MNIST in train-seq100/ and test-seq1000/."""
    for number, name in enumerate((*names, "more")):
        for video in range(2):
            write_video(tmp_path / "mazes" / name / f"{video}.mp4", noise(4, 10 * number + video))
    splits = {recording.name.partition("/")[0]: recording.split for recording in find_recordings(tmp_path / "mazes")}
    assert splits == {names[0]: "train", names[1]: "val" if names[1] == "validation" else "test", "more": None}
    # a source of its own is drawn from, whatever its name
    assert {recording.split for recording in find_recordings(tmp_path / "mazes" / names[1])} == {None}


def test_a_store_of_mazes_validates_on_a_share_of_train_and_keeps_test_apart(tmp_path, noise, write_video):
    for number, name in enumerate(["train"] * 20 + ["test"] * 3):
        write_video(tmp_path / "mazes" / name / f"{number}.mp4", noise(5, number))
    build_store(tmp_path / "mazes", tmp_path / "store", frame_size=(16, 16), workers=1)
    store = FrameStore(tmp_path / "store")
    splits = {name: {episode.name.partition("/")[0] for episode in store.of_split(name)} for name in ("train", "val", "test")}
    assert splits == {"train": {"train"}, "val": {"train"}, "test": {"test"}}
    assert len(store.of_split("test")) == 3
    assert store.meta["frames_per_second"] == 20
