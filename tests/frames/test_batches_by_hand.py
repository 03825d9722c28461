"""Batches of randomly chosen stores and settings, held against clips that are cut out one by one here."""

import itertools
import json

import numpy as np
import pytest

from frames import FrameBatches
from frames.loading import hold, prefetch

BATCHES = 25
WIDTH = 3


class Drawn:
    """Random stores and settings, and every clip there is: its pixels and actions by (store, episode, first frame)."""

    def __init__(self, seed, write_store, folder):
        self.rng = np.random.default_rng(seed)
        self.length, self.stride = int(self.rng.integers(1, 5)), int(self.rng.integers(1, 4))
        self.flip, acting = bool(self.length == 1 or seed % 2), seed % 2 == 0
        self.clips = [{} for _ in range(1 + seed % 3)]
        self.stores = [self.store(number, acting, write_store, folder / f"{number}") for number in range(len(self.clips))]
        self.weights = self.rng.choice([1.0, 2.0, 0.25, 3.5], len(self.stores)).tolist()
        self.ranks = int(self.rng.integers(1, 4))
        self.batch_size = self.ranks * int(self.rng.integers(1, 40))

    def store(self, number, acting, write_store, path):
        lengths = [40, 1, 2, 7, *self.rng.integers(1, 50, 3).tolist()]
        episodes = {f"{place}": self.frames(number, place, length) for place, length in enumerate(lengths)}
        arrays = {
            name: {"action.camera": self.rng.normal(size=(len(frames) - 1, WIDTH)).astype(np.float32)} if acting and name != "3" else {}
            for name, frames in episodes.items()
        }
        for place, (name, frames) in enumerate(episodes.items()):
            led = np.concatenate([np.zeros((1, WIDTH), np.float32), arrays[name].get("action.camera", np.zeros((len(frames) - 1, WIDTH)))])
            for first in range(len(frames)):
                times = [first + step * self.stride for step in range(self.length)]
                turned = np.array([led[max(0, time - self.stride) + 1 : time + 1].sum(axis=0, dtype=np.float32) for time in times])
                if times[-1] < len(frames) and (name != "3" or self.length == 1):
                    self.clips[number][number, place, first] = frames[times], turned if acting and self.length > 1 else None
        return write_store(episodes, arrays, path=path, unordered=["3"], split="train")

    def frames(self, number, place, length):
        """Frames of noise whose left upper pixel says what they are; their right upper one says the same when mirrored."""
        frames = self.rng.integers(0, 256, (length, 4, 6, 3), np.uint8)
        frames[:, 0, 0] = np.stack(np.broadcast_arrays(number, place, np.arange(length)), axis=-1)
        frames[:, 0, 5] = 255
        return frames

    def batches(self, rank=0, ranks=1):
        options = {"stride": self.stride, "weights": self.weights, "rank": rank, "ranks": ranks, "flip": self.flip}
        return FrameBatches(self.stores, "train", self.batch_size, self.length, seed=7, **options)

    def checked(self, batch):
        """Return which clips a batch has, as (store, episode, first frame), each compared with the one cut out by hand."""
        found = []
        for row, frames in enumerate(batch.frames):
            mirrored = (frames[0, 0, 0] == 255).all()
            upright = frames[:, :, ::-1] if mirrored else frames
            clip = tuple(upright[0, 0, 0].tolist())
            expected, actions = self.clips[clip[0]][clip]
            assert np.array_equal(upright, expected)
            assert self.flip or not mirrored
            assert (actions is None) == (batch.actions is None)
            assert actions is None or np.allclose(batch.actions[row], actions, rtol=1e-6, atol=1e-6)
            found.append(clip)
        return found


@pytest.fixture(params=range(12))
def drawn(request, write_store, tmp_path):
    return Drawn(request.param, write_store, tmp_path)


def of_store(clips, number):
    return [clip for clip in clips if clip[0] == number]


def test_every_clip_comes_once_a_pass_in_its_weight_and_to_one_rank(drawn):
    whole, ranks = drawn.batches(), [drawn.batches(rank, drawn.ranks) for rank in range(drawn.ranks)]
    seen = []
    for count in range(1, BATCHES + 1):
        batch = drawn.checked(next(whole))
        shared = [drawn.checked(next(rank)) for rank in ranks]
        assert {len(part) for part in shared} == {drawn.batch_size // drawn.ranks}
        seen += batch
        for number, weight in enumerate(drawn.weights):
            assert of_store(itertools.chain(*shared), number) == of_store(batch, number)
            exact = count * drawn.batch_size * weight / sum(drawn.weights)
            assert abs(len(of_store(seen, number)) - exact) < len(drawn.stores)
    for number, clips in enumerate(drawn.clips):
        one_store = of_store(seen, number)
        for first in range(0, len(one_store), len(clips)):
            part = one_store[first : first + len(clips)]
            assert len(set(part)) == len(part)


def test_a_run_goes_on_from_every_position_as_if_never_interrupted(drawn):
    plain = drawn.batches()
    states, expected = [plain.state_dict()], []
    for _ in range(BATCHES):
        expected.append(next(plain))
        states.append(plain.state_dict())
    for make in (lambda batches: prefetch(batches, workers=2), lambda batches: hold(batches, "cpu")):
        with make(drawn.batches()) as ahead:
            for taken in drawn.rng.permutation(BATCHES - 1).tolist():
                ahead.load_state_dict(json.loads(json.dumps(states[taken])))
                for number in (taken, taken + 1):
                    batch = next(ahead)
                    assert np.array_equal(batch.frames, expected[number].frames)
                    assert expected[number].actions is None or np.array_equal(batch.actions, expected[number].actions)
                    assert ahead.state_dict() == states[number + 1]
