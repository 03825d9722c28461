import json

import numpy as np
import pytest

from frames.readers import BadRecording, find_recordings


def test_minerl_frames_follow_the_offset_rule(tmp_path, noise, write_minerl):
    frames = noise(30)
    (recording,) = find_recordings(write_minerl(tmp_path / "v3_some_player", frames, ticks=19))
    states = np.array(list(recording.frames()))
    # 30 video frames for 20 states: the first 10 are skipped, the last state copies the one before
    assert len(states) == 20
    assert np.array_equal(states[:19], frames[10:29])
    assert np.array_equal(states[19], frames[28])


def test_minerl_arrays_keep_their_names_and_lengths(tmp_path, noise, write_minerl):
    (recording,) = find_recordings(write_minerl(tmp_path / "v3_some_player", noise(30), ticks=19))
    arrays = recording.arrays()
    assert arrays["reward"].tolist() == list(range(19))
    assert arrays["action.camera"].shape == (19, 2)
    assert arrays["action.place"][:2].tolist() == ["none", "dirt"]
    assert len(arrays["observation.inventory.dirt"]) == 20


def test_a_minerl_video_without_the_last_states_frame_is_whole(tmp_path, noise, write_minerl):
    frames = noise(19)
    (recording,) = find_recordings(write_minerl(tmp_path / "v3_some_player", frames, ticks=19))
    states = np.array(list(recording.frames()))
    assert np.array_equal(states[:19], frames)
    assert np.array_equal(states[19], frames[18])


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"action$forward": np.zeros(5)}, "'action.forward' has 5 entries for 19 rewards"),
        ({"reward": np.full(19, np.nan)}, "a number for every tick"),
        ({"action$forward": np.array([object()] * 19)}, "cannot be read"),
        ({"action$forward": np.float64(3)}, "'action.forward' has 1 entries"),
        ({"reward": np.array(["much"] * 19)}, "a number for every tick"),
    ],
)
def test_damaged_minerl_arrays_are_refused_with_the_reason(tmp_path, noise, write_minerl, changed, reason):
    (recording,) = find_recordings(write_minerl(tmp_path / "v3_some_player", noise(20), ticks=19, **changed))
    with pytest.raises(BadRecording, match=reason):
        recording.arrays()


def test_a_minerl_video_too_short_for_its_rewards_is_refused(tmp_path, noise, write_minerl):
    (recording,) = find_recordings(write_minerl(tmp_path / "v3_some_player", noise(12), ticks=19))
    with pytest.raises(BadRecording, match="12 frames for 19 rewards"):
        list(recording.frames())


@pytest.mark.parametrize("metadata", [None, "{", "[]", "{}", json.dumps({"true_video_frame_count": "many"})])
def test_minerl_metadata_without_a_frame_count_is_refused(tmp_path, noise, write_minerl, metadata):
    folder = write_minerl(tmp_path / "v3_some_player", noise(20), ticks=19)
    (folder / "metadata.json").unlink()
    if metadata is not None:
        (folder / "metadata.json").write_text(metadata)
    (recording,) = find_recordings(folder)
    with pytest.raises(BadRecording, match=r"metadata\.json"):
        list(recording.frames())
