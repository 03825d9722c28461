"""Stores of what is drawn: scenes, pictures without order, with masks and factors; and moving digits, with their state."""

import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from foundation.errors import UserError
from foundation.progress import progress_bar
from frames.building.build import BuildSummary, close_summary, finished_summary
from frames.curation.splits import BY_RECORDING, assign_splits
from frames.scenes.digit_pictures import drawn_digits, read_digits
from frames.scenes.factors import FACTORS, META, factors_meta
from frames.scenes.moving_digits import SIZE, drawn_episode
from frames.scenes.multi_dsprites import MULTI_DSPRITES
from frames.scenes.scene import Scenes
from frames.scenes.tetrominoes import TETROMINOES
from frames.storage.format import MASKS
from frames.storage.writer import finished_store, store_writer

KINDS = {kind.name: kind for kind in (TETROMINOES, MULTI_DSPRITES)}
MOVING_DIGITS = "MovingDigits"
DRAWN = (*KINDS, MOVING_DIGITS)
"""All that can be drawn, by name."""
# scenes by themselves belong to no time
_RATE = 1.0
_MOVING_RATE = 20.0


def build_scenes(
    name: str,
    path: str | Path,
    *,
    frames: int = 20_000,
    seed: int = 0,
    episode_frames: int = 500,
    split: str = BY_RECORDING,
    val: float = 0.1,
    test: float = 0.0,
) -> BuildSummary:
    """Fill the store at `path` with `frames` scenes of a kind, "Tetrominoes" or "MultiDSprites", in their own size.

    They come in unordered episodes of `episode_frames`, each with its split, with "observation.masks" uint8 (F, K, H, W, 1) and
    "observation.factors" float32 (F, K, F'); the store's meta record names the factors. The same `seed` gives the same fingerprint, and
    an interrupted build goes on. Raises `UserError` when the disk is full or something else is at `path`.
    """
    path, began, kind = Path(path), time.monotonic(), KINDS[name]
    plan = _plan(name, frames, seed, episode_frames, split, val, test)
    finished = finished_store(path, plan)
    if finished is not None:
        return finished_summary(finished)
    with store_writer(path, plan, (*kind.size, 3)) as writer:
        kept = dict(writer.committed)
        done = sum(episode.length for episode in kept.values())
        with progress_bar("drawing", frames, "scenes", done) as advance:
            for number, first in enumerate(range(0, frames, episode_frames)):
                episode = f"{name} seed {seed}/{number:06d}"
                if episode not in kept:
                    scenes = kind.draw(np.random.default_rng([seed, number]), min(episode_frames, frames - first))
                    arrays = partial(_arrays, scenes)
                    writer.add(episode, iter(scenes.images), source=name, frames_per_second=_RATE, arrays=arrays, task=name, ordered=False)
                    advance(len(scenes.images))
        splitter = partial(assign_splits, split=split, val=val, test=test)
        return close_summary(writer, len(kept), [], began, splitter, "squash", {META: factors_meta(kind.factors)})


def build_moving_digits(
    path: str | Path,
    *,
    digits: Path | None = None,
    frames: int = 20_000,
    seed: int = 0,
    episode_frames: int = 500,
    split: str = BY_RECORDING,
    val: float = 0.1,
    test: float = 0.0,
) -> BuildSummary:
    """Fill the store at `path` with `frames` frames of two digits that move in 64x64, in episodes of `episode_frames`.

    Digits are those of MNIST's IDX files in the folder `digits`, or drawn with fonts; train, val and test show different pictures of them.
    Positions and speeds are recorded as state ("observation.state.row_0", ...), and which digits they are as "observation.labels". The
    same `seed` gives the same fingerprint, and an interrupted build goes on. Raises `UserError` for files that are no such digits, when the
    disk is full, or where something else is at `path`.
    """
    path, began = Path(path), time.monotonic()
    plan = _plan(MOVING_DIGITS, frames, seed, episode_frames, split, val, test)
    known = drawn_digits() if digits is None else read_digits(digits)
    plan["digits"] = "fonts" if digits is None else known.digest
    finished = finished_store(path, plan)
    if finished is not None:
        return finished_summary(finished)
    names = [f"{MOVING_DIGITS} seed {seed}/{number:06d}" for number in range(-(-frames // episode_frames))]
    splits = assign_splits(names, split, val, test)
    with store_writer(path, plan, (SIZE, SIZE, 3)) as writer:
        kept = dict(writer.committed)
        done = sum(episode.length for episode in kept.values())
        with progress_bar("drawing", frames, "frames", done) as advance:
            for number, name in enumerate(names):
                if name not in kept:
                    length = min(episode_frames, frames - number * episode_frames)
                    drawn = drawn_episode(known, known.of_split(splits[name]), np.random.default_rng([seed, number]), length)
                    told: dict[str, Any] = {"source": MOVING_DIGITS, "task": MOVING_DIGITS, "frames_per_second": _MOVING_RATE}
                    writer.add(name, drawn.frames(), arrays=drawn.arrays, **told)
                    advance(length)
        return close_summary(writer, len(kept), [], began, lambda names: {name: splits[name] for name in names}, "squash")


def _plan(name: str, frames: int, seed: int, episode_frames: int, split: str, val: float, test: float) -> dict[str, Any]:
    """Return what makes a store of drawn frames; raise `UserError` for numbers that make none."""
    assign_splits([], split, val, test)
    if frames < 1 or episode_frames < 1 or seed < 0:
        raise UserError(f"{frames} frames in episodes of {episode_frames}, seed {seed}: give 1 or more of each, and a seed of 0 or more")
    return {"source": name, "frames": frames, "seed": seed, "episode_frames": episode_frames, "split": [split, val, test]}


def _arrays(scenes: Scenes) -> dict[str, np.ndarray]:
    return {MASKS: scenes.masks, FACTORS: scenes.factors}
