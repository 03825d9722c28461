"""Hostile frame stores: other bytes, or rewards, masks, state and actions that are none."""

import random
import shutil
from pathlib import Path

import numpy as np

from tests.hostile.inputs import EVALUATE, Case, Spoil, written
from tests.hostile.sandbox import TRAIN
from tests.hostile.weights import flipped


def store_with(name: str, arrays: dict[str, np.ndarray]) -> Spoil:
    """Replace the store by one that the writer makes of hostile names and arrays."""

    def spoil(folder: Path) -> None:
        from frames.curation.splits import assign_splits
        from frames.storage.writer import store_writer

        shutil.rmtree(folder / "store")
        rng = np.random.default_rng(0)
        with store_writer(folder / "store", {"source": name}, (64, 64, 3)) as writer:
            names = [f"{number} {name}"[:200] for number in range(4)]
            for one in names:
                frames = rng.integers(0, 256, (40, 64, 64, 3)).astype(np.uint8)
                writer.add(one, frames, source=name, frames_per_second=20.0, arrays=lambda: arrays, task=name)
            splits = dict(zip(names, ("train", "train", "val", "test"), strict=True))
            writer.finish(lambda found: assign_splits(found, given=splits), {"resize": "squash", "left_out": []})

    return spoil


_ARRAYS: tuple[dict[str, np.ndarray], ...] = tuple(
    [{"reward": np.full(39, value, np.float32)} for value in (np.nan, np.inf, -np.inf, 3e38, -1.0)]
    + [{"reward": np.zeros((39, 7), np.float32)}, {"reward": np.ones(3, np.float32)}, {"reward": np.full(39, "x")}]
    + [{"observation.segmentation": np.full((40, 64, 64), value, np.uint8)} for value in (0, 255)]
    + [{"observation.segmentation": np.zeros(shape, np.uint8)} for shape in ((40, 8, 8), (40,), (39, 64, 64), (40, 64, 64, 9))]
    + [{"observation.segmentation": np.full((40, 64, 64), -7, np.int64)}, {"observation.segmentation": np.full((40, 64, 64), np.nan)}]
    + [{"observation.state.bearing": np.full(40, value, np.float32)} for value in (np.nan, np.inf, 3e38)]
    + [{"action.attack": np.full(39, value)} for value in (np.nan, np.inf, 1e300, -(2**62))]
    + [{"action.camera": np.zeros((39, 10_000), np.float32)}, {"action.word": np.full(39, "\x1b[2J")}]
    + [{"observation.factors": np.full((40, 5, 3), np.nan, np.float32)}]
)
_LOOK = (
    "make_frames.py inspect --store store",
    "make_frames.py verify --store store",
    f"train_encoder.py {TRAIN} --run new",
    "train_encoder.py critic_debug --store store --run new --steps 2 --device cpu --threads 1 --training.validation-frames 16",
    EVALUATE.format("encoder") + " probes --probes.frames 100",
    EVALUATE.format("critic") + " value masks",
)


def stores(number: int, rng: random.Random) -> Case:
    """A frame store whose bytes are others, or whose rewards, masks, state and actions are none."""
    command = _LOOK[number % len(_LOOK)]
    spoil: Spoil
    if rng.random() < 0.45:

        def spoil(folder: Path) -> None:
            path = folder / "store" / "data.mdb"
            path.write_bytes(flipped(path.read_bytes(), rng, 20_000))
    else:
        name = "plain"
        spoil = store_with(name, {key: value for arrays in rng.sample(_ARRAYS, 2) for key, value in arrays.items()})
    return Case("stores", number, tuple(command.split()), (*written(command), "store.png"), spoil)
