"""Recordings of several rates in one store, or in several: clips have one, and what cannot have it is left out and counted."""

import numpy as np
import pytest

from foundation.errors import UserError
from frames import FrameBatches, FrameStore, in_order, sample_sequences, side_by_side
from frames.loading import hold

RATES = {"fast": 20.0, "ntsc": 19.98, "odd": 7.0, "slow": 10.0, "slower": 5.0}
LENGTHS = {"fast": 41, "ntsc": 30, "odd": 23, "slow": 37, "slower": 12}


def film(number: int, length: int) -> np.ndarray:
    """Frames that say which recording and which frame of it they are."""
    frames = np.zeros((length, 4, 4, 3), np.uint8)
    frames[:, 0, 0, 0], frames[:, 0, 0, 1] = number, np.arange(length)
    return frames


@pytest.fixture
def mixed(write_store, tmp_path):
    """Make a store of some of the recordings, in which the camera turns a degree a frame."""

    def make(*names: str) -> FrameStore:
        films = {name: film(list(RATES).index(name), LENGTHS[name]) for name in names}
        arrays = {name: {"action.camera": np.ones((len(frames) - 1, 1), np.float32)} for name, frames in films.items()}
        return write_store(films, arrays, path=tmp_path / "-".join(names), rates=RATES, split="train")

    return make


def clips(batch) -> list[tuple[str, list[int]]]:
    """Which recording each clip is of, and its frames."""
    return [(list(RATES)[clip[0, 0, 0, 0]], clip[:, 0, 0, 1].tolist()) for clip in batch.frames]


def possible(steps: dict[str, int], length: int) -> set[tuple[str, tuple[int, ...]]]:
    """All clips of recordings whose frames are so many apart."""
    return {
        (name, tuple(range(first, first + length * step, step)))
        for name, step in steps.items()
        for first in range(LENGTHS[name])
        if first + (length - 1) * step < LENGTHS[name]
    }


@pytest.mark.parametrize(
    ("names", "rate"),
    [
        (("fast",), 20),
        (("fast", "slow"), 10),
        (("fast", "ntsc"), 20),
        (("fast", "slow", "slower"), 5),
        # 7 frames/s would leave out all the others
        (("fast", "slow", "odd"), 10),
    ],
)
def test_a_stores_rate_is_the_slowest_that_the_others_are_multiples_of(mixed, names, rate):
    assert mixed(*names).frames_per_second == rate


@pytest.mark.parametrize(
    ("stride", "steps"), [(1, {"fast": 2, "ntsc": 2, "slow": 1}), (2, {"fast": 4, "ntsc": 4, "slow": 2})]
)
def test_clips_of_all_recordings_have_one_rate(mixed, stride, steps, capsys):
    store = mixed("fast", "ntsc", "odd", "slow")
    batches = FrameBatches(store, "train", 4, clip_length=3, seed=2, stride=stride)
    assert batches.frames_per_second == 10 / stride
    seen = {(name, tuple(frames)) for _ in range(60) for name, frames in clips(next(batches))}
    assert seen == possible(steps, 3)
    told = capsys.readouterr()
    lines = [line for line in (told.out + told.err).splitlines() if "frames/s" in line]
    assert lines == [
        f"{store.path}: the recordings in 'train' have 7, 10, 19.98, 20 frames/s, clips {10 / stride:g}; "
        "1 of 4 (23 frames), of 7 frames/s, give no clip"
    ]
    assert store.starts("train", 3, stride).tolist() == sorted(
        episode.first + first for episode in store.episodes for name, (first, *_) in possible(steps, 3) if name == episode.name
    )


def test_in_order_and_on_a_device_clips_have_that_rate_too(mixed):
    store, steps = mixed("fast", "odd", "slow"), {"fast": 2, "slow": 1}
    found = [clip for batch in in_order(store, "train", 3, 4) for clip in clips(batch)]
    expected = [
        (name, list(range(first, first + 4 * step, step)))
        for name, step in steps.items()
        for first in range(0, LENGTHS[name] - 3 * step, 4 * step)
    ]
    assert found == expected
    assert len(side_by_side(store, "train", 4)) == len(expected)
    batches = FrameBatches(store, "train", 6, clip_length=4, seed=1)
    with hold(FrameBatches(store, "train", 6, clip_length=4, seed=1), "cpu") as held:
        for _ in range(5):
            one, other = next(batches), next(held)
            assert np.array_equal(one.frames, other.frames.numpy())
            assert np.array_equal(one.actions, other.actions.numpy())
            # a degree a recorded frame: as many as were passed over; at a recording's second frame there was but one
            for (name, numbers), actions in zip(clips(one), one.actions, strict=True):
                assert actions[:, 0].tolist() == [min(number, steps[name]) for number in numbers]


def test_sequences_have_that_rate(mixed):
    store = mixed("fast", "odd", "slow")
    # at 10 frames/s "fast" has 21 frames and "slow" 37: half of all lie in the longer one
    sequences = sample_sequences(store, "train", 1000, seed=0)
    assert clips(sequences) == [("slow", list(range(37)))]
    assert clips(sample_sequences(store, "train", 30, seed=0, stride=store.strides_at(20)))[0] == ("fast", list(range(30)))


def test_single_frames_are_those_of_all_recordings(mixed):
    store = mixed("fast", "odd", "slow")
    assert len(store.indices("train")) == len(store)
    assert sum(len(batch.frames) for batch in in_order(store, "train", 7)) == len(store)


def test_stores_of_different_rates_are_mixed_at_the_one_they_have_in_common(mixed):
    fast = mixed("fast", "ntsc")
    batches = FrameBatches([fast, mixed("slow")], "train", 4, clip_length=3, weights=[1, 1])
    assert batches.frames_per_second == 10
    seen = {(name, tuple(frames)) for _ in range(70) for name, frames in clips(next(batches))}
    assert seen == possible({"fast": 2, "ntsc": 2, "slow": 1}, 3)
    with pytest.raises(UserError, match=r"no clips of 3 frames at (20|19.98) frames/s in split 'train' \(none in any split\)"):
        FrameBatches([fast, mixed("odd")], "train", 4, clip_length=3)


@pytest.mark.parametrize(
    ("asked", "rate", "steps"),
    [
        (20, 20, {"fast": 1, "ntsc": 1, "odd": 0, "slow": 0}),
        (10, 10, {"fast": 2, "ntsc": 2, "odd": 0, "slow": 1}),
        (7, 7, {"fast": 0, "ntsc": 0, "odd": 1, "slow": 0}),
        # no recording can have these: the nearest that the store's own rate gives
        (40, 10, {"fast": 2, "ntsc": 2, "odd": 0, "slow": 1}),
        (4.2, 5, {"fast": 4, "ntsc": 4, "odd": 0, "slow": 2}),
    ],
)
def test_clips_can_be_had_at_a_rate_that_is_asked_for(mixed, asked, rate, steps):
    store = mixed("fast", "ntsc", "odd", "slow")
    strides = store.nearest_strides(asked)
    assert strides.rate == rate
    assert strides.of_episode.tolist() == [steps[episode.name] for episode in store.episodes]
    assert {episode.name: step for episode, step in store.strided("train", strides)} == {name: step for name, step in steps.items() if step}


def test_a_rate_may_be_off_by_a_little_and_no_more(write_store):
    rates = {"film": 24.0, "ntsc": 29.97, "pal": 25.0, "plain": 30.0, "twice": 59.94}
    store = write_store({name: film(0, 9 + (name == "plain")) for name in rates}, rates=rates, split="train")
    assert store.frames_per_second == 30
    assert store.strides(1).of_episode.tolist() == [0, 1, 0, 1, 2]


def test_a_clip_of_a_recording_that_cannot_have_the_rate_is_an_error(mixed):
    store = mixed("fast", "odd", "slow")
    first = store.episodes[1].first
    assert store.windows([first], 1).shape == (1, 1, 4, 4, 3)
    with pytest.raises(IndexError, match=f"episode 'odd', of frame {first}, has no clips of 10 frames/s"):
        store.windows([first], 2)


def test_one_rate_is_nothing_to_tell(mixed, capsys):
    store = mixed("fast", "ntsc")
    FrameBatches(store, "train", 4, clip_length=3)
    assert store.rates_line("train", 1) is None
    told = capsys.readouterr()
    assert "frames/s" not in told.out + told.err
