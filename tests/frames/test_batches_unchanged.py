"""Batches of stores with one frame rate, held against hashes of what they have always been: a saved run goes on with them."""

import hashlib

import numpy as np
import pytest

from frames import FrameBatch, FrameBatches, in_order, sample_sequences, side_by_side
from frames.loading import hold

SHUFFLED = {
    "frames": "fa0e5894713bbffc",
    "flipped": "657b8f53e0de1d1b",
    "clips": "c69fa6e76197bd57",
    "clips of two stores": "9b3af16ddaa316e7",
    "every third frame": "51feba47b08eaf9c",
}
IN_ORDER = {
    "frames": "dea181c499cdc30f",
    "clips": "f9a70e22b0399074",
    "some clips": "1c3bc7176b5c5747",
    "sequences": "51afee5e74cea2f7",
    "starts": "e96f5f38f50a7047",
}
POSITION = {
    "passes": [0, 0],
    "positions": [58, 14],
    "fingerprint": [
        "3f85b3331da5f3b885c504a5683110a2f855ab61685c638740f10dded5a731de",
        "d401e570ec199390d78a53e3cd0cd6235b1aa5ffe06077c0a6211cebeb696256",
    ],
    "seed": 5,
    "clip_length": 4,
    "stride": 1,
    "clips": [89, 22],
    "weights": [89.0, 22.0],
    "batch_size": 8,
    "flip": False,
}


@pytest.fixture
def stores(noise, write_store, tmp_path):
    """Two stores with actions of every kind, a short recording and pictures without order."""

    def actions(ticks, seed):
        random = np.random.default_rng(seed)
        return {
            "action.camera": random.normal(size=(ticks, 2)).astype(np.float32),
            "action.jump": random.integers(0, 2, ticks),
            "action.place": np.array(["dirt", "none"])[random.integers(0, 2, ticks)],
        }

    def store(seed, *lengths):
        episodes = {f"{number}": noise(length, seed + number) for number, length in enumerate(lengths)}
        arrays = {name: actions(len(frames) - 1, seed) for name, frames in episodes.items() if name != "1"}
        return write_store(episodes, arrays, path=tmp_path / f"{seed}", unordered=["1"], split="train")

    return store(10, 60, 9, 5, 33), store(20, 25, 7)


def digest(batches: list[FrameBatch]) -> str:
    found = hashlib.sha256()
    for batch in batches:
        found.update(batch.frames.tobytes())
        found.update(b"" if batch.actions is None else batch.actions.tobytes())
    return found.hexdigest()[:16]


def taken(batches: FrameBatches, count: int = 9) -> list[FrameBatch]:
    return [next(batches) for _ in range(count)]


def test_shuffled_batches_are_what_they_were(stores):
    one, both = stores[0], list(stores)
    found = {
        "frames": digest(taken(FrameBatches(one, "train", 16, seed=3))),
        "flipped": digest(taken(FrameBatches(both, "train", 16, seed=3, flip=True))),
        "clips": digest(taken(FrameBatches(one, "train", 8, clip_length=4, seed=5))),
        "clips of two stores": digest(taken(FrameBatches(both, "train", 8, clip_length=4, seed=5, weights=[2, 1], rank=1, ranks=2))),
        "every third frame": digest([FrameBatch(batch.frames) for batch in taken(FrameBatches(both, "train", 8, 4, seed=5, stride=3))]),
    }
    assert found == SHUFFLED


def test_batches_in_order_are_what_they_were(stores):
    one = stores[0]
    found = {
        "frames": digest(list(in_order(one, "train", 16))),
        "clips": digest(list(in_order(one, "train", 4, 5))),
        "some clips": digest(list(in_order(one, "train", 4, 3, 7))),
        "sequences": digest([sample_sequences(one, "train", 80, seed=1)]),
        "starts": hashlib.sha256(side_by_side(one, "train", 4, 3).tobytes() + one.starts("train", 4, 2).tobytes()).hexdigest()[:16],
    }
    assert found == IN_ORDER


def test_positions_and_batches_on_a_device_are_what_they_were(stores):
    batches = FrameBatches(list(stores), "train", 8, clip_length=4, seed=5)
    with hold(FrameBatches(list(stores), "train", 8, clip_length=4, seed=5), "cpu") as held:
        for expected, found in zip(taken(batches), held, strict=False):
            assert np.array_equal(expected.frames, found.frames.numpy())
            assert np.array_equal(expected.actions, found.actions.numpy())
    state = batches.state_dict()
    assert state.pop("identities") == [store.identity for store in stores]
    assert state == POSITION
    # a position of before there were identities
    again = FrameBatches(list(stores), "train", 8, clip_length=4, seed=5)
    again.load_state_dict(POSITION)
    assert digest(taken(again, 2)) == digest(taken(batches, 2))
