"""A store of drawn scenes: pictures without order, with masks and factors."""

import time
from functools import partial
from pathlib import Path

import numpy as np

from foundation.errors import UserError
from foundation.progress import progress_bar
from frames.building.build import BuildSummary, close_summary, finished_summary
from frames.curation.splits import BY_RECORDING, assign_splits
from frames.scenes.factors import FACTORS, META, factors_meta
from frames.scenes.multi_dsprites import MULTI_DSPRITES
from frames.scenes.scene import Scenes
from frames.scenes.tetrominoes import TETROMINOES
from frames.storage.format import MASKS
from frames.storage.writer import finished_store, store_writer

KINDS = {kind.name: kind for kind in (TETROMINOES, MULTI_DSPRITES)}
# scenes by themselves belong to no time
_RATE = 1.0


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
    assign_splits([], split, val, test)
    if frames < 1 or episode_frames < 1 or seed < 0:
        raise UserError(f"{frames} frames in episodes of {episode_frames}, seed {seed}: give 1 or more of each, and a seed of 0 or more")
    plan = {"source": name, "frames": frames, "seed": seed, "episode_frames": episode_frames, "split": [split, val, test]}
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


def _arrays(scenes: Scenes) -> dict[str, np.ndarray]:
    return {MASKS: scenes.masks, FACTORS: scenes.factors}
