import json
import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from foundation.errors import UserError
from frames.recordings import find_recordings
from frames.video import BadRecording, read_video


@pytest.mark.parametrize("suffix", [".mp4", ".avi", ".mkv"])
def test_videos_decode_to_what_was_recorded_in_rgb(tmp_path, noise, write_video, suffix):
    frames = noise(9, size=64)
    path = write_video(tmp_path / f"a film: 100 % café{suffix}", frames)
    assert np.array_equal(np.array(list(read_video(path))), frames)


def test_a_gif_decodes_frame_by_frame(tmp_path, write_video):
    frames = np.zeros((6, 16, 16, 3), np.uint8)
    frames[:] = np.arange(6)[:, None, None, None] * 40
    decoded = np.array(list(read_video(write_video(tmp_path / "a.gif", frames))))
    # the encoder dithers
    assert np.abs(decoded.mean(axis=(1, 2, 3)) - frames.mean(axis=(1, 2, 3))).max() <= 15


@pytest.mark.parametrize("name", ["a.mp4", "a.avi", "a.gif"])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_a_truncated_video_is_refused(tmp_path, noise, write_video, name, share):
    path = write_video(tmp_path / name, noise(12, size=32))
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(BadRecording):
        list(read_video(path))


def test_a_text_file_called_mp4_is_refused(tmp_path):
    path = tmp_path / "a.mp4"
    path.write_text("no video " * 1000)
    with pytest.raises(BadRecording):
        list(read_video(path))


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


def test_recordings_are_found_at_any_depth_and_named_by_their_path(tmp_path, noise, write_minerl, write_video):
    write_minerl(tmp_path / "MineRLTreechop-v0" / "v3_a", noise(5), ticks=4)
    write_minerl(tmp_path / "MineRLNavigate-v0" / "v3_b", noise(5), ticks=4)
    write_video(tmp_path / "films" / "deep" / "c.avi", noise(3))
    (tmp_path / ".hidden.mp4").write_bytes(b"")
    (tmp_path / "notes.txt").write_text("no recording")
    os.symlink(tmp_path, tmp_path / "films" / "loop")
    names = [recording.name for recording in find_recordings(tmp_path)]
    assert names == ["MineRLNavigate-v0/v3_b", "MineRLTreechop-v0/v3_a", "films/deep/c.avi"]


def test_a_folder_of_pictures_is_one_unordered_recording(tmp_path, noise):
    frames = noise(4)
    for number, frame in enumerate(frames):
        cv2.imwrite(str(tmp_path / f"{number}.png"), frame[..., ::-1])
    (tmp_path / "2b.png").write_bytes(b"no picture")
    (tmp_path / "2c.png").write_bytes(b"")
    (recording,) = find_recordings(tmp_path)
    assert not recording.ordered
    assert np.array_equal(np.array(list(recording.frames())), frames)
    assert recording.skipped == ["2b.png", "2c.png"]


def test_a_thumbnail_above_the_recordings_is_no_recording(tmp_path, noise, write_video):
    write_video(tmp_path / "films" / "a.avi", noise(3))
    for folder in (tmp_path, tmp_path / "films"):
        cv2.imwrite(str(folder / "thumbnail.png"), noise(1)[0])
    assert [recording.name for recording in find_recordings(tmp_path)] == ["films/a.avi"]


@pytest.mark.parametrize(("make", "message"), [(False, "no such folder"), (True, "no recordings found")])
def test_a_wrong_folder_says_what_was_looked_for(tmp_path, make, message):
    folder: Path = tmp_path / "recordings"
    if make:
        folder.mkdir()
    with pytest.raises(UserError, match=message):
        find_recordings(folder)
