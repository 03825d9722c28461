import math

import numpy as np
import pytest

from frames.readers import BadRecording, find_recordings


def _stamp(milliseconds):
    """A time stamp as boost writes it: a whole second has no fraction."""
    second, rest = divmod(milliseconds, 1000)
    return f"20160726T1010{second:02}" + (f".{rest:03}000" if rest else "")


def _lines(*lines):
    return "".join(f"{_stamp(milliseconds)} {text}\n" for milliseconds, text in lines)


def _frames(*stamps, pose=" xyzyp: 1.5 64 -2.25 90 -10"):
    return "width=16\nheight=16\n" + _lines(*((stamp, f"frame_{number:06}{pose}") for number, stamp in enumerate(stamps)))


@pytest.fixture
def write_recording(tmp_path, noise, write_video):
    """Write a Malmo folder with so many frames; texts are given by name, without their ending."""

    def write(frames=4, **texts):
        folder = tmp_path / "a maze: café"
        write_video(folder / "video.mp4", noise(frames))
        for name, text in texts.items():
            content = text if isinstance(text, bytes) else text.encode()
            (folder / {"mission": "missionInit.xml"}.get(name, f"{name}.txt")).write_bytes(content)
        return folder

    return write


def _read(folder):
    (recording,) = find_recordings(folder)
    assert recording.frames_per_second() == 20
    list(recording.frames())
    return recording.arrays()


FOUR = _frames(1000, 1050, 1100, 1150)


def test_a_reward_falls_on_the_tick_between_the_frames_around_its_stamp(write_recording):
    rewards = _lines((1000, "0:1"), (1049, "0:2"), (1050, "0:4"), (1149, "0:8.5"))
    arrays = _read(write_recording(frame_info=FOUR, rewards=rewards))
    assert arrays["reward"].tolist() == [3, 4, 8.5]


def test_rewards_before_the_first_and_after_the_last_frame_are_not_lost(write_recording):
    rewards = _lines((0, "0:1"), (500, "0:2"), (1060, "0:4"), (1150, "0:8"), (59_000, "0:-16"))
    arrays = _read(write_recording(frame_info=FOUR, rewards=rewards))
    assert arrays["reward"].tolist() == [3, 4, -8]
    assert arrays["reward"].sum() == 1 + 2 + 4 + 8 - 16


def test_each_dimension_of_a_reward_is_an_array(write_recording):
    arrays = _read(write_recording(frame_info=FOUR, rewards=_lines((1010, "0:1,12:-0.5"), (1110, "12:3"))))
    assert arrays["reward"].tolist() == [1, 0, 0]
    assert arrays["reward.12"].tolist() == [-0.5, 0, 3]


def test_rewards_of_older_malmos_are_read_from_their_xml(write_recording):
    element = '<?xml version="1.0"?><Reward xmlns="http://ProjectMalmo.microsoft.com"><Value dimension="0" value="-1.5"/></Reward>'
    turned = '<Reward><Value value="4" dimension="0"></Value><Value dimension="1" value="2"/></Reward>'
    arrays = _read(write_recording(frame_info=FOUR, rewards=_lines((1010, element), (1110, turned))))
    assert arrays["reward"].tolist() == [-1.5, 0, 4]
    assert arrays["reward.1"].tolist() == [0, 0, 2]


def test_without_frame_info_frames_come_at_the_videos_rate_from_the_first_stamp(write_recording):
    arrays = _read(write_recording(rewards=_lines((1000, "0:1"), (1070, "0:2"), (9000, "0:4")), commands=_lines((980, "move 1"))))
    # 20 frames/s from 980 ms: at 980, 1030, 1080 and 1130
    assert arrays["reward"].tolist() == [1, 2, 4]
    assert arrays["action.move"].tolist() == [1, 0, 0]


CONTINUOUS = "<AgentHandlers><ContinuousMovementCommands turnSpeedDegs='180'/></AgentHandlers>"
BOTH = CONTINUOUS + "<DiscreteMovementCommands/>"


def test_continuous_movement_holds_until_the_next_command_of_its_kind(write_recording):
    commands = _lines((1010, "hotbar.2 1"), (1060, "move 1"), (1070, "turn -0.5"), (1110, "turn 0"), (1110, "move 0.25"), (1120, "move .5"))
    arrays = _read(write_recording(frame_info=FOUR, commands=commands, mission=CONTINUOUS))
    assert arrays["action.move"].tolist() == [0, 1, 0.5]
    assert arrays["action.turn"].tolist() == [0, -0.5, 0]
    assert arrays["action.hotbar.2"].tolist() == [1, 0, 0]
    assert "action.command" not in arrays


@pytest.mark.parametrize("mission", ["", BOTH])
def test_other_commands_count_in_the_tick_in_which_they_were_sent(write_recording, mission):
    commands = _lines((900, "movenorth 1"), (1010, "move 1"), (1020, "move 1"), (1120, "move -1"))
    arrays = _read(write_recording(frame_info=FOUR, commands=commands, mission=mission))
    assert {name: values.tolist() for name, values in arrays.items() if name.startswith("action")} == {
        "action.movenorth": [1, 0, 0],
        "action.move": [2, 0, -1],
    }


def test_commands_that_are_no_numbers_are_texts_in_their_order(write_recording):
    commands = _lines((1010, "swapInventoryItems 0 9"), (1020, "chat grüß dich"), (1030, "jump 1"), (1120, "chat 5"), (1130, "quit"))
    arrays = _read(write_recording(frame_info=FOUR, commands=commands))
    assert arrays["action.command"].tolist() == ["swapInventoryItems 0 9\nchat grüß dich", "", "chat 5\nquit"]
    assert arrays["action.jump"].tolist() == [1, 0, 0]


def test_a_frame_shows_where_its_camera_stood(write_recording):
    arrays = _read(write_recording(frame_info=FOUR))
    assert {name: values.tolist() for name, values in arrays.items()} == {
        "observation.xpos": [1.5] * 4,
        "observation.ypos": [64] * 4,
        "observation.zpos": [-2.25] * 4,
        "observation.yaw": [90] * 4,
        "observation.pitch": [-10] * 4,
    }


def test_frame_infos_without_positions_are_taken(write_recording):
    arrays = _read(write_recording(frame_info=_frames(1000, 1050, 1100, 1150, pose=""), rewards=_lines((1060, "0:1"))))
    assert {name: values.tolist() for name, values in arrays.items()} == {"reward": [0, 1, 0]}


def test_a_frame_has_the_latest_observation_by_its_time(write_recording):
    lines = _lines((1040, '{"XPos": 1.5, "Life": 20, "Name": "x", "IsAlive": true}'), (1100, '{"XPos": 2.5, "grid": ["dirt"]}'))
    arrays = _read(write_recording(frame_info=FOUR, observations=lines))
    positions = ["observation.xpos", "observation.ypos", "observation.zpos", "observation.yaw", "observation.pitch"]
    assert sorted(arrays) == sorted([*positions, "observation.XPos", "observation.Life"])
    assert arrays["observation.XPos"].tolist() == [1.5, 1.5, 2.5, 2.5]
    life = arrays["observation.Life"]
    assert life[:2].tolist() == [20, 20]
    assert all(math.isnan(value) for value in life[2:])


def test_frames_that_were_never_written_are_only_missing_at_the_end(write_recording):
    arrays = _read(write_recording(frame_info=_frames(*range(1000, 1300, 50)), rewards=_lines((1060, "0:1"), (1290, "0:2"))))
    assert arrays["reward"].tolist() == [0, 1, 2]


@pytest.mark.parametrize("stamps", [(1000, 1050, 1100), tuple(range(0, 2000, 50))])
def test_a_frame_info_of_another_video_is_refused(write_recording, stamps):
    with pytest.raises(BadRecording, match=rf"video\.mp4 has 4 frames, frame_info\.txt tells of {len(stamps)}"):
        _read(write_recording(frame_info=_frames(*stamps)))


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("rewards", "0:nan", "nan is no finite number"),
        ("rewards", "0:1e999", "1e999 is no finite number"),
        ("rewards", "0:", "gives no reward"),
        ("rewards", "0:1,", "gives no reward"),
        ("rewards", "1000000:1", "gives no reward"),
        ("rewards", '<Reward><Value dimension="0"/></Reward>', "'' is no number"),
        ("rewards", "0:much", "'much' is no number"),
        ("rewards", "<Reward></Reward>", "gives no reward"),
        ("observations", '{"XPos": 1', "is no JSON"),
        ("observations", '{"XPos": 1e999}', "'XPos' is no finite number"),
        ("observations", '{"a": ' * 50_000, "is no JSON"),
        ("observations", "{" + ", ".join(f'"{number}": 1' for number in range(101)) + "}", "more than 100"),
        ("commands", "x" * (2 << 20), "longer than 1 MiB"),
        ("commands", "move 1e999", "1e999 is no finite number"),
        ("commands", "move 1.2.3", "'1.2.3' is no number"),
        ("frame_info", "frame_000002 xyzyp: 1 2 3 4", "has 4 numbers"),
        ("frame_info", "frame_000002 xyzyp: 1 2 3 4 -nan", "-nan is no finite number"),
    ],
)
def test_a_damaged_line_is_named_by_file_and_number(write_recording, name, text, reason):
    sound = {"rewards": "0:1", "observations": "{}", "commands": "move 1", "frame_info": "frame_000001"}[name]
    with pytest.raises(BadRecording, match=rf"^{name}\.txt line 2: .*{reason}"):
        _read(write_recording(**{name: _lines((1000, sound), (1050, text))}))


@pytest.mark.parametrize("stamp", ["", "now", "20161326T101010", "2016", "99990101T000000", "20160726T101010.5x"])
def test_a_line_without_a_time_is_named(write_recording, stamp):
    with pytest.raises(BadRecording, match=r"rewards\.txt line 2: does not begin with a time stamp"):
        _read(write_recording(rewards=_lines((1000, "0:1")) + f"{stamp} 0:1\n"))


def test_bytes_that_are_no_text_are_named(write_recording):
    with pytest.raises(BadRecording, match=r"rewards\.txt line 1: is no UTF-8"):
        _read(write_recording(rewards=b"\xff\xfe0:1"))


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        ([(1000, "chat " + "x" * 300)], "305 characters in a tick"),
        ([(1000 + number, f"chat {number:0200}") for number in range(400)], "characters in a tick"),
    ],
)
def test_commands_too_long_for_an_array_are_refused(write_recording, lines, reason):
    with pytest.raises(BadRecording, match=rf"commands\.txt: its texts are too long: .*{reason}"):
        _read(write_recording(commands=_lines(*lines)))


def test_different_commands_are_bounded(write_recording):
    with pytest.raises(BadRecording, match=r"commands\.txt line 101: there are more than 100 different commands"):
        _read(write_recording(commands=_lines(*((1000 + number, f"verb{number} 1") for number in range(150)))))


def test_a_single_frame_has_no_tick_for_a_reward(write_recording):
    with pytest.raises(BadRecording, match="no tick for what rewards"):
        _read(write_recording(1, rewards=_lines((1000, "0:1"))))


def test_empty_texts_tell_of_nothing(write_recording):
    arrays = _read(write_recording(rewards="", commands="", observations=""))
    assert {name: values.tolist() for name, values in arrays.items()} == {"reward": [0, 0, 0]}


def test_a_clock_that_was_set_back_keeps_the_order_of_the_frames(write_recording):
    arrays = _read(write_recording(frame_info=_frames(1000, 1050, 900, 1150), rewards=_lines((1070, "0:1"), (1200, "0:2"))))
    assert arrays["reward"].tolist() == [0, 0, 3]


def test_the_task_is_the_missions_summary(write_recording):
    mission = "<MissionInit><Mission><About><Summary>\n Cliff\n walking </Summary></About></Mission></MissionInit>"
    folder = write_recording(rewards="", mission=mission)
    (recording,) = find_recordings(folder.parent)
    assert recording.task == "Cliff walking"
    assert recording.name == "a maze: café"


def test_a_video_alone_stays_a_plain_video(write_recording, noise):
    folder = write_recording(4, mission="<MissionInit/>")
    (recording,) = find_recordings(folder.parent)
    assert recording.name == "a maze: café/video.mp4"
    assert np.array_equal(list(recording.frames()), noise(4))
    assert recording.arrays() == {}


def test_genuine_recordings_without_their_texts_stay_plain_videos(real_recordings):
    found = find_recordings(real_recordings / "test" / "malmo-rewards")
    assert [recording.name for recording in found] == [
        "classroom-attic/video.mp4",
        "classroom-obstacles/video.mp4",
        "cliff_walking_1/video.mp4",
    ]
