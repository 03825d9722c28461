"""Clips to predict are read at the rate that the encoder was trained at, from recordings of several rates."""

from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
import torch

from evaluation.evaluation import Evaluation
from evaluation.open_loop_clips import plan
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
