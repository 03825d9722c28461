import json

import numpy as np
import pytest

from foundation.errors import UserError
from frames.readers import BadRecording, find_recordings
from frames.readers.decoding import read_rate

FRAMES = 6


def _entry(**changed):
    """The columns of a video of six frames."""
    return {
        **{name: [0, 1, 0, 1, 0, 1] for name in ("attack", "back", "forward", "jump", "left", "right", "sneak", "sprint", "place")},
        "camera_x": [0, 0.5, -1.5, 0, 0, 90],
        "camera_y": [0, 0.25, 0, 0, 0, 0],
        "angle": [-170.5, -90, 0, 45, 90, 179.5],
        **changed,
    }


@pytest.fixture
def write_split(tmp_path, noise, write_video):
    """Write the folder of a split: videos by name, and its metadata.json as an object or as text."""

    def write(split, videos, metadata):
        for number, name in enumerate(videos):
            write_video(tmp_path / split / f"{name}.mp4", noise(FRAMES, seed=number))
        text = metadata if isinstance(metadata, str) else json.dumps(metadata)
        (tmp_path / split / "metadata.json").write_text(text)

    return write


def _arrays(recording):
    assert len(list(recording.frames())) == FRAMES
    return recording.arrays()


def test_each_video_of_a_split_gets_its_own_columns(tmp_path, write_split):
    write_split("train", ["a b", "ü"], {"a b": _entry(), "ü.mp4": _entry(jump=[1] * FRAMES)})
    write_split("test", ["c"], {"test/c.mp4": _entry()})
    found = {recording.name: recording for recording in find_recordings(tmp_path)}
    assert {name: recording.split for name, recording in found.items()} == {
        "test/c.mp4": "test",
        "train/a b.mp4": "train",
        "train/ü.mp4": "train",
    }
    assert {recording.task for recording in found.values()} == {"Navigate"}
    assert _arrays(found["train/a b.mp4"])["action.jump"].tolist() == [0, 1, 0, 1, 0]
    assert _arrays(found["train/ü.mp4"])["action.jump"].tolist() == [1, 1, 1, 1, 1]


def test_actions_lead_to_the_next_frame_and_the_goals_angle_is_seen_in_every_frame(tmp_path, write_split):
    write_split("train", ["a"], {"a": _entry()})
    (recording,) = find_recordings(tmp_path)
    arrays = _arrays(recording)
    assert np.allclose(arrays["action.camera_x"], [0, 0.5, -1.5, 0, 0])
    assert np.allclose(arrays["observation.angle"], [-170.5, -90, 0, 45, 90, 179.5])
    assert {len(values) for name, values in arrays.items() if name.startswith("action.")} == {FRAMES - 1}
    assert len(arrays) == 12


def test_columns_in_groups_and_texts_are_taken(tmp_path, write_split):
    entry = {"actions": {"forward": [True] * 5, "place": ["none", "dirt", "none", "none", "none", "none"]}, "video": "a.mp4"}
    write_split("train", ["a"], {"a": entry})
    (recording,) = find_recordings(tmp_path)
    arrays = _arrays(recording)
    assert arrays["action.forward"].tolist() == [True] * 5
    assert arrays["action.place"].tolist() == ["none", "dirt", "none", "none", "none"]
    assert len(arrays) == 2


@pytest.mark.parametrize(
    ("column", "reason"),
    [
        ([0, 1], r"'jump' has 2 entries for 6 frames"),
        (["much", 1, 0, 0, 0, 0], r"'jump' mixes numbers and texts"),
        (["x" * 100_000] * FRAMES, r"'jump' .*has a long text"),
        ([[1, 2], [3]], r"'jump' is no list of numbers"),
        ([None] * FRAMES, r"'jump' is no list of numbers"),
        ([10**400] * FRAMES, r"'jump' is no list of numbers"),
        ([{}] * FRAMES, r"'jump' is no list of numbers"),
        ([12345.5] * FRAMES, r"'jump' has an entry that is not finite"),
    ],
)
def test_a_damaged_column_is_named_and_leaves_the_other_videos_alone(tmp_path, write_split, column, reason):
    text = json.dumps({"a": _entry(jump=column), "b": _entry()}).replace("12345.5", "1e999")
    write_split("train", ["a", "b"], text)
    damaged, sound = find_recordings(tmp_path)
    with pytest.raises(BadRecording, match=rf"metadata\.json: {reason}"):
        _arrays(damaged)
    assert _arrays(sound)["action.jump"].tolist() == [0, 1, 0, 1, 0]


@pytest.mark.parametrize("text", ['{"a": {"jump": [0, 1', "", "[" * 50_000, '{"a": {"b": [NaN]}}', '{"a": {"b": [' + "9" * 5000 + "]}}"])
def test_unreadable_metadata_is_reported_and_its_videos_are_taken_without_actions(tmp_path, write_split, text):
    write_split("train", ["a"], text)
    video, metadata = find_recordings(tmp_path)
    assert _arrays(video) == {}
    with pytest.raises(BadRecording, match="is no JSON"):
        metadata.frames_per_second()
    assert metadata.name == "train/metadata.json"


def test_metadata_that_is_no_text_is_reported(tmp_path, write_split):
    write_split("train", ["a"], "{}")
    (tmp_path / "train" / "metadata.json").write_bytes(b'{"\xff\xfe": {}}')
    assert [recording.name for recording in find_recordings(tmp_path)] == ["train/a.mp4", "train/metadata.json"]


def test_a_video_that_metadata_does_not_mention_is_a_plain_video(tmp_path, write_split):
    write_split("train", ["a", "b"], {"a": _entry()})
    known, unknown = find_recordings(tmp_path)
    assert _arrays(known)
    assert _arrays(unknown) == {}
    assert unknown.split == "train"


def test_entries_without_a_video_are_reported_together(tmp_path, write_split):
    write_split("train", ["a"], {name: _entry() for name in "abcde"})
    video, missing = find_recordings(tmp_path)
    assert _arrays(video)
    with pytest.raises(BadRecording, match=r"no video for 4 of its 5 entries \(b, c, d, \.\.\.\)"):
        list(missing.frames())


@pytest.mark.parametrize("metadata", [{"codec": "h264"}, [1, 2], {"a": {"rate": 20}}, {"other": _entry()}, 3])
def test_another_programs_metadata_is_left_alone(tmp_path, write_split, metadata):
    write_split("clips", ["a"], metadata)
    (recording,) = find_recordings(tmp_path)
    assert _arrays(recording) == {}
    with pytest.raises(UserError, match=r"Navigate clips"):
        find_recordings(tmp_path, "cwvae")


def test_genuine_clips_of_the_set_have_500_frames_at_10_a_second(real_recordings):
    clips = sorted(real_recordings.glob("*/human64/vaibhavsaxena11__minerl_navigate__*.mp4"))
    assert len(clips) == 2
    assert [read_rate(clip) for clip in clips] == [10, 10]
    assert [next(iter(find_recordings(clip))).expected_frames() for clip in clips] == [500, 500]
