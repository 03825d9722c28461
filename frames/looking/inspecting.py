"""Looking at a store: its figures, a contact sheet, and whether every byte is still what was written."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from foundation.errors import UserError
from foundation.pictures import in_rows, picture_grid, write_png
from foundation.progress import Advance, progress_bar
from frames.curation.cleaning import FROZEN, mean_change
from frames.storage import format
from frames.storage.format import SPLITS, Episode
from frames.store import FrameStore

_SAMPLE = 4096
_LOOKED_AT_ONCE = 256
_BLOCK_BYTES = 16 << 20
_MOST_THREADS = 4
_DARK = 25.5
_SHEET_COLUMNS = 12
_SHEET_ROWS = 12
_TABLE = "the episode table"


@dataclass(frozen=True)
class Look:
    """How frames look, from an even sample: shares in [0, 1], brightness in grey levels of 0 to 255.

    `dark`: below a tenth of white on average. `frozen`: within half a grey level of the frame before. `frames`: how many were looked at.
    """

    brightness: float
    dark: float
    frozen: float
    frames: int


def look(store: FrameStore, episodes: Sequence[Episode], sample: int = _SAMPLE) -> Look:
    """Measure the frames of some episodes, at most `sample` of them, evenly spread."""
    chosen = _spread(episodes, sample)
    levels, frozen, pairs, block = [], 0, 0, min(_LOOKED_AT_ONCE, frames_at_once(store))
    for at in range(0, len(chosen), block):
        indices = chosen[at : at + block]
        frames = store.frames(indices)
        levels.append(frames.mean(axis=(1, 2, 3)))
        moving = np.array([_has_neighbour(store.episode_at(int(index)), int(index)) for index in indices])
        before = store.frames(indices[moving] - 1)
        frozen += sum(mean_change(first, second) < FROZEN for first, second in zip(before, frames[moving], strict=True))
        pairs += len(before)
    brightness = np.concatenate(levels)
    return Look(float(brightness.mean()), float((brightness < _DARK).mean()), frozen / max(pairs, 1), len(chosen))


def contact_sheet(store: FrameStore, path: str | Path) -> None:
    """Write a PNG with a row of evenly spread frames for each of up to 12 episodes, evenly chosen from every split."""
    rows: list[np.ndarray] = []
    labels: list[str] = []
    scale = max(1, round(96 / store.frame_shape[0]))
    shown = [split for split in SPLITS if store.of_split(split)]
    for split in shown:
        episodes = store.of_split(split)
        for place in np.unique(np.linspace(0, len(episodes) - 1, max(1, _SHEET_ROWS // len(shown))).round().astype(int)):
            episode = episodes[place]
            spread = np.unique(np.linspace(0, episode.length - 1, _SHEET_COLUMNS).round().astype(np.int64))
            rows += in_rows(store.frames(episode.first + spread), _SHEET_COLUMNS)
            labels.append(f"{split}: {episode.name.encode('ascii', 'replace').decode()} ({episode.length:,} frames)")
    write_png(path, picture_grid(rows, labels, scale))


def verify(store: FrameStore) -> list[tuple[str, str]]:
    """Read everything, some episodes at a time, and compare the hashes; return (episode, what is wrong) of all that is damaged."""
    pool = ThreadPoolExecutor(min(_MOST_THREADS, os.cpu_count() or 1))
    with progress_bar("verifying", len(store), "frames") as advance:
        try:
            checks = [pool.submit(_damage, store, episode, advance) for episode in store.episodes]
            damaged = [(episode.name, reason) for episode, check in zip(store.episodes, checks, strict=True) for reason in check.result()]
        finally:
            pool.shutdown(cancel_futures=True)
    if format.fingerprint(store.episodes) != store.fingerprint:
        damaged.append((_TABLE, "does not fit the store's fingerprint"))
    if len(store) != store.meta["frames"]:
        damaged.append((_TABLE, f"counts {len(store):,} frames, the store {store.meta['frames']:,}"))
    return damaged


def _damage(store: FrameStore, episode: Episode, advance: Advance) -> list[str]:
    """Read an episode's frames, signatures and arrays; return what is not as it was written."""
    digest, damaged, block = format.new_digest(), [], frames_at_once(store)
    try:
        for at in range(0, episode.length, block):
            frames = store.frames(np.arange(at, min(at + block, episode.length)) + episode.first)
            digest.update(frames)
            advance(len(frames))
        if digest.hexdigest() != episode.content:
            damaged.append("its frames are not what was written")
        if format.content_hash([store.signatures(episode).tobytes()]) != episode.signatures:
            damaged.append("its signatures, which tell duplicates, are not what was written")
        for name, info in episode.arrays.items():
            if format.content_hash([store.array(episode, name).tobytes()]) != info.content:
                damaged.append(f"'{name}' is not what was written")
    except (UserError, ValueError) as error:
        damaged.append(str(error))
    return damaged


def frames_at_once(store: FrameStore) -> int:
    """How many frames to hold in memory while going through a store: 16 MiB of them, at least one."""
    return max(1, _BLOCK_BYTES // int(np.prod(store.frame_shape)))


def _spread(episodes: Sequence[Episode], most: int) -> np.ndarray:
    """Return the global indices of at most `most` frames, evenly spread over episodes; first frames, which follow none, are passed over."""
    firsts = np.array([episode.first + (episode.length > 1) for episode in episodes], np.int64)
    ends = np.cumsum([max(episode.length - 1, 1) for episode in episodes])
    chosen = np.linspace(0, ends[-1] - 1, min(most, int(ends[-1]))).round().astype(np.int64)
    at = np.searchsorted(ends, chosen, side="right")
    return firsts[at] + chosen - np.append(0, ends)[at]


def _has_neighbour(episode: Episode, index: int) -> bool:
    return episode.ordered and index > episode.first
