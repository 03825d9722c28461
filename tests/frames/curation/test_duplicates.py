from collections.abc import Callable, Iterable
from pathlib import Path

import cv2
import numpy as np
import pytest

from envs import make_env, scripted_player
from frames.curation.duplicates import related, repeated, signatures
from frames.readers import find_recordings

BLANK = 0


def play(task: str, seed: int, ticks: int = 120) -> np.ndarray:
    env, player = make_env(task), scripted_player(task)
    player.reset(seed)
    observation, info = env.reset(seed=seed)
    frames = [observation["pov"].copy()]
    for _ in range(ticks):
        observation, _, _, _, info = env.step(player(observation, info))
        frames.append(observation["pov"].copy())
    return np.stack(frames)


@pytest.fixture(scope="module")
def played() -> dict[str, np.ndarray]:
    """Unrelated recordings of the voxel world, by name."""
    return {f"{task} {seed}": play(task, seed) for task in ("VoxelTreechop-v0", "VoxelNavigate-v0") for seed in range(8)}


@pytest.fixture
def encoded(write_video, tmp_path) -> Callable[[np.ndarray, str], np.ndarray]:
    """Encode frames as a lossy gif or mp4 and return what decodes."""

    def encode(frames: np.ndarray, suffix: str) -> np.ndarray:
        folder = tmp_path / suffix
        if suffix == ".gif":
            write_video(folder / "film.gif", frames)
        else:
            folder.mkdir(exist_ok=True)
            writer = cv2.VideoWriter(str(folder / "film.mp4"), cv2.VideoWriter_fourcc(*"mp4v"), 20, (64, 64))
            for frame in frames:
                writer.write(np.ascontiguousarray(frame[..., ::-1]))
            writer.release()
        (recording,) = find_recordings(folder)
        return np.stack(list(recording.frames()))

    return encode


def hashes(*exact: int, looks: int = BLANK) -> np.ndarray:
    return np.array([[value, looks] for value in exact], np.uint64)


def signed(recordings: dict[str, Iterable[np.ndarray]]) -> dict[str, np.ndarray]:
    return {name: signatures(np.asarray(frames)) for name, frames in recordings.items()}


@pytest.mark.parametrize("size", [3, 15, 16, 20, 33])
def test_a_signature_depends_on_its_own_frame_alone(noise, size):
    frames = noise(40, size=size)
    together = signatures(frames)
    assert together.shape == (40, 2)
    assert together.dtype == np.uint64
    assert np.array_equal(together, np.concatenate([signatures(frames[at : at + 1]) for at in range(40)]))
    assert len(np.unique(together[:, 0])) == 40


def test_a_signature_of_bytes_sees_the_last_bit(noise):
    frames = np.repeat(noise(1), 2, axis=0)
    frames[1, -1, -1, -1] ^= 1
    exact, looks = signatures(frames).T
    assert exact[0] != exact[1]
    assert looks[0] == looks[1]


def test_signatures_are_the_same_everywhere_and_always():
    frame = np.arange(3 * 48 * 40, dtype=np.uint32).reshape(1, 48, 40, 3) ** 2 >> 16
    exact, looks = signatures(frame.astype(np.uint8))[0].tolist()
    assert exact == 0xd46006f2da349b56
    # a sign may turn where a machine rounds differently
    assert (looks ^ 0x344e4972c2c56ddb).bit_count() <= 1


def test_frames_of_any_shape_and_layout_are_signed(noise):
    for height, width in ((1, 1), (9, 70), (16, 16), (90, 160)):
        frames = np.random.default_rng(0).integers(0, 256, (3, height, width, 3), np.uint8)
        mirrored = frames[:, :, ::-1]
        assert np.array_equal(signatures(mirrored), signatures(mirrored.copy()))


def test_dark_and_uniform_frames_look_like_nothing():
    dark = np.random.default_rng(0).integers(0, 6, (2, 64, 64, 3), np.uint8)
    uniform = np.full((2, 64, 64, 3), 200, np.uint8)
    assert not signatures(np.concatenate([dark, uniform]))[:, 1].any()


def test_copies_go_and_the_first_by_name_stays():
    found = {"c": hashes(1, 2, 3), "a": hashes(1, 2, 3), "b": hashes(1, 2, 3), "d": hashes(1, 3, 2)}
    assert repeated(found) == {"b": ("a", "the same as"), "c": ("a", "the same as")}


def test_a_part_goes_and_the_longest_whole_stays():
    found = {
        "start": hashes(1, 2),
        "middle": hashes(2, 3),
        "end": hashes(4, 5, 6),
        "one frame": hashes(6),
        "with a gap": hashes(1, 3),
        "and more": hashes(5, 6, 7),
        "whole": hashes(1, 2, 3, 4, 5, 6),
        "shorter whole": hashes(9, 1, 2, 3),
    }
    whole = dict.fromkeys(("start", "middle", "end", "one frame"), ("whole", "contained in"))
    assert repeated(found) == whole


def test_a_sequence_across_two_recordings_is_no_recording():
    assert repeated({"a": hashes(1, 2, 3), "b": hashes(4, 5, 6), "c": hashes(3, 4)}) == {}


def test_standing_still_longer_is_another_recording():
    still = {"still": hashes(*[7] * 30), "less still": hashes(*[7] * 20), "walk": hashes(1, *[7] * 25, 2)}
    assert repeated(still) == {"less still": ("still", "contained in")}
    found = {"short": hashes(1, *[7] * 4, 2), "long": hashes(0, 1, *[7] * 5, 2), "same": hashes(0, 0, 0, 1, *[7] * 4, 2)}
    assert repeated(found) == {"short": ("same", "contained in")}


def test_recordings_that_repeat_themselves_are_told_apart():
    beat = np.tile([1, 2], 50_000)
    found = {"beat": hashes(*beat), "offbeat": hashes(*beat[1:], 2), "skip": hashes(*beat[:40_000], *beat[1:40_000])}
    assert repeated(found) == {}
    assert repeated({**found, "part": hashes(*beat[1:30_000])}) == {"part": ("beat", "contained in")}


def test_no_frames_repeat_nothing():
    assert repeated({}) == {}
    assert repeated({"a": hashes(1), "empty": np.empty((0, 2), np.uint64)}) == {}
    assert related({}) == []
    assert related({"a": hashes(1), "empty": np.empty((0, 2), np.uint64)}) == []


def test_unrelated_recordings_of_one_world_are_not_related(played):
    found = signed(played)
    assert repeated(found) == {}
    assert related(found) == []


@pytest.mark.parametrize("suffix", [".gif", ".mp4"])
def test_another_encoding_is_related(played, encoded, suffix):
    name = "VoxelNavigate-v0 3"
    copy = encoded(played[name], suffix)
    assert not np.array_equal(copy, played[name])
    assert related(signed({**played, "copy": copy})) == [{name, "copy"}]


def test_cuts_and_overlapping_parts_of_another_encoding_are_related(played, encoded):
    others = dict(played)
    whole = others.pop("VoxelTreechop-v0 2")
    parts = {"first": encoded(whole[:70], ".mp4"), "second": encoded(whole[45:], ".gif"), "cut": whole[80:110], "half": whole[::2]}
    assert related(signed({**others, **parts})) == [parts.keys()]


def test_a_screen_that_many_recordings_show_relates_none(played):
    screen = np.random.default_rng(1).integers(0, 256, (12, 8, 8, 3), np.uint8).repeat(8, axis=1).repeat(8, axis=2)
    crowd = {f"{name} {at}": frames[at : at + 40] for name, frames in played.items() for at in (0, 80)}
    alone = related(signed(crowd))
    with_screen = {name: np.concatenate([screen, frames]) for name, frames in crowd.items()}
    assert related(signed(with_screen)) == alone
    few = dict(list(with_screen.items())[:3])
    assert related(signed(few)) == [few.keys()]


def test_dark_recordings_are_not_related():
    dark = np.random.default_rng(0).integers(0, 5, (2, 50, 64, 64, 3), np.uint8)
    assert related(signed({"a": dark[0], "b": dark[1]})) == []


def test_thousands_of_recordings_are_compared():
    generator = np.random.default_rng(0)
    found = {f"{number:04}": generator.integers(1, 2**64, (40, 2), np.uint64) for number in range(2000)}
    flips = np.uint64(1) << generator.integers(0, 64, (2, 40)).astype(np.uint64)
    found["copy"] = np.stack([found["0007"][:, 0] + np.uint64(1), found["0007"][:, 1] ^ flips[0] ^ flips[1]], axis=1)
    found["part"] = found["0100"][10:30]
    assert repeated(found) == {"part": ("0100", "contained in")}
    assert sorted(map(sorted, related(found))) == [["0007", "copy"], ["0100", "part"]]


def test_real_recordings_are_told_apart_and_known_again(real_recordings, encoded):
    films = sorted(Path(real_recordings, "train", "human64").glob("*"))[:4]
    frames = {film.name: np.stack(list(find_recordings(film)[0].frames()))[:150] for film in films}
    assert len(frames) >= 2
    found = signed(frames)
    assert repeated(found) == {}
    assert related(found) == []
    again = {f"{name} again": encoded(shown, ".mp4") for name, shown in frames.items()}
    assert sorted(map(sorted, related(found | signed(again)))) == [[name, f"{name} again"] for name in sorted(frames)]
