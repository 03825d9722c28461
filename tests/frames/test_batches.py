import json

import numpy as np
import pytest
import torch

from foundation.errors import UserError
from frames import FrameBatches, FrameStore, in_order


@pytest.fixture
def numbered(write_store):
    """A store whose frames are their own global index: episodes of 50, 7 and 30."""
    frames = np.zeros((87, 4, 4, 3), np.uint8)
    frames[:] = np.arange(87)[:, None, None, None]
    return write_store({"a": frames[:50], "b": frames[50:57], "c": frames[57:]}, split="train")


@pytest.fixture
def three_stores(write_store, tmp_path):
    """Stores whose frames are 0-29, 100-109 and 200-239."""

    def counted(path, first, count):
        frames = np.zeros((count, 4, 4, 3), np.uint8)
        frames[:] = np.arange(first, first + count)[:, None, None, None]
        return write_store({f"from {first}": frames}, path=tmp_path / path, split="train")

    return [counted("one", 0, 30), counted("two", 100, 10), counted("three", 200, 40)]


def numbers(batch):
    return np.asarray(batch.frames)[:, :, 0, 0, 0].astype(int)


def rows(batches, count):
    return np.concatenate([numbers(next(batches)) for _ in range(count)])


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


def test_a_batch_takes_the_memory_of_one_that_is_gone(numbered):
    batches = FrameBatches(numbered, "train", 32)
    addresses = [next(batches).frames.ctypes.data for _ in range(20)]
    assert len(set(addresses)) == 1
    first, second = next(batches), next(batches)
    assert not np.shares_memory(first.frames, second.frames)


@pytest.mark.parametrize(
    "part",
    [
        lambda frames: frames[1:],
        lambda frames: frames.reshape(-1).view("<u4"),
        lambda frames: memoryview(frames)[2:],
        lambda frames: np.lib.stride_tricks.as_strided(frames, (3,), (1,)),
        lambda frames: torch.from_numpy(frames)[3:].permute(0, 4, 1, 2, 3),
        lambda frames: torch.from_dlpack(frames)[::2],
    ],
)
def test_whatever_is_kept_of_a_batch_stays_as_it_is(numbered, part):
    batches, same = FrameBatches(numbered, "train", 8), FrameBatches(numbered, "train", 8)
    kept = [part(next(batches).frames) for _ in range(20)]
    for one in kept:
        assert np.array_equal(one, part(same.read(same.plan(), np.empty(same.shape, np.uint8)).frames))


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


def test_a_position_goes_on_across_several_stores(three_stores):
    def mixed():
        return FrameBatches(three_stores, "train", 7, clip_length=2, seed=1, weights=[2, 3, 0.5])

    for taken in (0, 1, 5, 40):
        batches = mixed()
        rows(batches, taken) if taken else None
        resumed = mixed()
        resumed.load_state_dict(json.loads(json.dumps(batches.state_dict())))
        assert np.array_equal(rows(resumed, 30), rows(batches, 30))


def test_weights_hold_exactly_and_every_store_keeps_its_passes(three_stores):
    batches = FrameBatches(three_stores, "train", 9, weights=[3, 1, 2])
    drawn = rows(batches, 100)[:, 0]
    stores = drawn // 100
    for count in (90, 450, 900):
        assert np.bincount(stores[:count]).tolist() == [count / 2, count / 6, count / 3]
    for store, size in enumerate((30, 10, 40)):
        own = drawn[stores == store]
        whole = own[: len(own) // size * size].reshape(-1, size)
        assert all(len(set(one.tolist())) == size for one in whole)


def test_without_weights_every_frame_of_every_store_comes_as_often(three_stores):
    drawn = rows(FrameBatches(three_stores, "train", 10), 16)[:, 0]
    assert np.unique(drawn, return_counts=True)[1].tolist() == [2] * 80


@pytest.mark.parametrize("clip_length", [1, 3])
def test_ranks_share_the_batches_that_one_would_have_had(three_stores, clip_length):
    def batches(**ranks):
        return FrameBatches(three_stores, "train", 12, clip_length, seed=2, weights=[1, 1, 2], **ranks)

    alone, shared = batches(), [batches(rank=rank, ranks=4) for rank in range(4)]
    for _ in range(20):
        parts = [numbers(next(one)) for one in shared]
        assert [len(part) for part in parts] == [3] * 4
        assert sorted(map(tuple, np.concatenate(parts))) == sorted(map(tuple, numbers(next(alone))))
    resumed = batches(rank=1, ranks=2)
    resumed.load_state_dict(shared[3].state_dict())
    assert set(map(tuple, numbers(next(resumed)))) <= set(map(tuple, numbers(next(alone))))


def test_every_rank_draws_from_every_store(three_stores):
    one = rows(FrameBatches(three_stores, "train", 4, weights=[1, 1, 2], rank=0, ranks=4), 100)[:, 0]
    assert set(one // 100) == {0, 1, 2}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rank": 2, "ranks": 2}, "ranks count from 0"),
        ({"ranks": 3}, "choose a multiple of 3"),
        ({"weights": [1, 1]}, "one greater than 0 for each of 3"),
        ({"weights": [1, 0, 1]}, "one greater than 0"),
    ],
)
def test_ranks_and_weights_that_cannot_be_are_refused(three_stores, options, message):
    with pytest.raises(UserError, match=message):
        FrameBatches(three_stores, "train", 10, **options)


def test_stores_that_do_not_fit_together_are_named(three_stores, write_store, noise, tmp_path):
    larger = write_store({"x": noise(20)}, path=tmp_path / "larger", split="train")
    with pytest.raises(UserError, match=r"one and .*larger cannot be mixed: frames of shape"):
        FrameBatches([three_stores[0], larger], "train", 4)
    acting = {"x": {"action.jump": np.zeros(19)}}
    with_actions = write_store({"x": noise(20, size=4)}, acting, path=tmp_path / "acting", split="train")
    with pytest.raises(UserError, match=r"acting cannot be mixed: actions"):
        FrameBatches([three_stores[0], with_actions], "train", 4, clip_length=2)
    # single frames carry no actions
    assert len(next(FrameBatches([three_stores[0], with_actions], "train", 4)).frames) == 4


@pytest.mark.parametrize("clip_length", [1, 4])
def test_half_of_the_clips_are_mirrored_whole_if_wanted(noise, write_store, clip_length):
    store = write_store({"a": noise(60)}, split="train")
    plain, mirrored = (FrameBatches(store, "train", 50, clip_length, flip=flip) for flip in (False, True))
    count = 0
    for _ in range(4):
        one, other = next(plain).frames, next(mirrored).frames
        same = (one == other).all(axis=(1, 2, 3, 4))
        assert (same | (one[:, :, :, ::-1] == other).all(axis=(1, 2, 3, 4))).all()
        count += int((~same).sum())
    assert 70 <= count <= 130
    again = FrameBatches(store, "train", 50, clip_length, flip=True)
    assert np.array_equal([next(again).frames for _ in range(4)][3], other)


def test_clips_with_actions_are_not_mirrored(noise, write_store):
    store = write_store({"a": noise(20)}, {"a": {"action.left": np.zeros(19)}}, split="train")
    with pytest.raises(UserError, match="left and right wrong"):
        FrameBatches(store, "train", 4, clip_length=2, flip=True)


def test_clips_may_skip_frames(numbered):
    clips = rows(FrameBatches(numbered, "train", 8, clip_length=5, stride=6), 9)
    assert (np.diff(clips, axis=1) == 6).all()
    assert set(clips[:, 0]) == set(range(26)) | set(range(57, 63))
    side_by_side = np.concatenate([numbers(batch) for batch in in_order(numbered, "train", 2, clip_length=5, stride=6)])
    assert side_by_side[:, 0].tolist() == [0, 57]
    assert (np.diff(side_by_side, axis=1) == 6).all()


def test_a_position_in_other_frames_is_refused(numbered, write_store, noise, tmp_path):
    saved = FrameBatches(numbered, "train", 10).state_dict()
    other = write_store({"x": noise(87)}, path=tmp_path / "other", split="train")
    with pytest.raises(UserError, match="fingerprint"):
        FrameBatches(other, "train", 10).load_state_dict(saved)
    with pytest.raises(UserError, match="seed was 0 and is 5"):
        FrameBatches(numbered, "train", 10, seed=5).load_state_dict(saved)
    for changed in ({"clip_length": 2}, {"stride": 2, "clip_length": 2}, {"flip": True}):
        with pytest.raises(UserError, match=r"was .* and is"):
            FrameBatches(numbered, "train", 10, **changed).load_state_dict(saved)


@pytest.mark.parametrize(
    "change",
    [
        {"names": ("z", "b")},
        {"split": "val"},
        {"arrays": {"b": {"reward": np.ones(29, np.float32)}}},
        {"rates": {"a": 10.0, "b": 10.0}},
    ],
)
def test_a_position_in_the_same_frames_told_otherwise_is_refused(write_store, noise, tmp_path, change):
    def written(folder, names=("a", "b"), split="train", **told):
        return write_store(dict(zip(names, (noise(30, 1), noise(30, 2)), strict=True)), path=tmp_path / folder, split=split, **told)

    store, other = written("store"), written("other", **change)
    assert store.fingerprint == other.fingerprint
    assert store.identity == written("again").identity != other.identity
    saved = FrameBatches(store, "train", 10).state_dict()
    FrameBatches(FrameStore(tmp_path / "again"), "train", 10).load_state_dict(saved)
    batches = FrameBatches(other, change.get("split", "train"), 10)
    with pytest.raises(UserError, match="the frames are the same, but their order, names, splits or what is recorded beside them is not"):
        batches.load_state_dict(saved)
    # saved before there were identities
    del saved["identities"]
    batches.load_state_dict(saved)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda state: {"pass": 0, "position": 3}, "saved by another version"),
        (lambda state: state | {"positions": [1000]}, "damaged"),
        (lambda state: state | {"passes": [0, 0]}, "damaged"),
        (lambda state: state | {"positions": ["x"]}, "damaged"),
        (lambda state: state | {"positions": [3.5]}, "damaged"),
    ],
)
def test_a_position_of_another_layout_is_refused(numbered, damage, message):
    batches = FrameBatches(numbered, "train", 10)
    with pytest.raises(UserError, match=message):
        batches.load_state_dict(damage(batches.state_dict()))


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


@pytest.mark.parametrize("wrong", [{"batch_size": 0}, {"clip_length": 0}, {"stride": 0}, {"seed": -1}, {"clip_length": -2}])
def test_sizes_that_cannot_be_are_refused_at_once(numbered, wrong):
    with pytest.raises(UserError, match="must be at least"):
        FrameBatches(numbered, "train", **{"batch_size": 4, **wrong})


def test_an_array_for_another_batch_size_is_refused(numbered):
    batches = FrameBatches(numbered, "train", 4)
    with pytest.raises(ValueError, match=r"must be \(4, 1, 4, 4, 3\)"):
        batches.read(batches.plan(), np.empty((5, 1, 4, 4, 3), np.uint8))


def test_an_empty_split_says_what_there_is(numbered):
    for use in (lambda: FrameBatches(numbered, "val", 4), lambda: in_order(numbered, "val", 4)):
        with pytest.raises(UserError, match=r"no frames in split 'val' \(87 in train"):
            use()
    with pytest.raises(UserError, match="no clips of 51 frames"):
        FrameBatches(numbered, "train", 4, clip_length=51)
