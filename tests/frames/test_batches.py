import numpy as np
import pytest

from foundation.errors import UserError
from frames import FrameBatches, in_order


@pytest.fixture
def numbered(write_store):
    """A store whose frames are their own global index: episodes of 50, 7 and 30."""
    frames = np.zeros((87, 4, 4, 3), np.uint8)
    frames[:] = np.arange(87)[:, None, None, None]
    return write_store({"a": frames[:50], "b": frames[50:57], "c": frames[57:]}, split="train")


def numbers(batch):
    return batch.frames[:, :, 0, 0, 0].astype(int)


def test_every_pass_gives_every_frame_once_in_another_order(numbered):
    batches = FrameBatches(numbered, "train", batch_size=10)
    drawn = np.concatenate([numbers(next(batches)).ravel() for _ in range(87)])
    passes = drawn.reshape(10, 87)
    assert all(sorted(one.tolist()) == list(range(87)) for one in passes)
    assert len({tuple(one) for one in passes}) == 10


def test_batches_are_always_full_even_larger_than_a_pass(numbered):
    batches = FrameBatches(numbered, "train", batch_size=200)
    drawn = np.concatenate([numbers(next(batches)).ravel() for _ in range(87)])
    assert np.bincount(drawn).tolist() == [200] * 87


def test_the_seed_decides_the_order(numbered):
    first, same, other = (FrameBatches(numbered, "train", 32, seed=seed) for seed in (3, 3, 4))
    one = numbers(next(first))
    assert np.array_equal(one, numbers(next(same)))
    assert not np.array_equal(one, numbers(next(other)))


def test_clips_are_consecutive_frames_of_one_episode(numbered):
    batches = FrameBatches(numbered, "train", batch_size=16, clip_length=8)
    seen = set()
    for _ in range(20):
        clips = numbers(next(batches))
        assert (np.diff(clips, axis=1) == 1).all()
        assert not ((clips[:, 0] < 50) & (clips[:, -1] >= 50)).any()
        seen |= set(clips[:, 0].tolist())
    assert seen == set(range(43)) | set(range(57, 80))


@pytest.mark.parametrize("clip_length", [1, 5])
@pytest.mark.parametrize("taken", [0, 3, 8, 9, 25])
def test_training_goes_on_bit_for_bit_from_a_saved_position(numbered, clip_length, taken):
    batches = FrameBatches(numbered, "train", 10, clip_length, seed=1)
    for _ in range(taken):
        next(batches)
    saved = batches.state_dict()
    expected = [next(batches).frames for _ in range(20)]
    resumed = FrameBatches(numbered, "train", 10, clip_length, seed=1)
    resumed.load_state_dict(saved)
    assert all(np.array_equal(next(resumed).frames, frames) for frames in expected)


def test_a_position_in_other_frames_is_refused(numbered, write_store, noise, tmp_path):
    saved = FrameBatches(numbered, "train", 10).state_dict()
    other = write_store({"x": noise(87)}, path=tmp_path / "other", split="train")
    with pytest.raises(UserError, match="fingerprint"):
        FrameBatches(other, "train", 10).load_state_dict(saved)
    with pytest.raises(UserError, match="seed was 0 and is 5"):
        FrameBatches(numbered, "train", 10, seed=5).load_state_dict(saved)


def test_actions_come_with_their_frames(write_store):
    frames = np.zeros((20, 4, 4, 3), np.uint8)
    frames[:] = np.arange(20)[:, None, None, None]
    store = write_store({"a": frames}, {"a": {"action.turn": np.arange(1, 20)}}, split="train")
    batch = next(FrameBatches(store, "train", 8, clip_length=4))
    assert batch.actions.shape == (8, 4, 1)
    assert np.array_equal(batch.actions[..., 0], numbers(batch))


def test_in_order_gives_every_frame_once_and_a_short_last_batch(numbered):
    batches = [numbers(batch) for batch in in_order(numbered, "train", 32)]
    assert [len(batch) for batch in batches] == [32, 32, 23]
    assert np.concatenate(batches).ravel().tolist() == list(range(87))


def test_in_order_spreads_a_limit_evenly(numbered):
    drawn = np.concatenate([numbers(batch).ravel() for batch in in_order(numbered, "train", 4, limit=10)])
    assert len(drawn) == 10
    assert (drawn[0], drawn[-1]) == (0, 86)
    assert set(np.diff(drawn)) <= {9, 10}


def test_in_order_lays_clips_side_by_side(numbered):
    clips = np.concatenate([numbers(batch) for batch in in_order(numbered, "train", 4, clip_length=8)])
    assert clips[:, 0].tolist() == [0, 8, 16, 24, 32, 40, 57, 65, 73]


def test_an_empty_split_says_what_there_is(numbered):
    for use in (lambda: FrameBatches(numbered, "val", 4), lambda: in_order(numbered, "val", 4)):
        with pytest.raises(UserError, match=r"no frames in split 'val' \(87 in train"):
            use()
    with pytest.raises(UserError, match="no clips of 51 frames"):
        FrameBatches(numbered, "train", 4, clip_length=51)
