import numpy as np
import pytest

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
