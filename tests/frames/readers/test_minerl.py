import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from frames.readers import BadRecording, find_recordings
from frames.readers.recording import ExcludedRecording

DAMAGED = ["{", "[]", "{}", "[" * 100_000, "\xff"]
DAMAGED += [f'{{"true_video_frame_count": {count}}}' for count in ('"20"', "20.0", "true", "3", "-5", "1e999", "9" * 5000)]
ACTIONS = ("attack", "back", "forward", "jump", "left", "right", "sneak", "sprint")
# (video frames, ticks) of each
TRAJECTORIES = {"MineRLTreechop-v0": (40, 33), "MineRLNavigateDense-v0": (25, 24), "MineRLTreechopVectorObf-v0": (31, 20)}


def refusal(folder: Path) -> BadRecording:
    (recording,) = find_recordings(folder)
    with pytest.raises(BadRecording) as caught:
        list(recording.frames())
    return caught.value


def test_frames_follow_the_offset_rule(tmp_path, noise, write_minerl):
    frames = noise(30)
    (recording,) = find_recordings(write_minerl(tmp_path / "v3_some_player", frames, ticks=19))
    states = np.array(list(recording.frames()))
    # 30 video frames for 20 states: the first 10 are skipped, the last state copies the one before
    assert len(states) == recording.expected_frames() == 20
    assert np.array_equal(states[:19], frames[10:29])
    assert np.array_equal(states[19], frames[28])


def test_arrays_keep_their_names_and_lengths(tmp_path, noise, write_minerl):
    (recording,) = find_recordings(write_minerl(tmp_path / "v3_some_player", noise(30), ticks=19))
    arrays = recording.arrays()
    assert arrays["reward"].tolist() == list(range(19))
    assert arrays["action.camera"].shape == (19, 2)
    assert arrays["action.place"][:2].tolist() == ["none", "dirt"]
    assert len(arrays["observation.inventory.dirt"]) == 20


def test_a_data_root_gives_every_trajectory_with_its_task(tmp_path, noise, write_minerl):
    for folder in ("MineRLTreechop-v0/v3_a", "MineRLTreechop-v0/v4_b", "MineRLNavigateDense-v0/v3_a"):
        write_minerl(tmp_path / folder, noise(8), ticks=7)
    (tmp_path / "VERSION").write_text("4")
    found = {recording.name: recording.task for recording in find_recordings(tmp_path)}
    assert found == {
        "MineRLNavigateDense-v0/v3_a": "MineRLNavigateDense-v0",
        "MineRLTreechop-v0/v3_a": "MineRLTreechop-v0",
        "MineRLTreechop-v0/v4_b": "MineRLTreechop-v0",
    }
    (alone,) = find_recordings(tmp_path / "MineRLTreechop-v0" / "v4_b")
    assert alone.task == "MineRLTreechop-v0"


def test_obfuscated_trajectories_keep_their_vectors(tmp_path, noise, write_minerl):
    acted, seen = np.random.default_rng(0).normal(size=(2, 8, 64)).astype(np.float32)
    changed = {"action$forward": None, "action$camera": None, "action$place": None, "observation$inventory$dirt": None}
    folder = tmp_path / "MineRLTreechopVectorObf-v0" / "v3_a"
    write_minerl(folder, noise(9), ticks=8, **{**changed, "action$vector": acted, "observation$vector": seen})
    (recording,) = find_recordings(tmp_path)
    arrays = recording.arrays()
    assert arrays.keys() == {"reward", "action.vector", "observation.vector"}
    assert np.array_equal(arrays["action.vector"], acted)
    assert np.array_equal(arrays["observation.vector"], seen)


def test_a_video_without_the_last_states_frame_is_whole(tmp_path, noise, write_minerl):
    frames = noise(19)
    (recording,) = find_recordings(write_minerl(tmp_path / "v3_some_player", frames, ticks=19))
    states = np.array(list(recording.frames()))
    assert np.array_equal(states[:19], frames)
    assert np.array_equal(states[19], frames[18])


def test_the_recorders_own_notes_are_no_arrays(tmp_path, noise, write_minerl):
    monitor = {"monitor$quit": np.array([object()] * 3), "monitor$level": np.zeros(5)}
    (recording,) = find_recordings(write_minerl(tmp_path / "v3_some_player", noise(20), ticks=19, **monitor))
    assert not [name for name in recording.arrays() if "monitor" in name]


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"action$forward": np.zeros(5)}, "'action.forward' has 5 entries for 19 rewards"),
        ({"action$forward": np.zeros(20)}, "'action.forward' has 20 entries for 19 rewards"),
        ({"observation$inventory$dirt": np.zeros(21)}, "'observation.inventory.dirt' has 21 entries for 19 rewards"),
        ({"action$forward": np.float64(3)}, "'action.forward' has a single value for 19 rewards"),
        ({"action$forward": np.array([object()] * 19)}, r"'action\$forward' is of type object, neither numbers nor text"),
        ({"action$a$b": np.zeros(19), "action$a.b": np.zeros(19)}, r"two keys are called 'action\.a\.b'"),
        ({"action$forward": None, "action$camera": None, "action$place": None}, r"has no 'action\$...'; remove it"),
        ({"reward": np.where(np.arange(19) == 4, np.nan, 1)}, "'reward' is nan at tick 4"),
        ({"reward": np.full(19, np.inf)}, "'reward' is inf at tick 0"),
        ({"reward": np.array(["much"] * 19)}, "a number for every tick"),
        ({"reward": np.zeros((19, 1))}, "a number for every tick"),
        ({"reward": np.zeros(0)}, "a number for every tick"),
        ({"reward": None}, "has no 'reward'"),
    ],
)
def test_damaged_arrays_are_refused_with_the_reason_before_a_frame_is_decoded(tmp_path, noise, write_minerl, changed, reason):
    (recording,) = find_recordings(write_minerl(tmp_path / "v3_some_player", noise(20), ticks=19, **changed))
    with pytest.raises(BadRecording, match=reason):
        recording.arrays()
    with pytest.raises(BadRecording, match=reason):
        next(recording.frames())


def test_a_video_too_short_for_its_rewards_is_refused(tmp_path, noise, write_minerl, write_video):
    folder = write_minerl(tmp_path / "v3_some_player", noise(30), ticks=19)
    write_video(folder / "recording.mp4", noise(12))
    assert str(refusal(folder)) == "recording.mp4 has 12 frames; metadata.json and 19 rewards need 30"


@pytest.mark.parametrize("metadata", DAMAGED)
def test_metadata_without_a_frame_count_that_fits_is_refused(tmp_path, noise, write_minerl, metadata):
    folder = write_minerl(tmp_path / "v3_some_player", noise(20), ticks=19)
    (folder / "metadata.json").write_bytes(metadata.encode("latin-1"))
    assert "metadata.json" in str(refusal(folder))


@pytest.mark.parametrize("name", ["recording.mp4", "metadata.json"])
def test_a_trajectory_with_a_file_missing_is_reported(tmp_path, noise, write_minerl, name):
    folder = write_minerl(tmp_path / "v3_some_player", noise(20), ticks=19)
    (folder / name).unlink()
    assert str(refusal(folder)) == f"{name} is missing"
    (recording,) = find_recordings(folder)
    with pytest.raises(BadRecording, match=f"{name} is missing"):
        recording.frames_per_second()


def test_a_trajectory_without_its_numbers_is_a_plain_video(tmp_path, noise, write_minerl):
    frames = noise(20)
    folder = write_minerl(tmp_path / "v3_some_player", frames, ticks=19)
    (folder / "rendered.npz").unlink()
    (recording,) = find_recordings(folder)
    assert np.array_equal(np.array(list(recording.frames())), frames)
    assert recording.arrays() == {}


def test_expected_frames_of_a_damaged_trajectory_are_unknown(tmp_path, noise, write_minerl):
    folder = write_minerl(tmp_path / "v3_some_player", noise(20), ticks=19)
    (folder / "rendered.npz").write_bytes(b"")
    (recording,) = find_recordings(folder)
    assert recording.expected_frames() is None


def test_the_trajectory_known_to_be_corrupted_is_excluded_without_a_fault(tmp_path, noise, write_minerl):
    folder = write_minerl(tmp_path / "v3_tempting_capers_shapeshifter-14_1-20", noise(20), ticks=19)
    error = refusal(folder)
    assert isinstance(error, ExcludedRecording)
    assert not error.fault
    sound = write_minerl(tmp_path / "v3_tempting_capers_shapeshifter-140_1-20", noise(20), ticks=19)
    (recording,) = find_recordings(sound)
    assert len(list(recording.frames())) == 20


@pytest.fixture(scope="module")
def minerl_python() -> str:
    """An interpreter that has minerl."""
    if importlib.util.find_spec("minerl"):
        return sys.executable
    if "MINERL_PYTHON" not in os.environ:
        pytest.skip("minerl is not installed: run `make minerl`, or set MINERL_PYTHON to an interpreter that has it")
    return os.environ["MINERL_PYTHON"]


def minerl_arrays(environment: str, ticks: int) -> dict[str, np.ndarray | None]:
    """Arrays of an environment as MineRL records them, all different."""
    random = np.random.default_rng(ticks)
    removed = {"action$forward": None, "action$camera": None, "action$place": None, "observation$inventory$dirt": None}
    rewards = {"reward": random.normal(size=ticks).astype(np.float32)}
    if "VectorObf" in environment:
        entries = {"action$vector": ticks, "observation$vector": ticks + 1}
        vectors = {key: random.normal(size=(count, 64)).astype(np.float32) for key, count in entries.items()}
        return {**removed, **rewards, **vectors}
    keys = {f"action${action}": random.integers(0, 2, ticks) for action in ACTIONS}
    camera = {"action$camera": random.normal(size=(ticks, 2)).astype(np.float32)}
    if "Navigate" not in environment:
        return {**removed, **rewards, **keys, **camera}
    compass = {
        "action$place": np.array(["none", "dirt"])[random.integers(0, 2, ticks)],
        "observation$compass$angle": random.uniform(-180, 180, ticks + 1).astype(np.float32),
        "observation$inventory$dirt": random.integers(0, 2304, ticks + 1),
    }
    return {**rewards, **keys, **camera, **compass}


def test_frames_actions_and_rewards_are_those_of_minerls_own_loader(tmp_path, noise, write_minerl, minerl_python):
    name = "v3_a_player-1_0-100"
    for environment, (frames, ticks) in TRAJECTORIES.items():
        write_minerl(tmp_path / environment / name, noise(frames, ticks, size=64), ticks, **minerl_arrays(environment, ticks))
    command = [minerl_python, Path(__file__).with_name("load_with_minerl.py"), tmp_path, tmp_path]
    # in a folder of its own: minerl writes ./logs
    run = subprocess.run(
        [*command, *(f"{environment}/{name}" for environment in TRAJECTORIES)], cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    assert run.returncode == 0, run.stderr[-2000:]
    for environment, (_, ticks) in TRAJECTORIES.items():
        (recording,) = find_recordings(tmp_path / environment)
        frames, arrays = np.array(list(recording.frames())), recording.arrays()
        with np.load(tmp_path / f"{environment}.npz") as theirs:
            assert frames.shape == (ticks + 1, 64, 64, 3)
            assert np.array_equal(frames, theirs["observation.pov"])
            assert len(arrays) > 2
            assert arrays.keys() == set(theirs.files) - {"observation.pov", "done"}
            for key, values in arrays.items():
                assert np.array_equal(values, theirs[key]), key
