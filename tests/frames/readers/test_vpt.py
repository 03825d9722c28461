import json
import math
import os

import numpy as np
import pytest

from frames.readers import BadRecording, find_recordings

NAME = "a film: café"


def _line(keys=(), buttons=(), new_buttons=(), dx=0, dy=0, **changed):
    return {
        "mouse": {"x": 640, "y": 360, "dx": dx, "dy": dy, "dwheel": 0, "buttons": list(buttons), "newButtons": list(new_buttons)},
        "keyboard": {"keys": list(keys), "newKeys": [], "chars": ""},
        "isGuiOpen": False,
        "hotbar": 0,
        "yaw": -112.5,
        "pitch": 8.1,
        "xpos": 841.25,
        "ypos": 63,
        "zpos": 24.5,
        "tick": 7,
        "inventory": [{"type": "dirt", "quantity": 2}],
        **changed,
    }


@pytest.fixture
def write_pair(tmp_path, noise, write_video):
    """Write a video of so many frames and a .jsonl of these lines, given as objects or as bytes."""

    def write(frames, lines, folder=tmp_path):
        content = [line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines]
        video = write_video(folder / f"{NAME}.mp4", noise(frames))
        (folder / f"{NAME}.jsonl").write_bytes(b"".join(line + b"\n" for line in content))
        return video

    return write


def _read(folder):
    (recording,) = find_recordings(folder)
    frames = list(recording.frames())
    return frames, recording.arrays()


def test_a_frames_line_tells_what_leads_to_the_next_frame(tmp_path, write_pair):
    lines = [_line(), _line(keys=["key.keyboard.w", "key.keyboard.f3"]), _line(buttons=[1, 7]), _line(keys=["key.keyboard.escape"])]
    write_pair(4, lines)
    frames, arrays = _read(tmp_path)
    assert len(frames) == 4
    assert arrays["action.forward"].tolist() == [0, 1, 0]
    assert arrays["action.use"].tolist() == [0, 0, 1]
    # pressed on the last frame: there is no frame that it leads to
    assert arrays["action.ESC"].tolist() == [0, 0, 0]
    assert len([name for name in arrays if name.startswith("action.")]) == 24


def test_the_mouse_turns_pitch_and_yaw_by_degrees(tmp_path, write_pair):
    write_pair(3, [_line(dx=20, dy=-10), _line(dx=-2400, dy=0.5), _line()])
    _, arrays = _read(tmp_path)
    assert arrays["action.camera"].dtype == np.float32
    assert np.allclose(arrays["action.camera"], [[-1.5, 3.0], [0.075, -360.0]])


def test_an_attack_held_from_before_the_recording_counts_from_its_first_press(tmp_path, write_pair):
    held = [_line(buttons=[0], new_buttons=[0]), _line(buttons=[0]), _line(buttons=[0], new_buttons=[0]), _line(buttons=[0]), _line()]
    write_pair(5, held)
    assert _read(tmp_path)[1]["action.attack"].tolist() == [0, 0, 1, 1]


def test_a_slot_chosen_with_the_wheel_is_a_press_of_its_key(tmp_path, write_pair):
    write_pair(5, [_line(hotbar=3), _line(hotbar=3), _line(hotbar=8), _line(hotbar=8), _line(hotbar=8)])
    _, arrays = _read(tmp_path)
    assert arrays["action.hotbar.9"].tolist() == [0, 0, 1, 0]
    # the slot of the first line was chosen before
    assert arrays["action.hotbar.4"].sum() == 0
    assert arrays["observation.hotbar"].tolist() == [3, 3, 8, 8, 8]


def test_positions_and_open_menus_are_observations_of_every_frame(tmp_path, write_pair):
    write_pair(3, [_line(), _line(isGuiOpen=True, xpos=842), _line(xpos=None)])
    _, arrays = _read(tmp_path)
    assert arrays["observation.isGuiOpen"].tolist() == [0, 1, 0]
    assert arrays["observation.xpos"][:2].tolist() == [841.25, 842]
    assert math.isnan(arrays["observation.xpos"][2])
    assert arrays["observation.yaw"].tolist() == [-112.5] * 3


def test_what_no_line_tells_is_no_observation(tmp_path, write_pair):
    bare = {"mouse": {"dx": 0, "dy": 0, "buttons": []}, "keyboard": {"keys": ["key.keyboard.1"]}}
    write_pair(3, [bare] * 3)
    _, arrays = _read(tmp_path)
    assert not [name for name in arrays if name.startswith("observation.")]
    assert arrays["action.hotbar.1"].tolist() == [1, 1]


@pytest.mark.parametrize(("frames", "lines", "kept"), [(6, 5, 5), (7, 5, 5), (5, 6, 5), (5, 7, 5)])
def test_a_rest_of_a_frame_or_two_is_left_out(tmp_path, noise, write_pair, frames, lines, kept):
    write_pair(frames, [_line(xpos=number) for number in range(lines)])
    read, arrays = _read(tmp_path)
    assert np.array_equal(read, noise(frames)[:kept])
    assert len(arrays["action.attack"]) == kept - 1
    assert arrays["observation.xpos"].tolist() == list(range(kept))


@pytest.mark.parametrize(("frames", "lines"), [(8, 5), (5, 8)])
def test_lengths_further_apart_are_refused_with_both(tmp_path, write_pair, frames, lines):
    write_pair(frames, [_line()] * lines)
    with pytest.raises(BadRecording, match=rf"video has .*{min(frames, 7)} frames, .*jsonl has {lines} lines; .*'videos'"):
        _read(tmp_path)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"mouse": {"dx": 1', r"line 3: is no JSON"),
        (b"\xff\xfe{}", r"line 3: is no UTF-8"),
        (b"[" * 50_000, r"line 3: is no JSON"),
        (b" " * (2 << 20), r"line 3: is longer than 1 MiB"),
        (b"[1, 2]", r"line 3: is no JSON object"),
        (b'{"mouse": NaN}', r"line 3: is no JSON .*NaN"),
        (_line(dx=float("inf")), r"line 3: is no JSON .*Infinity"),
        (json.dumps(_line(dx=12345)).replace("12345", "1e999").encode(), r"line 3: 'mouse' has no number 'dx'"),
        (json.dumps(_line(dx=12345)).replace("12345", "9" * 4000).encode(), r"line 3: 'mouse' has no number 'dx'"),
        (_line(mouse=None), r"line 3: has no object 'mouse'"),
        (_line(keyboard={}), r"line 3: has no list 'keys'"),
        (_line(hotbar=9), r"line 3: 'hotbar'"),
    ],
)
def test_a_damaged_line_is_named_by_its_number(tmp_path, write_pair, line, reason):
    write_pair(4, [_line(), _line(), line, _line()])
    with pytest.raises(BadRecording, match=rf"^{NAME}\.jsonl {reason}"):
        _read(tmp_path)


def test_keys_that_are_no_names_are_no_presses(tmp_path, write_pair):
    write_pair(2, [_line(keys=[["key.keyboard.w"], 5, {}], buttons=["0", 0.0, None]), _line()])
    _, arrays = _read(tmp_path)
    assert not any(values.any() for name, values in arrays.items() if name.startswith("action."))


def test_an_empty_jsonl_is_refused(tmp_path, write_pair):
    write_pair(3, [])
    with pytest.raises(BadRecording, match="has no lines"):
        _read(tmp_path)


def test_a_pipe_in_the_place_of_a_jsonl_is_refused_at_once(tmp_path, noise, write_video):
    write_video(tmp_path / "a.mp4", noise(3))
    os.mkfifo(tmp_path / "a.jsonl")
    with pytest.raises(BadRecording, match="is no file"):
        _read(tmp_path)


def test_a_video_without_a_jsonl_stays_a_plain_video(tmp_path, noise, write_video, write_pair):
    write_pair(3, [_line()] * 3)
    write_video(tmp_path / "other.mp4", noise(3))
    pair, plain = find_recordings(tmp_path)
    assert [pair.name, plain.name] == [f"{NAME}.mp4", "other.mp4"]
    assert len(list(plain.frames())) == 3
    assert plain.arrays() == {}


def test_a_jsonl_without_its_video_is_reported(tmp_path, noise, write_video, write_pair):
    write_pair(3, [_line()] * 3).unlink()
    write_video(tmp_path / "other.mp4", noise(3))
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "loss": 0.5}\n')
    alone, _ = find_recordings(tmp_path)
    assert alone.name == f"{NAME}.jsonl"
    with pytest.raises(BadRecording, match=f"there is no {NAME}.mp4"):
        list(alone.frames())


def test_the_task_is_the_folder_that_minerl_names(tmp_path, write_pair):
    write_pair(3, [_line()] * 3, tmp_path / "MineRLBasaltFindCave-v0")
    write_pair(3, [_line()] * 3, tmp_path / "10.0")
    assert {recording.name: recording.task for recording in find_recordings(tmp_path)} == {
        f"10.0/{NAME}.mp4": "",
        f"MineRLBasaltFindCave-v0/{NAME}.mp4": "MineRLBasaltFindCave-v0",
    }
