"""Clips to predict are read at the rate that the encoder was trained at, from recordings of several rates."""

from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
import torch

from evaluation.evaluation import Evaluation
from evaluation.open_loop import fit_blend
from evaluation.open_loop_clips import plan
from foundation.errors import UserError
from frames import FrameStore
from frames.storage.writer import store_writer

LENGTHS = {"a fast": 60, "b odd": 60, "c slow": 25}
RATES = {"a fast": 20.0, "b odd": 7.0, "c slow": 10.0}


@pytest.fixture
def mixed(tmp_path: Path) -> FrameStore:
    """A store whose frames tell their number in the recording."""
    with store_writer(tmp_path / "store", {"source": "a test"}, (4, 4, 3)) as writer:
        for name, length in LENGTHS.items():
            pictures = np.broadcast_to(np.arange(length, dtype=np.uint8)[:, None, None, None], (length, 4, 4, 3))
            writer.add(name, pictures, source=name, frames_per_second=RATES[name])
        writer.finish(lambda names: dict.fromkeys(names, "train"), {"resize": "squash", "left_out": []})
    return FrameStore(tmp_path / "store")


@pytest.mark.parametrize(
    ("trained_at", "rate", "steps"),
    [(10.0, 10.0, {0: 2, 1: 1}), (5.0, 5.0, {0: 4, 1: 2}), (20.0, 20.0, {0: 1}), (40.0, 10.0, {0: 2, 1: 1})],
)
def test_clips_have_the_rate_that_the_encoder_was_trained_at(mixed, tmp_path, trained_at, rate, steps):
    artifact = SimpleNamespace(info=SimpleNamespace(frames_per_second=trained_at))
    out = Evaluation(cast("object", artifact), mixed, "train", mixed, tmp_path, torch.device("cpu"))
    planned = plan(out, context=2, predict=4, clips=100)
    clips = [(batch.frames_per_second, clip[:, 0, 0, 0].astype(int)) for batch in planned.training() for clip in batch.frames]
    assert {given for given, _ in clips} == {rate}
    expected = [
        [first + step * number for number in range(6)]
        for recording, step in steps.items()
        for first in range(0, [60, 25][recording] - 5 * step, 6 * step)
    ]
    assert [numbers.tolist() for _, numbers in clips] == expected
    assert planned.count == len(expected)
    assert "of 7" in planned.notes[0]
    assert any("judged at" in note for note in planned.notes) == (rate != trained_at)


def test_futures_longer_than_any_training_recording_are_judged_beside_a_blend_that_stays(tmp_path):
    lengths = {"train a": 12, "train b": 14, "test": 40}
    with store_writer(tmp_path / "store", {"source": "a test"}, (4, 4, 3)) as writer:
        for number, (name, length) in enumerate(lengths.items()):
            pictures = np.random.default_rng(number).integers(0, 256, (length, 4, 4, 3), np.uint8)
            writer.add(name, pictures, source=name, frames_per_second=20.0)
        writer.finish(lambda names: {name: "test" if name == "test" else "train" for name in names}, {"resize": "squash", "left_out": []})
    store = FrameStore(tmp_path / "store")
    artifact = SimpleNamespace(info=SimpleNamespace(frames_per_second=20.0))
    out = Evaluation(cast("object", artifact), store, "test", store, tmp_path, torch.device("cpu"))
    planned = plan(out, context=4, predict=36, clips=100)
    assert (planned.count, planned.length) == (1, 40)
    assert planned.notes == ["training recordings have 14 frames at most: the blend is fitted 10 frames ahead, and stays so beyond"]
    assert [clips.frames.shape[:2] for clips in planned.training()] == [(1, 14)]
    mean = np.full((4, 4, 3), 0.5, np.float32)
    short, long = fit_blend(planned.training(), 4, mean), fit_blend(planned.training(), 4, mean, 36)
    assert len(short) == 10
    np.testing.assert_array_equal(long, [*short, *[short[-1]] * 26])
    with pytest.raises(UserError, match="no training recording is longer than the context of 14 frames"):
        plan(out, context=14, predict=20, clips=1)


def test_long_clips_are_read_fewer_at_a_time(tmp_path):
    with store_writer(tmp_path / "store", {"source": "a test"}, (2, 2, 3)) as writer:
        for name, length in {"short": 200, "long": 4000}.items():
            writer.add(name, np.zeros((length, 2, 2, 3), np.uint8), source=name, frames_per_second=20.0)
        writer.finish(lambda names: dict.fromkeys(names, "train"), {"resize": "squash", "left_out": []})
    store = FrameStore(tmp_path / "store")
    artifact = SimpleNamespace(info=SimpleNamespace(frames_per_second=20.0))
    out = Evaluation(cast("object", artifact), store, "train", store, tmp_path, torch.device("cpu"))
    for length, together in ((50, 4), (500, 4), (1000, 2), (2000, 1)):
        planned = plan(out, context=10, predict=length - 10, clips=100)
        assert max(len(clips.frames) for clips in planned.held_out()) == together
        assert sum(len(clips.frames) for clips in planned.held_out()) == planned.count


@pytest.mark.parametrize(
    ("device", "bytes_a_clip", "size"),
    # 100 clips of 4 frames are 400 frames; 4 GiB hold 8 clips of half a GiB each, and one clip is the least
    [("cpu", 2**29, 100), ("cuda", 2**29, 8), ("cuda", 2**20, 100), ("cuda", 2**34, 1), ("cuda", None, 100)],
)
def test_a_batch_fits_a_gpu_where_the_model_knows_what_it_takes(tmp_path, device, bytes_a_clip, size):
    with store_writer(tmp_path / "store", {"source": "a test"}, (1, 1, 3)) as writer:
        writer.add("long", np.zeros((404, 1, 1, 3), np.uint8), source="long", frames_per_second=20.0)
        writer.finish(lambda names: dict.fromkeys(names, "train"), {"resize": "squash", "left_out": []})
    store = FrameStore(tmp_path / "store")
    takes = {} if bytes_a_clip is None else {"training_bytes": lambda clips, device: clips * bytes_a_clip}
    artifact = SimpleNamespace(info=SimpleNamespace(frames_per_second=20.0), model=SimpleNamespace(clip_length=4, **takes))
    out = Evaluation(cast("object", artifact), store, "train", store, tmp_path, torch.device(device))
    assert next(len(batch.frames) for batch in out.batches(101)) == size
