"""Batches read ahead or held on a device are those of `FrameBatches`, bit for bit."""

import threading
import time

import numpy as np
import pytest
import torch

from foundation.errors import UserError
from frames import FrameBatches
from frames.loading import hold, prefetch


@pytest.fixture
def stores(noise, write_store, tmp_path):
    """Two stores with actions."""

    def acting(name, seed, lengths):
        episodes = {f"{name}{number}": noise(length, seed + number) for number, length in enumerate(lengths)}
        arrays = {one: {"action.camera": np.random.default_rng(seed).normal(size=(len(clip) - 1, 2))} for one, clip in episodes.items()}
        return write_store(episodes, arrays, path=tmp_path / name, split="train")

    return [acting("a", 0, [40, 9, 30]), acting("b", 10, [25, 50])]


def drawn(stores, clip_length=3, **options):
    return FrameBatches(stores, "train", 6, clip_length, seed=4, weights=[2, 1], **options)


def assert_equal(found, expected):
    assert isinstance(found.frames, torch.Tensor)
    assert found.frames.dtype == torch.uint8
    assert np.array_equal(found.frames.cpu(), expected.frames)
    assert (found.actions is None) == (expected.actions is None)
    if expected.actions is not None:
        assert np.array_equal(found.actions.cpu(), expected.actions)


def frame_threads():
    return [thread for thread in threading.enumerate() if thread.name.startswith("frames")]


@pytest.mark.parametrize("clip_length", [1, 3])
@pytest.mark.parametrize("workers", [1, 2, 5])
def test_any_number_of_workers_gives_the_same_batches_in_the_same_order(stores, workers, clip_length):
    plain = drawn(stores, clip_length)
    with prefetch(drawn(stores, clip_length), workers=workers) as batches:
        for _ in range(60):
            assert_equal(next(batches), next(plain))


@pytest.mark.parametrize("part", [lambda frames: frames, lambda frames: frames[2:], lambda frames: np.asarray(frames)[:, 0].T])
def test_a_batch_stays_as_it_is_when_the_next_ones_come(stores, part):
    plain, expected = drawn(stores), drawn(stores)
    with prefetch(drawn(stores), workers=3) as batches:
        kept = [(part(next(batches).frames), part(next(plain).frames)) for _ in range(30)]
    for ahead, one in kept:
        frames = expected.read(expected.plan(), np.empty(expected.shape, np.uint8)).frames
        assert np.array_equal(ahead, part(frames))
        assert np.array_equal(one, part(frames))


@pytest.mark.parametrize("taken", [0, 1, 13])
@pytest.mark.parametrize("ahead", [prefetch, lambda batches: hold(batches, "cpu")])
def test_the_position_is_that_of_what_was_handed_out(stores, taken, ahead):
    plain = drawn(stores)
    with ahead(drawn(stores)) as batches:
        for _ in range(taken):
            next(batches), next(plain)
        saved = batches.state_dict()
    assert saved == plain.state_dict()
    with ahead(drawn(stores)) as resumed:
        next(resumed)
        resumed.load_state_dict(saved)
        assert resumed.state_dict() == saved
        for _ in range(5):
            assert_equal(next(resumed), next(plain))


@pytest.mark.parametrize("options", [{}, {"stride": 2}, {"clip_length": 1, "flip": True}])
def test_frames_held_on_a_device_give_the_same_batches(stores, options):
    plain = drawn(stores, **options)
    with hold(drawn(stores, **options), "cpu") as batches:
        for _ in range(40):
            assert_equal(next(batches), next(plain))


def test_an_error_while_reading_ahead_reaches_the_reader_and_loses_no_batch(stores, monkeypatch):
    batches, plain = drawn(stores), drawn(stores)
    read, failing = batches.read, threading.Event()

    def unreliable(plan, out=None):
        if failing.is_set():
            raise UserError("the disk is gone")
        return read(plan, out)

    monkeypatch.setattr(batches, "read", unreliable)
    with prefetch(batches, workers=2) as ahead:
        assert_equal(next(ahead), next(plain))
        failing.set()
        with pytest.raises(UserError, match="the disk is gone"):
            for _ in range(10):
                assert_equal(next(ahead), next(plain))
                before = ahead.state_dict()
        assert ahead.state_dict() == before
        failing.clear()
        resumed = drawn(stores)
        resumed.load_state_dict(before)
        assert_equal(next(ahead), next(resumed))


def test_closing_leaves_no_thread_even_while_one_reads(stores, monkeypatch):
    batches = drawn(stores)
    read = batches.read

    def slow(plan, out=None):
        time.sleep(0.02)
        return read(plan, out)

    monkeypatch.setattr(batches, "read", slow)
    with prefetch(batches, workers=2) as ahead:
        next(ahead)
        assert len(frame_threads()) == 2
    assert not frame_threads()
    with pytest.raises(ValueError, match="closed"):
        next(ahead)


@pytest.mark.parametrize("ahead", [prefetch, lambda batches: hold(batches, "cpu")])
def test_closing_twice_does_no_harm_and_the_position_stays(stores, ahead):
    batches = ahead(drawn(stores))
    next(batches)
    position = batches.state_dict()
    batches.close()
    batches.close()
    assert batches.state_dict() == position
    with pytest.raises(ValueError, match="closed"):
        next(batches)


def test_batches_that_are_forgotten_leave_no_thread(stores):
    batches = prefetch(drawn(stores), workers=2)
    next(batches)
    threads = frame_threads()
    assert len(threads) == 2
    del batches
    for thread in threads:
        thread.join(10)
    assert not frame_threads()


def test_frames_that_do_not_fit_into_memory_are_not_held_there(stores, monkeypatch):
    monkeypatch.setattr("frames.store.free_memory", lambda: sum(map(len, stores)) * 16 * 16 * 3 - 1)
    with pytest.raises(UserError, match="leave the frames in the file"):
        hold(drawn(stores), "cpu")


def test_no_worker_at_all_is_refused(stores):
    with pytest.raises(UserError, match="0 workers"):
        prefetch(drawn(stores), workers=0)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("ahead", [lambda batches: prefetch(batches, "cuda", 2), lambda batches: hold(batches, "cuda")])
def test_batches_on_a_gpu_are_those_on_the_cpu(stores, ahead):
    plain = drawn(stores)
    with ahead(drawn(stores)) as batches:
        for _ in range(100):
            batch = next(batches)
            assert batch.frames.is_cuda
            assert_equal(batch, next(plain))
